"""Events as they are now: the stored decision with today's status, points and balance."""

from collections.abc import Mapping, Sequence

import msgspec
from asyncpg import Record
from msgspec import UNSET

from schemas.consumers import ActivityItem
from schemas.events import Balance, EventAnswer
from service.domain.keys import platform_key
from service.domain.ledger import Kind
from service.flows.reviews import review_of
from service.store import balances, transfers, warnings
from service.store import events as store
from service.store import openings as store_openings
from service.store.connection import Connection

MAX_SCANNED_PAGES = 10
"""Pages that one answer looks through for a status; beyond that it is shorter and its cursor goes on."""
NEWEST = 2**63 - 1
IMPORTED = "balance.imported"
"""What activity and exports call points that were taken over."""
IMPORTED_REASON = "Points were taken over from another system"
EXPIRING = "points.expiring"
TRANSFERS = {
    Kind.RESERVE: ("redemption.reserved", "Points were reserved"),
    Kind.CAPTURE: ("redemption.captured", "Points were spent"),
    Kind.RELEASE: ("redemption.released", "Reserved points came back"),
    Kind.REFUND: ("redemption.refunded", "Spent points came back"),
    Kind.EXPIRE: ("points.expired", "Points expired"),
    Kind.ADJUST: ("points.adjusted", "Points were corrected"),
    Kind.TRANSFER: ("points.transferred", "Points went from one consumer to another"),
    Kind.LINK: ("account.linked", "Accounts of one person were linked or split"),
}
"""What activity calls a transfer of a kind, and its words where it has none of its own."""
_answers = msgspec.json.Decoder(EventAnswer)

_FOR_OTHERS = frozenset({"packaging.returned", "packaging.reassigned", "event.error_declared"})
"""What a platform reports that may count for a consumer of another."""
_REASONS = {
    "order.cancelled": "An order was cancelled",
    "order.refunded": "An order was refunded",
    "order.fulfilled": "An order was sent in green packaging",
    "packaging.returned": "Packaging was returned",
    "activity.completed": "A green activity was completed",
    "order.paid": "Green goods were bought",
    "event.error_declared": "An earlier report was declared wrong",
    "packaging.reassigned": "A report about packaging was added or declared wrong",
}


async def find_event(connection: Connection, *, platform: int, program: int, id: str) -> EventAnswer | None:  # noqa: A002 - the event's field
    """A platform's event by its id, with its status, awards and balance as they are now."""
    event = await store.find(connection, platform=platform, program=program, key=platform_key(platform, id))
    if event is None:
        return None
    return _current(event, await _balances(connection, platform, [event]))


async def list_events(
    connection: Connection, *, platform: int, program: int, reference: str | None, status: str | None, before: int, limit: int
) -> tuple[list[EventAnswer], int | None]:
    """A platform's events, newest first, and the position after them (None: there are no more)."""
    account = None
    if reference is not None:
        account = await balances.find_account(connection, platform, reference)
        if account is None and status != "parked":
            return [], None
    found: list[store.StoredEvent] = []
    for _ in range(MAX_SCANNED_PAGES):
        rows = await _page(connection, platform=platform, program=program, account=account, status=status, before=before, limit=limit + 1)
        more = len(rows) > limit
        rows = rows[:limit]
        found += [row for row in rows if status is None or row.status == status]
        if not more or len(found) >= limit:
            break
        before = rows[-1].number
    shown = found[:limit]
    position = before if not shown else shown[-1].number
    current = await _balances(connection, platform, shown)
    answers = [_current(event, current) for event in shown]
    return answers, position if more or len(found) > limit else None


async def _balances(connection: Connection, platform: int, events: Sequence[store.StoredEvent]) -> dict[int, Balance]:
    """Balances by account, but of a return that counted for a consumer of another platform: that is not the platform's to see."""
    foreign = {e.account for e in events if e.type in _FOR_OTHERS}
    if foreign:
        foreign -= await balances.known_accounts(connection, platform, sorted(foreign))
    return dict(await balances.balances(connection, sorted({e.account for e in events if e.account} - foreign)))


async def _page(
    connection: Connection, *, platform: int, program: int, account: int | None, status: str | None, before: int, limit: int
) -> list[store.StoredEvent]:
    """Events and parked facts, merged, newest first."""
    rows: list[store.StoredEvent] = []
    if status != "parked":
        rows += await store.page(connection, platform=platform, before=before, account=account, limit=limit)
    if account is None and status in (None, "parked", "ignored"):
        rows += await store.parked_page(connection, program=program, platform=platform, before=before, limit=limit)
    return sorted(rows, key=lambda row: -row.number)[:limit]


async def activity(connection: Connection, account: int, *, before: int, limit: int) -> tuple[list[ActivityItem], int | None]:
    """What happened on an account, newest first, and the position after it (None: there is no more)."""
    events = await store.activity(connection, account, before=before, limit=limit + 1)
    openings = await store_openings.page(connection, account, before=before, limit=limit + 1)
    found = [
        (
            e.number,
            ActivityItem(
                at=e.received_at, kind=e.type, points=e.points, status=e.status, reason=_reason(e), event=e.id, review=review_of(e.review)
            ),
        )
        for e in events
    ]  # fmt: skip
    found += [(o.number, ActivityItem(at=o.at, kind=IMPORTED, points=o.points, status="settled", reason=IMPORTED_REASON)) for o in openings]
    found += [(t.number, _transferred(t)) for t in await transfers.page(connection, account, before=before, limit=limit + 1)]
    found += [(w["number"], _expiring(w)) for w in await warnings.of_account(connection, account, before=before, limit=limit + 1)]
    found.sort(key=lambda one: -one[0])
    return [item for _, item in found[:limit]], found[limit - 1][0] if len(found) > limit else None


def _transferred(transfer: transfers.StoredTransfer) -> ActivityItem:
    kind, words = TRANSFERS[transfer.kind]
    return ActivityItem(
        at=transfer.at, kind=kind, points=transfer.points, status="settled", reason=transfer.reason or words, redemption=transfer.redemption
    )


def _expiring(warning: Record) -> ActivityItem:
    """A warning changes nothing, hence no points: how many it is about stands in its words."""
    points = warning["points"]
    reason = f"{points} point{'s' * (points != 1)} can be spent until {warning['expires_on']}"
    return ActivityItem(at=warning["at"], kind=EXPIRING, points=0, status="announced", reason=reason)


def _current(event: store.StoredEvent, known: Mapping[int, Balance]) -> EventAnswer:
    """The stored answer, brought up to date; of whoever the platform does not know without balance and review."""
    balance = known.get(event.account, Balance())
    review = review_of(event.review) if event.account in known else UNSET
    answer = msgspec.structs.replace(_answers.decode(event.answer), review=review)
    if event.status in ("parked", "ignored") and event.kept is None:
        return msgspec.structs.replace(answer, status=event.status, balance=balance)
    awards = answer.awards
    if event.kept is not None:
        own = [award for award in awards if award.points > 0]
        awards = [msgspec.structs.replace(award, points=kept) for award, kept in zip(own, event.kept, strict=True)]
    return msgspec.structs.replace(answer, status=event.status, awards=awards, points=sum(a.points for a in awards), balance=balance)


def _reason(event: store.StoredEvent) -> str:
    """Why, in words that a person can read."""
    answer = _answers.decode(event.answer)
    reasons = list(dict.fromkeys(award.reason for award in answer.awards))
    if reasons:
        return "; ".join(reasons[:5])
    refused = answer.refused[0].detail if answer.refused else "nothing here earns points"
    return f"{_REASONS[event.type]}: {refused}"
