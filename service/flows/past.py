"""What was: a balance at a moment and the lines of a book, from PostgreSQL alone."""

from datetime import UTC, datetime
from enum import IntEnum

from schemas.consumers import BooksAfter, LedgerLine, PastBalance
from service.domain.errors import InvalidRequest
from service.domain.ledger import Book, Kind
from service.store import past as store
from service.store.connection import Connection


async def refuse_future(connection: Connection, as_of: datetime) -> None:
    """Raises InvalidRequest for a time that PostgreSQL's clock has not reached."""
    if as_of > await store.now(connection):
        raise InvalidRequest.at("/as_of", "must not be in the future")


async def balance_at(connection: Connection, account: int | None, consumer: str, as_of: datetime) -> PastBalance:
    """What a balance was. `account` None: of somebody unknown, who has nothing. Raises InvalidRequest (the time is to come)."""
    await refuse_future(connection, as_of)
    if account is None:
        return PastBalance(consumer=consumer, pending=0, reserved=0, available=0, debt=0, version=0, as_of=as_of)
    b = await store.balance_at(connection, account, as_of)
    return PastBalance(
        consumer=consumer, pending=b.pending, reserved=b.reserved, available=b.available, debt=b.debt, version=b.version,
        as_of=as_of.astimezone(UTC),
    )  # fmt: skip


async def entries(
    connection: Connection, account: int, *, as_of: datetime | None, after: int, limit: int
) -> tuple[list[LedgerLine], int | None]:
    """Lines of the book in their sequence, and the position after them (None: there are no more). Raises InvalidRequest."""
    if as_of is not None:
        await refuse_future(connection, as_of)
    lines = await store.entries(connection, account, at=as_of, after=after, limit=limit + 1)
    items = [
        LedgerLine(
            seq=line.seq, at=line.at, kind=name_of(Kind, line.kind), book=name_of(Book, line.book), amount=line.amount,
            balance=BooksAfter(available=line.available, reserved=line.reserved, debt=line.debt), version=line.version,
            event=line.event, campaign=line.campaign,
        )
        for line in lines[:limit]
    ]  # fmt: skip
    return items, items[-1].seq if len(lines) > limit else None


def name_of(names: type[IntEnum], number: int) -> str:
    """`settle`, `available`: how a kind or a book is called outside."""
    try:
        return names(number).name.lower()
    except ValueError:
        return f"other-{number}"
