"""SQL of the book as a whole."""

from typing import Final

from msgspec import Struct

from service.domain.ledger import Book
from service.store.connection import Connection

BOOK_SUMS: Final = "SELECT book, count(*) AS entries, sum(amount)::bigint AS points FROM entry GROUP BY book ORDER BY book"


class BookSum(Struct, frozen=True, kw_only=True):
    """One side of the book: its entries and their sum."""

    book: Book
    entries: int
    points: int


async def sums(connection: Connection) -> list[BookSum]:
    """The sum of each side that has entries; together they are 0. Reads the whole ledger."""
    return [BookSum(book=Book(r["book"]), entries=r["entries"], points=r["points"]) for r in await connection.fetch(BOOK_SUMS)]
