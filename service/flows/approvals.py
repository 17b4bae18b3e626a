"""Approve one held event: it settles when its hold ends, as if nobody had held it."""

from service import failpoints
from service.domain.errors import InvalidState
from service.store import purses, reviews
from service.store.connection import Connection


async def approve_event(connection: Connection, bucket: int, event: int, operator: int) -> bool:
    """Let a held event go, as a decision of this operator alone; False: it is not held (any more), and nothing changes.

    Call it inside a transaction that shares the catalogue; it locks the account, then the case. A case with nothing left to decide is
    closed, and tuning learns that the event was none. Raises Moved (see `purses.lock`), InvalidState (more points than one may decide
    alone; a decision about it waits for a second operator, or is being carried out).
    """
    found = await reviews.by_number(connection, bucket=bucket, event=event)
    if found is None:
        return False
    await purses.lock(connection, [found.account])
    alone_points = await reviews.lock_case(connection, found.fraud_case)
    held = await reviews.lock(connection, bucket=bucket, event=event)
    if held is None or held.state != "held":
        return False
    if held.decided:
        raise InvalidState("This event has been decided, and that is being carried out; try again in a moment.")
    if held.points > alone_points:
        raise InvalidState(f"These are more than the {alone_points:,} points that one operator decides alone: decide its case first.")
    if await reviews.is_proposed(connection, fraud_case=held.fraud_case, event=event):
        raise InvalidState("A decision about this event waits for a second operator: decide its case first.")
    await reviews.approve(connection, bucket=bucket, event=event, operator=operator)
    failpoints.at("approvals.approved")
    await reviews.label_honest(connection, bucket=bucket, event=event)
    failpoints.at("approvals.labelled")
    return True
