"""Public-welfare causes: made and changed by operators, shown with what was given to them, and counted by redemptions."""

from typing import Any, Final

import msgspec
from msgspec import UNSET

from schemas.causes import CauseAnswer, CauseBody, CausePatch
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.flows.administer import BY_COMMAND, Change
from service.store import audit
from service.store import causes as store
from service.store.connection import Connection

_FIELDS: Final = ("name", "description", "url", "active")

# Redemptions ----------------------------------------------------------------------------------------------


async def cause_of(connection: Connection, *, program: int, code: str) -> int:
    """The number of a cause that takes points: column `cause` of the redemption.

    Raises InvalidRequest (there is none), InvalidState (it takes no more).
    """
    found = await store.find(connection, program=program, code=code) if _is_code(code) else None
    if found is None:
        raise InvalidRequest.at("/cause", "There is no such cause")
    number, active = found
    if not active:
        raise InvalidState("The cause takes no more points.")
    return number


async def count(connection: Connection, *, cause: int, points: int, donations: int, stripe: int) -> None:
    """Add to what was given to a cause, in the transaction that gives it, after its entries.

    A donation is one captured redemption: `points`, 1. A refund takes off what it gives back, and the donation when nothing is left of it:
    `-points`, -1 or 0. `stripe`: which of the cause's rows to write; another one for each process.
    """
    await store.count(connection, cause=cause, points=points, donations=donations, stripe=stripe)


# Operators ------------------------------------------------------------------------------------------------


async def create_cause(conn: Connection, body: CauseBody, *, program: int, change: Change = BY_COMMAND) -> CauseAnswer:
    """A new cause. Raises InvalidState (the code is taken)."""
    async with conn.transaction():
        if not await store.insert(
            conn, program=program, code=body.code, name=body.name, description=body.description, url=body.url, active=body.active
        ):
            raise InvalidState(f"There is a cause {body.code!r} already.")
        await _record(conn, program, change, "cause.create", body.code, after=msgspec.to_builtins(body))
        return await read_cause(conn, body.code, program=program)


async def change_cause(conn: Connection, code: str, patch: CausePatch, *, program: int, change: Change = BY_COMMAND) -> CauseAnswer:
    """Change what the patch names. Its code stays, and what was given. Raises NotFound."""
    async with conn.transaction():
        if not _is_code(code) or not await store.for_change(conn, program=program, code=code):
            raise NotFound("There is no such cause.")
        before = await read_cause(conn, code, program=program)
        given = {name: value for name in _FIELDS if (value := getattr(patch, name)) is not UNSET}
        old = {name: getattr(before, name) for name in _FIELDS}
        if old | given == old:
            return before
        await store.update(conn, program=program, code=code, **(old | given))
        await _record(conn, program, change, "cause.change", code, before={name: old[name] for name in given}, after=given)
        return await read_cause(conn, code, program=program)


async def read_cause(conn: Connection, code: str, *, program: int) -> CauseAnswer:
    """One cause with what was given to it. Raises NotFound."""
    row = await store.get(conn, program=program, code=code) if _is_code(code) else None
    if row is None:
        raise NotFound("There is no such cause.")
    return _answer(row, full=True)


async def causes_page(conn: Connection, *, program: int, after: str, full: bool, limit: int) -> list[CauseAnswer]:
    """At most `limit` causes with codes above `after`. Not `full`: those that take points, as everybody sees them."""
    rows = await store.page(conn, program=program, after=after, only_active=not full, limit=limit)
    return [_answer(row, full=full) for row in rows]


def _answer(row: store.CauseRow, *, full: bool) -> CauseAnswer:
    return CauseAnswer(
        code=row.code, name=row.name, description=row.description, url=row.url, points=row.points, donations=row.donations,
        active=row.active if full else UNSET, created_at=row.created_at if full else UNSET,
    )  # fmt: skip


def _is_code(text: str) -> bool:
    """Whether it can be in the table: text of PostgreSQL holds no NUL."""
    return text.isascii() and text.isprintable()


async def _record(
    conn: Connection, program: int, change: Change, action: str, code: str, *, after: dict[str, Any], before: dict[str, Any] | None = None
) -> None:
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=f"cause:{code}", before=before, after=after,
        request_id=change.request_id,
    )  # fmt: skip
