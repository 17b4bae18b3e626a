"""The journal against the ledger: nothing acknowledged is lost, nothing counts twice, nothing refused has an effect. Pure."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from loadtests.faults.journal import Journal

SHOWN = 10


class Ledger(Struct, kw_only=True):
    """What PostgreSQL holds once all is quiet."""

    events: Sequence[tuple[str, int]]
    """(id, points) of every stored event of the run; parked ones have 0."""
    balances: Mapping[str, int]
    """Consumer → pending + available + reserved − debt."""
    redemptions: Mapping[str, tuple[str, int]]
    """Redemption id → (status, captured points that were not refunded)."""
    reserved: Mapping[str, int] = {}
    """Consumer → points that are still kept apart, long after the last reservation's end."""
    moves: Collection[str] = ()
    """Ids of transfers and adjustments."""
    persons: Mapping[str, str] = {}
    """Consumer → person, where several names may have been linked, so that only the points of all of them together are known."""


class Verdict(Struct, kw_only=True):
    """What does not agree, in words."""

    lost: list[str]
    doubled: list[str]
    broken: list[str]

    @property
    def sound(self) -> bool:
        """Whether all agrees."""
        return not (self.lost or self.doubled or self.broken)


def compare(journal: Journal, ledger: Ledger) -> Verdict:
    """See the module. An unknown event may be there, once; then its points count in the balance."""
    lost, doubled, broken = list[str](), list[str](), list(journal.broken)
    times = Counter(id_ for id_, _ in ledger.events)
    points = dict(ledger.events)
    doubled += [f"event {id_} is stored {n} times" for id_, n in times.items() if n > 1]
    broken += [f"event {id_} is stored, and nobody reported it" for id_ in times if id_ not in journal.events]
    for event in journal.events.values():
        stored = points.get(event.id)
        if event.outcome == "ok" and stored is None:
            lost.append(f"event {event.id}: {event.points} points were acknowledged, and it is not there")
        elif event.outcome == "ok" and stored != event.points:
            broken.append(f"event {event.id}: {event.points} points were acknowledged, {stored} are stored")
        elif event.outcome == "failed" and stored is not None:
            broken.append(f"event {event.id} was refused, and is stored")
    lost += [
        f"redemption {redemption.id} was acknowledged, and is not there"
        for redemption in journal.redemptions.values()
        if redemption.id is not None and redemption.id not in ledger.redemptions
    ]
    lost += [
        f"transfer or adjustment {move.id} was acknowledged, and is not there"
        for move in journal.moves.values()
        if move.id is not None and move.id not in ledger.moves
    ]
    broken += [f"{consumer} still has {points} points reserved" for consumer, points in ledger.reserved.items() if points]
    broken += _redemptions(journal, ledger)
    broken += _balances(journal, ledger, points)
    return Verdict(lost=lost, doubled=doubled, broken=broken)


def _redemptions(journal: Journal, ledger: Ledger) -> list[str]:
    """Each acknowledged redemption is where its last acknowledged step left it; one that an unknown step may have moved may be there."""
    wrong = []
    for redemption in journal.redemptions.values():
        if (found := ledger.redemptions.get(redemption.id or "")) is None:
            continue
        expected = "expired" if redemption.status == "reserved" else redemption.status  # by then its time is over
        if "unknown" not in redemption.steps.values() and found[0] != expected:
            wrong.append(f"redemption {redemption.id} was {redemption.status}, and is {found[0]}")
        elif "unknown" not in redemption.steps.values() and found[1] != redemption.captured - redemption.refunded:
            wrong.append(
                f"redemption {redemption.id}: {redemption.captured} points were captured, {redemption.refunded} of them refunded; "
                f"{found[1]} are stored"
            )
    return wrong


def _balances(journal: Journal, ledger: Ledger, points: Mapping[str, int]) -> list[str]:
    """What each person has is what their events gave and their redemptions took; one that nobody answered may have taken its points."""

    def person(consumer: str) -> str:
        return ledger.persons.get(consumer, consumer)

    expected: Counter[str] = Counter()
    for event in journal.events.values():
        expected[person(event.consumer)] += points.get(event.id, 0)
    of_consumer = {redemption.id: person(redemption.consumer) for redemption in journal.redemptions.values() if redemption.id is not None}
    for id_, (status, captured) in ledger.redemptions.items():
        if status == "captured" and id_ in of_consumer:
            expected[of_consumer[id_]] -= captured
    unsure, unsure_gain = Counter[str](), Counter[str]()
    for redemption in journal.redemptions.values():
        if redemption.outcome == "unknown":
            unsure[person(redemption.consumer)] += redemption.points
    for move in journal.moves.values():
        if move.outcome == "failed":
            continue
        less, more = (expected, expected) if move.outcome == "ok" else (unsure, unsure_gain)
        if move.giver is not None:
            less[person(move.giver)] += -move.points if less is expected else move.points
        if move.taker is not None:
            more[person(move.taker)] += move.points
    found = Counter[str]()
    for consumer, balance in ledger.balances.items():
        found[person(consumer)] += balance
    return [
        f"{whose} has {found[whose]} points, and the journal says {expected[whose]}"
        for whose in sorted({*expected, *found})
        if not expected[whose] - unsure[whose] <= found[whose] <= expected[whose] + unsure_gain[whose]
    ]
