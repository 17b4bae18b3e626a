"""What simulated traffic promises: the contract, the reckoning, order, and the same bytes for the same seed."""

import hashlib
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from loadtests.traffic.__main__ import write
from loadtests.traffic.clock import Clock
from loadtests.traffic.format import Label, Sent
from loadtests.traffic.parameters import draw
from loadtests.traffic.patterns import PATTERNS
from loadtests.traffic.reckoning import Reckoner
from loadtests.traffic.simulation import Traffic
from schemas.events import Event, OrderPaid, PackagingReturned
from service.domain.intake import hash_of
from service.domain.validate import check_event, check_texts

Line = tuple[Sent, Label, Event]
_decoder = msgspec.json.Decoder(Event)
FRAUD = 0.08
SEED = 7  # a world in which the clocks of some platforms are wrong


class World:
    """One run with every pattern in it, decoded."""

    def __init__(self) -> None:
        self.traffic = Traffic(events=20_000, days=20, seed=SEED, fraud=FRAUD)
        self.lines: list[Line] = [(sent, label, _decoder.decode(sent.event)) for sent, label in self.traffic]
        self.habits = self.traffic.habits()


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def digest(folder: Path, **arguments: int) -> str:
    folder.mkdir()
    write(Traffic(events=2_000, days=6, fraud=0.1, **arguments), folder, about=2_000)
    return hashlib.sha256(b"".join(folder.joinpath(name).read_bytes() for name in ("events.ndjson", "labels.ndjson"))).hexdigest()


def test_the_same_seed_writes_the_same_bytes_and_another_seed_another_world(tmp_path: Path) -> None:
    first, again, other = (digest(tmp_path / name, seed=seed) for name, seed in (("a", 7), ("b", 7), ("c", 8)))
    assert first == again != other
    one, two = (msgspec.structs.asdict(draw(seed=seed, events=2_000, days=6)) for seed in (7, 8))
    assert {name for name in one if one[name] != two[name]} >= {"refund", "family", "sessions_a_day", "reuse", "price_level", "start"}


def test_times_are_written_as_they_are_also_before_the_first_midnight_of_utc() -> None:
    clock = Clock(datetime(2025, 3, 1))  # noqa: DTZ001 - the clock adds the zone
    for t in (-0.5, 0.0, 2_709.6, 28_799.5, 86_400.0, 2_000_000.7):
        utc, local = (datetime.fromisoformat(clock.text(t, utc=utc)) for utc in (True, False))
        assert utc == local == clock.instant(t).replace(microsecond=0)


def test_files_have_a_line_and_its_label_for_each_event(tmp_path: Path) -> None:
    digest(tmp_path / "out", seed=3)
    sent = [msgspec.json.decode(line, type=Sent) for line in (tmp_path / "out" / "events.ndjson").read_bytes().splitlines()]
    labels = [msgspec.json.decode(line, type=Label) for line in (tmp_path / "out" / "labels.ndjson").read_bytes().splitlines()]
    assert [(each.platform, _decoder.decode(each.event).id) for each in sent] == [(label.platform, label.event) for label in labels]


def test_every_event_is_one_that_the_contract_takes(world: World) -> None:
    for sent, label, event in world.lines:
        check_event(event, sent.at)
        check_texts(event)
        assert event.id == label.event
        assert event.consumer in (None, label.consumer)


def test_lines_come_in_order_of_arrival_and_some_out_of_that_of_occurrence(world: World) -> None:
    arrivals = [sent.at for sent, _, _ in world.lines]
    assert arrivals == sorted(arrivals)
    late = [sent.at - event.occurred_at for sent, _, event in world.lines]
    assert max(late) > timedelta(hours=6)
    assert min(late) < timedelta(0), "no clock is ahead"
    paid: dict[str, int] = {event.order.id: n for n, (_, _, event) in enumerate(world.lines) if isinstance(event, OrderPaid)}
    before = [n for n, (_, _, event) in enumerate(world.lines) if event.order_id in paid and n < paid[event.order_id]]
    assert before, "nothing overtakes the order that it is about"


def test_a_repeat_is_the_same_json_and_earns_nothing(world: World) -> None:
    seen: dict[tuple[str, str], bytes] = {}
    repeats = 0
    for sent, label, _ in world.lines:
        key, found = (label.platform, label.event), hash_of(msgspec.json.decode(sent.event))
        if key in seen:
            repeats += 1
            assert (seen[key], label.points) == (found, 0)
        seen[key] = found
    assert repeats > 20


