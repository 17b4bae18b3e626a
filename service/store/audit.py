"""Who changed what: one row per change, in the transaction of the change."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from service.store.connection import Connection

RECORD = """
INSERT INTO audit (program, actor, action, subject, before, after, request_id)
VALUES ($1, $2, $3, $4, $5::jsonb, $6::jsonb, $7)
"""


async def record(
    conn: Connection,
    *,
    program: int | None,
    actor: str,
    action: str,
    subject: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    request_id: str | None = None,
) -> None:
    """Write one row: `actor` is `operator:7`, `platform:demo-shop` or `command`, `action` e.g. `campaign.activate`.

    Call it inside the transaction that makes the change; `before` and `after` must hold no secret and no person.
    """
    await conn.execute(RECORD, program, actor, action, subject, _json(before), _json(after), request_id)


class AuditRow(Struct, frozen=True, kw_only=True):
    """One recorded change."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    before: Any
    after: Any
    request_id: str | None


class Search(Struct, frozen=True, kw_only=True):
    """Which changes: all that is given must fit; `from_` is included, `to` is not. `everywhere`: also those of no program."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    request_id: str | None = None
    from_: datetime | None = None
    to: datetime | None = None
    everywhere: bool = False


# By program: its own changes and no others, but for the deployment's, which operators of every program see. Newest first.
PAGE = """
SELECT id, at, actor, action, subject, before, after, request_id
  FROM audit
 WHERE (program = $1 OR ($2 AND program IS NULL)) AND id < $3 AND ($4::text IS NULL OR actor = $4) AND ($5::text IS NULL OR action = $5)
   AND ($6::text IS NULL OR subject = $6) AND ($7::text IS NULL OR request_id = $7) AND ($8::timestamptz IS NULL OR at >= $8)
   AND ($9::timestamptz IS NULL OR at < $9)
 ORDER BY id DESC
 LIMIT $10
"""


async def page(conn: Connection, search: Search, *, program: int, before_id: int, limit: int) -> list[AuditRow]:
    """At most `limit` changes of a program with ids below `before_id`, newest first."""
    rows = await conn.fetch(
        PAGE, program, search.everywhere, before_id, search.actor, search.action, search.subject, search.request_id,
        search.from_, search.to, limit,
    )  # fmt: skip
    return [AuditRow(**(dict(row) | {"before": _value(row["before"]), "after": _value(row["after"])})) for row in rows]


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else msgspec.json.encode(_without_nul(msgspec.to_builtins(value))).decode()


def _without_nul(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The value as jsonb can hold it: every character but U+0000."""
    match value:
        case str():
            return value.replace("\x00", "\ufffd")
        case list():
            return [_without_nul(item) for item in value]
        case dict():
            return {_without_nul(name): _without_nul(item) for name, item in value.items()}
    return value


def _value(text: str | None) -> Any:  # noqa: ANN401 - whatever was recorded
    return None if text is None else msgspec.json.decode(text)
