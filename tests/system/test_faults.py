"""`make faults` for a short while, and that it would tell what it is there to find."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.faults.__main__ import Report
from loadtests.faults.journal import Event, Journal, Move, Redemption, read_lines
from loadtests.faults.verdict import Ledger, Verdict, compare

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 15


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled_under_fire() -> None:
    argv = [sys.executable, "-m", "loadtests.faults", "--seconds", str(SECONDS), "--seed", "20261123", "--json"]
    done = subprocess.run(
        argv, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = msgspec.json.decode(done.stdout.splitlines()[-1], type=Report)
    assert (report.lost, report.doubled, report.broken, report.check) == ([], [], [], "clean")
    assert sum(report.faults.values()) >= 5
    assert report.acknowledged > 100
    assert report.resolved > 0, "the faults were felt"
    assert report.links > 5


@pytest.fixture
async def journal(tmp_path: Path) -> Any:
    made = Journal(tmp_path / "journal.ndjson")
    for id_, outcome, points in (("a", "ok", 30), ("b", "failed", 0), ("c", "unknown", 0)):
        made.events[id_] = Event(id=id_, consumer="ann", outcome=outcome, points=points)  # type: ignore[arg-type]
    made.redemptions["k"] = Redemption(key="k", consumer="ann", points=10, id="r", outcome="ok", status="captured", captured=4)
    yield made
    made.close()


def ledger(*events: tuple[str, int], has: int, redemption: tuple[str, int] | None = ("captured", 4)) -> Ledger:
    return Ledger(events=events, balances={"ann": has}, redemptions={} if redemption is None else {"r": redemption})


async def test_what_agrees_is_sound(journal: Journal) -> None:
    assert compare(journal, ledger(("a", 30), has=26)).sound
    assert compare(journal, ledger(("a", 30), ("c", 20), has=46)).sound, "an unknown one may be there, once"


async def test_a_redemption_that_nobody_answered_may_have_taken_its_points_and_no_more(journal: Journal) -> None:
    journal.redemptions["u"] = Redemption(key="u", consumer="ann", points=5)
    assert [compare(journal, ledger(("a", 30), has=has)).sound for has in (27, 26, 21, 20)] == [False, True, True, False]


async def test_what_was_given_counts_on_both_sides_once_it_is_acknowledged(journal: Journal) -> None:
    journal.moves["m"] = Move(key="m", giver="ann", taker="bob", points=6, id="t", outcome="ok")
    found = ledger(("a", 30), has=20)
    found.balances, found.moves = {"ann": 20, "bob": 6}, ["t"]
    assert compare(journal, found).sound
    found.moves = []
    assert compare(journal, found).lost
    found.moves, found.balances = ["t"], {"ann": 20, "bob": 12}
    assert compare(journal, found).broken
    journal.moves["m"].outcome, journal.moves["m"].id = "unknown", None
    for ann, bob, sound in ((26, 0, True), (20, 6, True), (19, 6, False), (20, 7, False)):
        found.balances = {"ann": ann, "bob": bob}
        assert compare(journal, found).sound is sound


async def test_what_linked_consumers_have_counts_together(journal: Journal) -> None:
    found = ledger(("a", 30), has=20)
    found.persons = {"ann": "both", "bob": "both"}
    for ann, bob, sound in ((0, 26, True), (16, 10, True), (26, 0, True), (26, 1, False), (0, 25, False)):
        found.balances = {"ann": ann, "bob": bob}
        assert compare(journal, found).sound is sound


async def test_what_was_refunded_is_not_spent_and_nothing_stays_reserved(journal: Journal) -> None:
    journal.redemptions["k"].refunded = 3
    assert compare(journal, ledger(("a", 30), has=29, redemption=("captured", 1))).sound
    assert compare(journal, ledger(("a", 30), has=26, redemption=("captured", 4))).broken
    found = ledger(("a", 30), has=29, redemption=("captured", 1))
    found.reserved = {"ann": 2}
    assert compare(journal, found).broken
    journal.redemptions["k"] = Redemption(key="k", consumer="ann", points=10, id="r", outcome="ok", status="reserved")
    assert compare(journal, ledger(("a", 30), has=30, redemption=("expired", 0))).sound
    assert compare(journal, ledger(("a", 30), has=30, redemption=("reserved", 0))).broken


async def test_what_does_not_agree_is_told(journal: Journal) -> None:
    def told(found: Verdict) -> tuple[int, int, int]:
        return len(found.lost), len(found.doubled), len(found.broken)

    assert told(compare(journal, ledger(has=-4))) == (1, 0, 0)
    assert told(compare(journal, ledger(("a", 30), ("a", 30), has=26))) == (0, 1, 0)
    assert told(compare(journal, ledger(("a", 30), ("c", 20), ("c", 20), has=46))) == (0, 1, 0)
    assert told(compare(journal, ledger(("a", 20), has=16))) == (0, 0, 1), "other points"
    assert told(compare(journal, ledger(("a", 30), ("b", 5), has=31))) == (0, 0, 1), "refused, and stored"
    assert told(compare(journal, ledger(("a", 30), ("x", 0), has=26))) == (0, 0, 1), "nobody reported it"
    assert told(compare(journal, ledger(("a", 30), has=25))) == (0, 0, 1), "a balance that nothing explains"
    assert told(compare(journal, ledger(("a", 30), has=30, redemption=None))) == (1, 0, 0), "a redemption is gone"
    assert told(compare(journal, ledger(("a", 30), has=30, redemption=("cancelled", 0)))) == (0, 0, 1)
    assert told(compare(journal, ledger(("a", 30), has=20, redemption=("captured", 10)))) == (0, 0, 1)
    journal.broken.append("a read that was too old")
    assert told(compare(journal, ledger(("a", 30), has=26))) == (0, 0, 1)


async def test_lines_written_at_the_same_moment_are_all_on_disk(journal: Journal) -> None:
    await asyncio.gather(*(journal.write("report", id=str(n)) for n in range(50)))
    assert sorted(int(line["id"]) for line in read_lines(journal.path)) == list(range(50))