def test_points_are_those_of_the_reckoning(world: World) -> None:
    reckoner = Reckoner()
    # As things happened: a cancellation that overtook its order takes back nothing otherwise.
    ordered = sorted(world.lines, key=lambda line: (line[2].occurred_at, not isinstance(line[2], OrderPaid)))
    wrong = [label for sent, label, event in ordered if reckoner.points(sent.platform, event) != label.points]
    assert wrong == []
    assert min(label.points for _, label, _ in ordered) < -100


def test_each_pattern_is_there_in_rings_of_its_own_name(world: World) -> None:
    rings = defaultdict(set)
    for _, label, _ in world.lines:
        assert (label.pattern is None) == (label.ring is None)
        if label.pattern is not None:
            rings[label.pattern].add(label.ring)
    assert rings.keys() == PATTERNS.keys()
    assert len(set().union(*rings.values())) == sum(map(len, rings.values())), "a ring of two patterns"


def test_fraud_has_its_share_of_value_spread_over_the_patterns(world: World) -> None:
    value: Counter[str | None] = Counter()
    for _, label, _ in world.lines:
        value[label.pattern] += max(0, label.points)
    fraudulent = value.total() - value[None]
    assert fraudulent / value.total() == pytest.approx(FRAUD, rel=0.1)
    assert max(points for name, points in value.items() if name is not None) < 0.15 * fraudulent


def test_there_are_hard_negatives_and_people_who_are_both_honest_and_not(world: World) -> None:
    honest: dict[tuple[str, str], int] = Counter()
    fraudulent = set()
    for _, label, _ in world.lines:
        if label.pattern is None:
            honest[label.platform, label.consumer] += 1
        else:
            fraudulent.add((label.platform, label.consumer))
    assert len(fraudulent & honest.keys()) > 20
    active = Counter(habit for who, habits in world.habits.items() if who in honest for habit in set(habits))
    assert active.keys() >= {
        "family", "office", "dormitory", "parcel_shop", "vpn", "traveller", "serial_refunder", "volunteer", "bulk", "two_platforms",
        "school_class", "second_hand_phone",
    }  # fmt: skip


def test_families_share_phones_offices_an_ip_and_carriers_far_more(world: World) -> None:
    by: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for _, label, event in world.lines:
        if label.pattern is None:
            for kind in ("device", "ip", "address"):
                if kind in event.attributes:
                    by[kind, event.attributes[kind]].add(label.consumer)
    most = {kind: max(len(who) for (k, _), who in by.items() if k == kind) for kind in ("device", "ip", "address")}
    assert 2 <= most["device"] <= 30
    assert most["ip"] > 50
    assert most["address"] > 20


def test_the_campaign_day_has_about_ten_times_the_orders(world: World) -> None:
    start, day = world.traffic.parameters.start, world.traffic.parameters.campaign_day
    days = Counter(
        (event.occurred_at.replace(tzinfo=None) + timedelta(hours=8) - event.occurred_at.utcoffset() - start).days  # type: ignore[operator]
        for _, label, event in world.lines
        if isinstance(event, OrderPaid) and label.pattern is None
    )
    usual = sorted(days.values())[len(days) // 2]
    assert 5 < days[day] / usual < 16


def test_boxes_go_on_trips_and_come_back(world: World) -> None:
    out: Counter[str] = Counter()
    back: Counter[str] = Counter()
    for _, label, event in world.lines:
        if label.pattern is None:
            if isinstance(event, PackagingReturned):
                back.update(item.asset for item in event.returns if item.asset is not None)
            elif event.TYPE == "order.fulfilled" and event.packaging is not None:
                out.update(event.packaging.assets)
    assert sum((back & out).values()) > 0.5 * out.total() > 50
    assert max(back.values()) >= 2, "no box is used again"


def test_patterns_are_chosen_and_left_out_by_name() -> None:
    chosen = Traffic(events=3_000, days=10, seed=2, fraud=0.2, patterns=["burst", "clockwork"], without=["burst"])
    assert {label.pattern for _, label in chosen} == {None, "clockwork"}
    assert {label.pattern for _, label in Traffic(events=500, days=3, seed=2, fraud=0)} == {None}
    with pytest.raises(ValueError, match="no such pattern: nothing"):
        Traffic(patterns=["nothing"])
    with pytest.raises(ValueError, match="must be above 0"):
        Traffic(events=0)


@pytest.mark.parametrize("seed", [11, 2_001])
def test_about_as_many_events_come_as_were_asked_for(seed: int) -> None:
    assert sum(1 for _ in Traffic(events=4_000, days=15, seed=seed)) == pytest.approx(4_000, rel=0.35)
