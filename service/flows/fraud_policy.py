"""What a program decides about holds: read, and replaced as a whole. It counts for what is held from then on."""

from msgspec.structs import asdict, replace

from schemas.fraud_policy import FraudPolicyAnswer, FraudPolicyBody
from service.domain import preconditions
from service.domain.fraud_policy import duration_text, hold_for_of
from service.flows.administer import Change
from service.store import audit, locks
from service.store import fraud_policy as store
from service.store.connection import Connection
from service.store.fraud_policy import Policy


async def read(conn: Connection, *, program: int) -> FraudPolicyAnswer:
    """The policy in force."""
    return _answer(await store.policy(conn, program))


async def change(
    conn: Connection, body: FraudPolicyBody, *, program: int, change: Change, if_match: str | None = None
) -> FraudPolicyAnswer:
    """Replace the policy; the same again changes nothing. Raises InvalidRequest, PreconditionFailed."""
    hold_for = hold_for_of(body.hold_for)
    async with conn.transaction():
        await locks.lock_fraud_settings(conn, program)
        before = await store.policy(conn, program)
        preconditions.check(if_match, tag_of(_answer(before)))
        after = Policy(
            hold_for=hold_for, at_deadline=body.at_deadline, alone_points=body.alone_points, reviews_a_day=body.reviews_a_day,
            version=before.version,
        )  # fmt: skip
        if after == before:
            return _answer(before)
        after = replace(after, version=before.version + 1)
        await store.save(conn, program, after)
        await audit.record(
            conn, program=program, actor=change.actor, action="fraud_policy.change", subject="program",
            before=asdict(_answer(before)), after=asdict(_answer(after)), request_id=change.request_id,
        )  # fmt: skip
        return _answer(after)


def tag_of(policy: FraudPolicyAnswer) -> str:
    """The strong entity tag of a policy: another one after every change."""
    return f'"{policy.version}"'


def _answer(policy: Policy) -> FraudPolicyAnswer:
    return FraudPolicyAnswer(
        hold_for=duration_text(policy.hold_for), at_deadline=policy.at_deadline, alone_points=policy.alone_points,
        reviews_a_day=policy.reviews_a_day, version=policy.version,
    )  # fmt: skip
