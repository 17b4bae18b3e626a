"""State: saved in records now and then, restored, and judged on with, it gives what it would have given."""

from functools import cache
from itertools import pairwise

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from loadtests.fraud.stream import MOST, observations
from loadtests.traffic.reckoning import certificate_of
from loadtests.traffic.simulation import Traffic
from schemas.events import Event, OrderPaid
from service.domain.fraud import journal, norms
from service.domain.fraud.history import Again
from service.domain.fraud.judging import Facts, Judging
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.pipeline import Judged, Pipeline
from service.domain.fraud.state import FORMAT, OtherFormat, State

JUDGE = Judge(Model(intercept=-4))
"""Suspicious of everybody, so that suspicion is passed on, and into the snapshots."""
KEY = b"\0"
PATTERNS = ("double_claim", "shared_device", "endless_box", "takeover")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short world fills and forgets many chunks, and knows its norms so well that it samples."""
    monkeypatch.setattr(journal, "CHUNK", 20)
    monkeypatch.setattr(norms, "KNOWN", 300)


@cache
def events() -> list[tuple[Event, Facts]]:
    """Some days of a small world with frauds, as the worker is given them."""
    found, accounts, seen = [], dict[tuple[str, str], tuple[int, int]](), set[tuple[str, str]]()
    for number, (sent, label) in enumerate(Traffic(events=1_200, days=6, seed=7, fraud=0.1, patterns=PATTERNS)):
        if (label.platform, label.event) in seen:
            continue
        seen.add((label.platform, label.event))
        event = msgspec.json.decode(sent.event, type=Event)
        id_, opened_at = accounts.setdefault((sent.platform, label.consumer), (len(accounts), event.occurred_at))
        found.append((event, Facts(
            number=number, platform=sent.platform, account_id=id_, opened_at=opened_at, points=label.points, received_at=sent.at,
            most=MOST.get(event.TYPE, 0), certificates=certificates(event),
        )))  # fmt: skip
    return found


def certificates(event: Event) -> dict[str, str]:
    if not isinstance(event, OrderPaid):
        return {}
    return {line.id: certificate for line in event.lines if line.sku and (certificate := certificate_of(line.sku))}


@cache
def uninterrupted() -> list[Judged]:
    judging = Judging(JUDGE, State(), hash_key=KEY)
    return [judging.judge_event(event, facts) for event, facts in events()]


class Snapshot:
    """What the records of all calls leave."""

    def __init__(self) -> None:
        self.records: dict[bytes, bytes] = {}

    def save(self, state: State, *, everything: bool = False) -> None:
        if everything:
            self.records.clear()
        for key, value in state.changed(everything=everything):
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value

    def restored(self) -> State:
        return State.restored(reversed(self.records.items()))


@settings(
    phases=[Phase.generate], max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)  # shrinking would take minutes
@given(st.sets(st.integers(1, 1_000), max_size=12), st.data())
def test_judging_goes_on_with_the_same_verdicts_wherever_it_was_saved_and_restored(cuts: set[int], data: st.DataObject) -> None:
    judging, snapshot, judged = Judging(JUDGE, State(tracked=True), hash_key=KEY), Snapshot(), list[Judged]()
    for start, end in pairwise([0, *sorted(cuts), len(events())]):
        judged += [judging.judge_event(event, facts) for event, facts in events()[start:end]]
        what = data.draw(st.sampled_from(["nothing", "save", "all", "restore"]))
        if what != "nothing":
            snapshot.save(judging.state, everything=what == "all")
        if what == "restore":
            judging = Judging(JUDGE, snapshot.restored(), hash_key=KEY)
    assert judged == uninterrupted()


def test_what_people_decide_is_in_the_snapshot() -> None:
    def judged(*, restored: bool) -> list[Judged | tuple[Again, ...]]:
        judging, snapshot, found = Judging(JUDGE, State(tracked=True), hash_key=KEY), Snapshot(), list[Judged | tuple[Again, ...]]()
        for i, (event, facts) in enumerate(events()):
            found.append(judging.judge_event(event, facts))
            if i % 20 == 0:
                snapshot.save(judging.state)
                found.append(judging.convict([facts.account_id]) if i % 40 else ())
                judging.clear([facts.account_id] if i % 60 == 0 else [])
                snapshot.save(judging.state)
                judging = Judging(JUDGE, snapshot.restored(), hash_key=KEY) if restored else judging
        return found

    assert judged(restored=True) == judged(restored=False)


def test_saving_after_each_few_events_keeps_the_snapshot_small() -> None:
    judging, snapshot, whole = Judging(JUDGE, State(tracked=True), hash_key=KEY), Snapshot(), Snapshot()
    for i, (event, facts) in enumerate(events()):
        judging.judge_event(event, facts)
        if i % 5 == 0:
            snapshot.save(judging.state)
    snapshot.save(judging.state)
    whole.save(judging.state, everything=True)
    parts = 20
    assert entries(snapshot) <= journal.SPARE * entries(whole) + parts * 3 * journal.CHUNK


def entries(snapshot: Snapshot) -> int:
    return sum(len(msgspec.msgpack.decode(value)) for key, value in snapshot.records.items() if not key.startswith((b"head", b"norm:")))


def test_what_did_not_change_is_not_written_again() -> None:
    state = State(tracked=True)
    judging = Judging(JUDGE, state, hash_key=KEY)
    for event, facts in events()[:300]:
        judging.judge_event(event, facts)
    assert len(state.changed()) > 50
    assert [key for key, _ in state.changed()] == [b"head"]


def test_a_state_that_was_not_tracked_cannot_be_saved() -> None:
    with pytest.raises(ValueError, match="not tracked"):
        State().changed()


@pytest.mark.parametrize("head", [None, b"", msgspec.msgpack.encode([FORMAT + 1]), msgspec.msgpack.encode([])])
def test_a_snapshot_of_another_format_is_not_loaded(head: bytes | None) -> None:
    with pytest.raises(OtherFormat):
        State.restored([] if head is None else [(b"head", head)])


@pytest.mark.parametrize("record", [(b"nobody:0001", b"\x90"), (b"ring:0001", b"\xc1"), (b"ring:x", b"\x90"), (b"norm:m", b"\x91\x01")])
def test_a_damaged_snapshot_is_not_loaded(record: tuple[bytes, bytes]) -> None:
    with pytest.raises(OtherFormat, match="damaged"):
        State.restored([(b"head", msgspec.msgpack.encode([FORMAT])), record])


def test_the_entry_judges_as_the_evaluation_does() -> None:
    pipeline, traffic = Pipeline(JUDGE), Traffic(events=1_200, days=6, seed=7, fraud=0.1, patterns=PATTERNS)
    assert [pipeline.judge(o) for o, _ in observations(traffic)] == uninterrupted()
