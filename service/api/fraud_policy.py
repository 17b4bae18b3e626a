"""What a program decides about events that are held: for operators (docs/fraud-models.md)."""

from typing import Any, Final

from litestar import Request, Response, get, put

from schemas.fraud_policy import FraudPolicyAnswer, FraudPolicyBody
from service.api.bodies import decode_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.conditions import IfMatch, if_match_of
from service.api.database import connection
from service.domain.roles import MAY
from service.flows import fraud_policy as flow

TAGS: Final = ["Fraud models"]

AnyRequest = Request[Any, Any, Any]


@get("/v1/fraud/policy", tags=TAGS, opt={"answer": FraudPolicyAnswer})
async def read_fraud_policy(request: AnyRequest) -> Response[FraudPolicyAnswer]:
    """Read how long somebody has to decide about a held event, what comes then, and what one operator decides alone."""
    caller = await callers_of(request).operator(request, *MAY["fraud-models:read"])
    async with connection(request) as conn:
        return _tagged(await flow.read(conn, program=caller.program))


@put("/v1/fraud/policy", tags=TAGS, opt={"body": FraudPolicyBody, "answer": FraudPolicyAnswer})
async def change_fraud_policy(request: AnyRequest, if_match: IfMatch = None) -> Response[FraudPolicyAnswer]:  # noqa: ARG001
    """Replace the policy. It counts for what is held from now on; what is held keeps its deadline and what comes then."""
    caller = await callers_of(request).operator(request, *MAY["fraud-policy:write"])
    body = await decode_body(request, FraudPolicyBody)
    async with connection(request) as conn:
        saved = await flow.change(conn, body, program=caller.program, change=change_by(caller), if_match=if_match_of(request))
    return _tagged(saved)


def _tagged(policy: FraudPolicyAnswer) -> Response[FraudPolicyAnswer]:
    return Response(policy, headers={"ETag": flow.tag_of(policy)})


routes = [read_fraud_policy, change_fraud_policy]
