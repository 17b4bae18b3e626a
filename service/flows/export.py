"""Export: everything there is, in one snapshot, page by page."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Protocol

from service.domain.errors import InvalidRequest
from service.store import exports as store
from service.store.connection import Connection
from service.store.exports import COLUMNS, SUMMED, Selection, Snapshot, What

PAGE_ROWS: Final = 5_000

Page = list[tuple[Any, ...]]
Tell = Callable[[What, int, int], None]
"""Called with what is exported, the rows written, and about how many there are (0: unknown)."""


class Sink(Protocol):
    """Where rows go: a file of some format."""

    def write(self, page: Page) -> None:
        """Append rows; the values are in the order of COLUMNS."""


class Exported:
    """What one file holds: its rows and the sums of its columns of points."""

    def __init__(self, what: What) -> None:
        self.what = what
        self.rows = 0
        self.sums = dict.fromkeys(SUMMED[what], 0)
        self._places = [list(COLUMNS[what]).index(name) for name in SUMMED[what]]

    def count(self, page: Page) -> None:
        """Add a page."""
        self.rows += len(page)
        for name, place in zip(self.sums, self._places, strict=True):
            self.sums[name] += sum(row[place] for row in page)


async def export(
    connection: Connection, sinks: Sequence[tuple[What, Sink]], selection: Selection, *, tell: Tell
) -> tuple[Snapshot, list[Exported]]:
    """Write each to its sink, all from one snapshot. Changes nothing; what goes on meanwhile is not in it.

    Raises InvalidRequest (`as_of` is to come), what PostgreSQL raises, and what the sinks raise.
    """
    done = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        snapshot = await store.begin(connection)
        if selection.as_of is not None and selection.as_of > snapshot.at:
            raise InvalidRequest("The time to export as of must not be in the future.")
        for what, sink in sinks:
            exported, about = Exported(what), await store.estimate(connection, what)
            async for page in _pages(store.rows(connection, what, selection)):
                sink.write(page)
                exported.count(page)
                tell(what, exported.rows, about)
            done.append(exported)
    return snapshot, done


async def _pages(rows: AsyncIterator[Any]) -> AsyncIterator[Page]:
    page: Page = []
    async for row in rows:
        page.append(tuple(row))
        if len(page) == PAGE_ROWS:
            yield page
            page = []
    if page:
        yield page
