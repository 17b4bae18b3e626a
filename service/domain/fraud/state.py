"""All that the judge of one program keeps between two events, and how it is saved: in records, those that changed since the last time.

The records of all calls of `changed`, the later in the place of the earlier and None deleting, are a snapshot. `State.restored` makes the
same state of it: judging goes on with the same verdicts. Whoever saves keeps the number of the last event judged beside the records,
written in the same step, and lets the judge go on with the event after it.

| record | key | value (MessagePack) |
| --- | --- | --- |
| head | `head` | FORMAT, generations of the windows, small counters |
| norm | `norm:` measure | its histogram |
| chunk | part `:` number in hex | entries of the part; see journal.py |
"""

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import msgspec
from msgspec import Struct

from service.domain.fraud.account import Account
from service.domain.fraud.journal import Journal, Record, Table
from service.domain.fraud.norms import Histogram, MemoryNorms
from service.domain.fraud.orders import Orders
from service.domain.fraud.records import new_records
from service.domain.fraud.rings import Rings
from service.domain.fraud.windows import MemoryWindows

FORMAT: Final = 2
"""Of snapshots. Count it up with any change to what is kept: fields of Account, Ring, Tally …, keys of touches, names of measures."""
_HEAD: Final = b"head"
_NORM: Final = b"norm:"
_WINDOW: Final = "window."
_encode = msgspec.msgpack.Encoder().encode


class OtherFormat(ValueError):
    """A snapshot that this version cannot go on from: build the state anew by judging what is in the database."""


class _Head(Struct, frozen=True, array_like=True):
    format: int
    panes: tuple[tuple[int, int, int], ...] = ()
    """Window, generation, when it turned."""
    young_share: float = 0
    turn: int = 0


class State:
    """Of one judge. `tracked`: `changed` will be called now and then; without it nothing is noted, which is cheaper."""

    def __init__(self, *, tracked: bool = False) -> None:
        self._tracked = tracked
        self.windows = MemoryWindows(tracked=tracked)
        self.norms = MemoryNorms(tracked=tracked)
        self.rings = Rings(tracked=tracked)
        self.accounts: Table[int, Account] = Table(list[tuple[int, Account | None]], tracked=tracked)
        """What observing needs of an account, by account id."""
        self.records = new_records(tracked=tracked)
        """What judging needs of it."""
        self.orders = Orders(tracked=tracked)
        tables: dict[str, Table[Any, Any]] = {"account": self.accounts, "record": self.records, **self.rings.tables()}
        self._journals: dict[str, Journal[Any]] = {name: Journal(name, table) for name, table in tables.items()}
        self._journals["order"] = Journal("order", self.orders)

    def changed(self, *, everything: bool = False) -> list[Record]:
        """The records that changed since the last call; value None: delete it. Call it between two events, of a tracked state only.

        What was handed out counts as saved: if storing fails, store it together with the next call's, or begin anew with `everything`,
        which gives all records, deletes none, and takes as long as the state is large (some seconds a million events).
        """
        if not self._tracked:
            raise ValueError("the state was not tracked")
        windows, norms = self.windows, self.norms
        for window, pane in windows.panes.items():
            name = f"{_WINDOW}{window}"
            if name not in self._journals:
                self._journals[name] = Journal(name, pane)
        panes = tuple((pane.window, pane.generation, pane.turned) for pane in windows.panes.values())
        head = _Head(format=FORMAT, panes=panes, young_share=norms.share, turn=norms.turn)
        records: list[Record] = [(_HEAD, _encode(head))]
        measures = norms.measures if everything else norms.changes or ()
        records += [(_NORM + measure.encode(), _encode(norms.measures[measure])) for measure in measures]
        norms.changes = set()
        records += chain.from_iterable(journal.changed(everything=everything) for journal in self._journals.values())
        return records

    @classmethod
    def restored(cls, records: Iterable[tuple[bytes, bytes]]) -> "State":
        """The state of a snapshot, tracked, given its records in any order. Raises OtherFormat for one of another version, or damaged."""
        found = dict(records)
        head = _head(found.pop(_HEAD, b""))
        try:
            return cls._of(head, found)
        except (msgspec.MsgspecError, LookupError, TypeError, ValueError) as error:
            raise OtherFormat(f"the snapshot is damaged: {error!r}") from error

    @classmethod
    def _of(cls, head: _Head, found: dict[bytes, bytes]) -> "State":
        state = cls(tracked=True)
        state.norms.share, state.norms.turn = head.young_share, head.turn
        for window, generation, turned in head.panes:
            name = f"{_WINDOW}{window}"
            state._journals[name] = Journal(name, state.windows.open(window, turned=turned, generation=generation))
        chunks: dict[str, list[tuple[int, bytes]]] = {}
        for key, value in found.items():
            if key.startswith(_NORM):
                state.norms.measures[key.removeprefix(_NORM).decode()] = msgspec.msgpack.decode(value, type=Histogram)
                continue
            name, _, number = key.decode().partition(":")
            chunks.setdefault(name, []).append((int(number, 16), value))
        for name, bodies in chunks.items():
            state._journals[name].load(bodies)
        return state


def _head(value: bytes) -> _Head:
    try:
        number = msgspec.msgpack.decode(value, type=list[Any])[0]
        if number != FORMAT:
            raise OtherFormat(f"the snapshot has format {number}, this version reads {FORMAT}")
        return msgspec.msgpack.decode(value, type=_Head)
    except (msgspec.MsgspecError, LookupError) as error:
        raise OtherFormat("the snapshot has no head") from error
