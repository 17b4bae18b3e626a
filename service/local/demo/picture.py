"""What happened, as tables with bars; readable without colour."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from service.store.book import BookSum

BAR_CHARS = 16
BLOCKS = " ▏▎▍▌▋▊▉█"
BOOK_WORDS = {
    "AVAILABLE": "points that consumers can spend",
    "RESERVED": "points set aside for a redemption",
    "DEBT": "points that consumers owe",
    "ISSUANCE": "the other side: what the program issued",
}


def bar(value: int, largest: int, *, chars: int = BAR_CHARS) -> str:
    """A bar of at most `chars` characters, in eighths of one."""
    eighths = 0 if largest <= 0 else round(value * chars * 8 / largest)
    return "█" * (eighths // 8) + BLOCKS[eighths % 8].strip()


def show_balances(console: Console, balances: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Consumers with what they have."""
    table = _table("Balances")
    table.add_column("consumer")
    for name in ("pending", "available", "debt"):
        table.add_column(name, justify="right", min_width=len(name))
    table.add_column("", style="green", no_wrap=True)
    largest = max(balance["available"] + balance["pending"] for _, balance in balances)
    for consumer, b in balances:
        points = bar(b["available"] + b["pending"], largest)
        table.add_row(consumer, f"{b['pending']:,}", f"{b['available']:,}", f"{b['debt']:,}", points)
    console.print(table)


def show_campaigns(console: Console, statistics: Sequence[dict[str, Any]]) -> None:
    """Points by campaign. Issued is before reversals; of what is not reversed a part may be pending, the rest settled."""
    table = _table("Campaigns")
    table.add_column("campaign", no_wrap=True)
    for name in ("people", "issued", "pending", "settled", "reversed"):
        table.add_column(name, justify="right", min_width=len(name))
    table.add_column("", style="green", no_wrap=True)
    largest = max(campaign["totals"]["points_issued"] for campaign in statistics)
    for campaign in statistics:
        t = campaign["totals"]
        figures = (t["consumers"], t["points_issued"], t["points_pending"], t["points_settled"], t["points_reversed"])
        table.add_row(campaign["code"], *(f"{figure:,}" for figure in figures), bar(t["points_issued"], largest, chars=BAR_CHARS // 2))
    console.print(table)


def show_book(console: Console, sums: Sequence[BookSum]) -> None:
    """The double-entry ledger: both sides cancel out."""
    table = _table("The ledger", show_footer=True)
    table.add_column("book", footer="sum")
    table.add_column("what it is")
    table.add_column("entries", justify="right", footer=f"{sum(s.entries for s in sums):,}")
    table.add_column("points", justify="right", footer=f"{sum(s.points for s in sums):,}")
    for s in sums:
        table.add_row(s.book.name.lower(), BOOK_WORDS[s.book.name], f"{s.entries:,}", f"{s.points:,}")
    console.print(table)


def _table(title: str, *, show_footer: bool = False) -> Table:
    return Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_footer=show_footer, title_style="bold", pad_edge=False)
