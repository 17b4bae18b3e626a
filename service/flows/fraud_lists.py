"""Allow and block lists: who is added is hashed at once; every process follows a change with its next batch.

The audit says which account or which hash was listed, never a name or a raw value.
"""

import re
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from schemas.bounds import MAX_FREE_BYTES, MAX_FREE_DEPTH
from schemas.fraud_lists import ListedKind, ListEntryAnswer, ListEntryBody
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.evidence import depth
from service.domain.fraud.lists import ACCOUNT, MAX_ENTRIES, Entry
from service.domain.intake import keyed_hash
from service.flows import administer
from service.flows.administer import Change
from service.store import audit, balances
from service.store import fraud_lists as store
from service.store.connection import Connection

UNKNOWN: Final = "There is no such entry."
CONSUMER: Final = "consumer"
_HASH: Final = re.compile(r"h:[0-9a-f]{32}")
_KINDS: Final[dict[str, ListedKind]] = {ACCOUNT: CONSUMER, "device": "device", "payment": "payment", "address": "address", "ip": "ip"}
"""What is shown, by what is stored."""


async def add(
    connection: Connection, body: ListEntryBody, *, program: int, operator: int, hash_key: bytes, change: Change
) -> ListEntryAnswer:
    """List something. It counts for what is credited from the next batch of each process on.

    Raises InvalidRequest (the body; no such platform or consumer), InvalidState (it is listed already; the lists are full),
    Unavailable (the hash key is not known yet).
    """
    check(body)
    async with connection.transaction():
        # First, because an erasure changes that row, too: its person is unknown by then, or it waits, and forgets what is written here.
        now = await store.raise_version(connection)
        _check_until(body.until, now)
        kind, value = ACCOUNT, ""
        if body.kind == CONSUMER:
            value = str(await _account(connection, body, program))
        else:
            kind, value = body.kind, hash_of(body.value, hash_key)
        entry = Entry(list=body.list_, kind=kind, value=value, until=body.until)
        if await store.count(connection, program) >= MAX_ENTRIES:
            raise InvalidState(f"The lists have {MAX_ENTRIES} entries, which is as many as every process remembers: take some off.")
        number = await store.insert(connection, entry, program=program, reason=body.reason, added_by=operator)
        if number is None:
            found = await store.find(connection, program, kind=kind, value=value)
            raise InvalidState(f"It is listed already, by the entry {found}: take that off first.")
        await _record(connection, "fraud_list.add", number, entry, program, change)
        shown = await store.show(connection, program, number)
        assert shown is not None, "it was written in this transaction"
    return answer(shown, names=True)


def check(body: ListEntryBody) -> None:
    """Whether a body names one thing, in the way of its kind. Raises InvalidRequest."""
    if body.kind == CONSUMER:
        for name, given in (("platform", body.platform), ("consumer", body.consumer)):
            if given is None:
                raise InvalidRequest.at(f"/{name}", "is missing: a consumer is named by platform and consumer")
        if body.value is not UNSET:
            raise InvalidRequest.at("/value", "is not for consumers, who are named by platform and consumer")
        return
    for name, given in (("platform", body.platform), ("consumer", body.consumer)):
        if given is not None:
            raise InvalidRequest.at(f"/{name}", "is for consumers only")
    if body.value is UNSET or body.value is None or body.value in ("", [], {}):
        raise InvalidRequest.at("/value", "is missing or empty")
    as_carried = {"a": body.value}
    if depth(as_carried, MAX_FREE_DEPTH + 1) > MAX_FREE_DEPTH:
        raise InvalidRequest.at("/value", "is nested deeper than attributes of an event may be")
    if len(msgspec.json.encode(as_carried)) > MAX_FREE_BYTES:
        raise InvalidRequest.at("/value", "is larger than attributes of an event may be")


def hash_of(value: Any | UnsetType, hash_key: bytes) -> str:  # noqa: ANN401 - any JSON value
    """The keyed hash of a raw value; what is a hash already is itself. Raises Unavailable while the key is not known."""
    return value if isinstance(value, str) and _HASH.fullmatch(value) else keyed_hash(value, hash_key)


def _check_until(until: datetime | None, now: datetime) -> None:
    if until is not None and until <= now:
        raise InvalidRequest.at("/until", "is over already")


async def _account(connection: Connection, body: ListEntryBody, program: int) -> int:
    assert body.platform is not None and body.consumer is not None, "checked before"  # noqa: PT018 - for the type checker
    try:
        platform = await administer.find_platform(connection, program=program, code=body.platform)
    except NotFound:
        raise InvalidRequest.at("/platform", "is not a platform of this program") from None
    account = await balances.find_account(connection, platform.id, body.consumer)
    if account is None:
        raise InvalidRequest.at("/consumer", "is not known to this platform")
    return account


async def remove(connection: Connection, number: int, *, program: int, change: Change) -> None:
    """Take an entry off; a repeat changes nothing. Raises NotFound."""
    async with connection.transaction():
        if await store.show(connection, program, number) is None:
            raise NotFound(UNKNOWN)
        await store.raise_version(connection)
        entry = await store.remove(connection, program, number)
        if entry is not None:
            await _record(connection, "fraud_list.remove", number, entry, program, change)


async def _record(connection: Connection, action: str, number: int, entry: Entry, program: int, change: Change) -> None:
    after = {"list": entry.list, "kind": _KINDS[entry.kind], "value": entry.value, "until": entry.until}
    await audit.record(
        connection, program=program, actor=change.actor, action=action, subject=f"fraud_list:{number}", after=after,
        request_id=change.request_id,
    )  # fmt: skip


async def page(
    connection: Connection, *, program: int, before: int, list_: str | None, kind: ListedKind | None, status: str | None, limit: int,
    names: bool,
) -> list[tuple[int, ListEntryAnswer]]:  # fmt: skip
    """At most `limit` entries with numbers below `before`, newest first, each with its number. `names`: with those of persons."""
    stored = ACCOUNT if kind == CONSUMER else kind
    found = await store.page(connection, program, before=before, list_=list_, kind=stored, status=status, limit=limit)
    return [(entry.number, answer(entry, names=names)) for entry in found]


def answer(entry: store.Listed, *, names: bool) -> ListEntryAnswer:
    """As it is shown; without `names` nobody is named."""
    is_account = entry.kind == ACCOUNT
    return ListEntryAnswer(
        id=str(entry.number), list_=entry.list, kind=_KINDS[entry.kind], platform=entry.platform if names else None,
        consumer=entry.consumer if names else None, account=entry.value if is_account else None, value=None if is_account else entry.value,
        reason=entry.reason, until=entry.until, status=entry.status,
        added_by=None if entry.added_by is None else f"operator:{entry.added_by}", added_at=entry.added_at, removed_at=entry.removed_at,
    )  # fmt: skip
