"""Refusals as RFC 9457 problem documents: the one table of codes, statuses and titles (CONTRACT §3.2)."""

from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException
from msgspec import UNSET

from schemas.problems import Problem
from service.api import refusals
from service.domain.errors import CallerRefused, GreenpointsError
from service.domain.pointers import unquoted
from service.domain.secrets import ACCESS_TOKEN_PREFIX, OPERATOR_TOKEN_PREFIX, PLATFORM_KEY_PREFIX, STATION_KEY_PREFIX
from service.telemetry import metrics, tallies

PROBLEM_JSON = "application/problem+json"

# code -> (status, title)
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed_json": (400, "The body is not valid JSON"),
    "idempotency_key_missing": (400, "The Idempotency-Key header is missing"),
    "unauthenticated": (401, "Authentication is missing or not valid"),
    "forbidden": (403, "Not allowed for this caller"),
    "not_found": (404, "Not found"),
    "method_not_allowed": (405, "Method not allowed"),
    "id_reused": (409, "The id was used before with different content"),
    "insufficient_points": (409, "Not enough points"),
    "invalid_state": (409, "Its state does not allow this"),
    "idempotency_key_in_use": (409, "The first request with this Idempotency-Key is still running"),
    "precondition_failed": (412, "It was changed meanwhile"),
    "payload_too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "Unsupported media type"),
    "invalid_request": (422, "The request is not valid"),
    "consumer_erased": (422, "The consumer was erased"),
    "idempotency_key_reused": (422, "The Idempotency-Key was used before with another request"),
    "rate_limited": (429, "Too many requests"),
    "internal": (500, "Internal error"),
    "overloaded": (503, "Overloaded"),
    "unavailable": (503, "Temporarily unavailable"),
}
_BY_STATUS = {
    400: "malformed_json", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
    413: "payload_too_large", 415: "unsupported_media_type", 422: "invalid_request", 429: "rate_limited",
}  # fmt: skip

log = structlog.get_logger("greenpoints.api")


def problem_of(error: GreenpointsError) -> Problem:
    """The document for a refusal."""
    status, title = PROBLEMS[error.code]
    return Problem(
        type=f"/problems/{error.code}", title=title, status=status, detail=error.detail, code=error.code, errors=error.errors or UNSET
    )


def headers_of_problem(error: GreenpointsError, status: int) -> dict[str, str]:
    """What a refusal's answer has beside its document: 429 and 503 carry Retry-After, 401 names the scheme."""
    if status in (429, 503):
        return {"Retry-After": str(error.retry_after_s)}
    return {"WWW-Authenticate": "Bearer"} if status == 401 else {}


def encoded_problem(error: GreenpointsError) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The document and its headers as ASGI sends them."""
    problem = problem_of(error)
    body = msgspec.json.encode(problem)
    headers = {"Content-Type": PROBLEM_JSON, **headers_of_problem(error, problem.status)}
    return body, [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def problem_response(error: GreenpointsError) -> Response[bytes]:
    """The answer for a refusal."""
    problem = problem_of(error)
    headers = headers_of_problem(error, problem.status)
    return Response(content=msgspec.json.encode(problem), status_code=problem.status, media_type=PROBLEM_JSON, headers=headers)


def on_refusal(request: Request[Any, Any, Any], error: GreenpointsError) -> Response[bytes]:
    """A refusal of ours; who was not let in is counted and logged."""
    if isinstance(error, CallerRefused):
        refusals.note(error)
    if error.code in ("unauthenticated", "forbidden"):
        kind = _shown(request.scope["path"], request.headers.get("authorization"))
        tallies.count(metrics.AUTHENTICATION_REFUSALS, kind, error.code).add()
    return problem_response(error)


def _shown(path: str, authorization: str | None) -> str:
    """What kind of proof a refused caller showed, whether it proves anything or not."""
    if path.startswith("/v1/hooks/"):
        return "signature"
    if authorization is None:
        return "nothing"
    token = authorization.partition(" ")[2]
    if token.startswith(PLATFORM_KEY_PREFIX):
        return "api_key"
    if token.startswith(ACCESS_TOKEN_PREFIX):
        return "access_token"
    if token.startswith(STATION_KEY_PREFIX):
        return "station_key"
    if token.startswith(OPERATOR_TOKEN_PREFIX):
        return "operator_token"
    return "consumer_token" if token.count(".") == 2 else "other"


def on_http_exception(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """A refusal of the framework: unknown route, wrong method, a parameter that does not parse."""
    code = _BY_STATUS.get(error.status_code, "internal" if error.status_code >= 500 else "invalid_request")
    if error.status_code == 400:
        code = "invalid_request"  # the framework's 400 is a query or path parameter out of range
    refusal = _Framework(_detail(error, code))
    refusal.code = code  # type: ignore[misc]
    return problem_response(refusal)


def on_defect(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A defect of ours: logged with its trace, answered without one."""
    log.error("unhandled error", exc_info=error)
    return problem_response(GreenpointsError("Something went wrong on our side; it has been logged."))


class _Framework(GreenpointsError):
    """Carries a code that is known only when the framework refuses."""


def _detail(error: HTTPException, code: str) -> str:
    if code == "not_found":
        return "There is nothing at this address."
    if code == "invalid_request" and isinstance(error.extra, list) and error.extra:
        return "; ".join(f"{e.get('key', '')}: {unquoted(str(e.get('message', '')))}" for e in error.extra if isinstance(e, dict))
    return PROBLEMS[code][1] + "."
