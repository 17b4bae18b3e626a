"""Labels and tuning: what is learnt from, what is left out, what the figures are of."""

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from service.domain.errors import InvalidRequest, InvalidState
from service.domain.fraud_labels import LabelRow, label_lines
from service.flows import fraud_labels, fraud_tune
from service.flows.administer import BY_COMMAND
from service.store import fraud_labels as store
from service.store.connection import Connection
from tests.worlds import World, order_paid

OLD = "30 days"


@pytest.fixture
async def conn(world: World) -> AsyncIterator[Connection]:
    async with world.pool.acquire() as connection:
        yield connection


async def label(world: World, count: int, *, fraud: bool, strengths: dict[str, int], points: int = 50, first: int = 1) -> None:
    await world.rows(
        "INSERT INTO fraud_label (program, event, fraud, points, score, strengths, source) SELECT $1, n, $2, $3, 100, $4, 'decision' FROM generate_series($5::bigint, $6::bigint) n",
        world.program, fraud, points, json.dumps(strengths), first, first + count - 1,
    )  # fmt: skip


async def judge(world: World, count: int, *, first: int = 1, outcome: int = 1, strengths: str | None = None, ago: str = OLD) -> None:
    """Verdicts in places from `first` on, of events with the numbers 1,000,000 + place."""
    await world.rows(
        """INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, strengths, judged_at)
           SELECT $1, n, 1, 1, 1000000 + n, 20, $4, true, 0, 9, 9, $5, now() - $6::text::interval FROM generate_series($2::bigint, $3::bigint) n""",
        world.program, first, first + count - 1, outcome, strengths, ago,
    )  # fmt: skip


async def known(world: World) -> None:
    """Sixty frauds that `clockwork` sees, sixty honest events, ten of which it sees too."""
    await label(world, 60, fraud=True, strengths={"clockwork": 4, "gone": 3})
    await label(world, 60, fraud=False, strengths={"crowded_device": 4}, first=1_001)


# Tuning


async def test_a_model_learns_what_labels_say(world: World, conn: Connection) -> None:
    await known(world)
    await judge(world, 3_000)
    tuned = await fraud_tune.tune(conn, program=world.program, background=1_000)
    report = tuned.report
    assert (report.base, report.draft, report.frauds, report.honest) == (0, None, 60, 60)
    assert (report.background, report.background_weight) == (1_000, 3)
    assert 100 < report.held_out < 350
    assert (report.before.recall, report.after.recall, report.after.precision) == (0, 1, 1)
    assert report.after.honest_held == 0
    assert report.loss[1] < report.loss[0]
    was, is_ = report.weights["clockwork"]
    assert is_ > was
    was, is_ = report.weights["crowded_device"]
    assert is_ < was
    was, is_ = report.weights["reused"]
    assert is_ == pytest.approx(was), "what labels say nothing about stays"
    assert (await fraud_tune.tune(conn, program=world.program, background=1_000)).report == report, "the same again"
    assert await world.rows("SELECT FROM fraud_model") == []


async def test_only_what_passed_settled_and_is_old_is_taken_for_honest(world: World, conn: Connection) -> None:
    await judge(world, 10)
    await judge(world, 2, first=11, outcome=2)
    await judge(world, 5, first=13, ago="13 days")
    await world.rows("INSERT INTO due (bucket, due_at, account, event) VALUES (1, now(), 1, 1000001)")
    await world.rows("INSERT INTO screening (bucket, account, event, program, state) VALUES (1, 1, 1000002, $1, 1)", world.program)
    await label(world, 1, fraud=True, strengths={}, first=1_000_003)
    await world.rows("INSERT INTO fraud_case VALUES (1, $1, 1, 'open', 1, now(), now())", world.program)
    await world.rows(
        """INSERT INTO fraud_case_event (bucket, account, event, program, fraud_case, points, score, reasons, found, state, held_at)
           VALUES (1, 1, 1000004, $1, 1, 1, 1, '[]', 'look_back', 'settled', now())""", world.program,
    )  # fmt: skip
    found, weight = await fraud_tune._background(conn, world.program, since=None, size=1_000, seed=1, tell=lambda _, __: None)
    assert [seen.event for seen in found] == list(range(1_000_005, 1_000_011))
    assert weight == 1
    found, weight = await fraud_tune._background(conn, world.program, since=None, size=4, seed=1, tell=lambda _, __: None)
    assert len(found) <= 4
    assert weight == 3, "twelve places, four of which were looked at"
    assert await fraud_tune._background(conn, world.program + 1, since=None, size=9, seed=1, tell=lambda _, __: None) == ([], 1)


async def test_too_few_labels_are_refused_in_words(world: World, conn: Connection) -> None:
    await label(world, 49, fraud=True, strengths={"clockwork": 4})
    await label(world, 50, fraud=False, strengths={}, first=1_001)
    with pytest.raises(InvalidState, match="49 labelled frauds and 50 labelled honest events; tuning needs at least 50 of each"):
        await fraud_tune.tune(conn, program=world.program)
    assert (await fraud_tune.tune(conn, program=world.program, force=True)).report.frauds == 49
    with pytest.raises(InvalidState):
        await fraud_tune.tune(conn, program=world.program + 1, force=True)


async def test_frauds_alone_are_nothing_to_learn_from(world: World, conn: Connection) -> None:
    await label(world, 60, fraud=True, strengths={"clockwork": 4})
    with pytest.raises(InvalidState, match="beside the fifth"):
        await fraud_tune.tune(conn, program=world.program, force=True)
    await judge(world, 50)
    assert (await fraud_tune.tune(conn, program=world.program, force=True)).report.background == 50


async def test_since_leaves_out_what_is_older(world: World, conn: Connection) -> None:
    await known(world)
    await world.rows("UPDATE fraud_label SET at = '2026-01-01Z' WHERE event <= 10 OR event BETWEEN 1001 AND 1007")
    await judge(world, 100, ago="400 days")
    await judge(world, 20, first=101)
    since = (await world.rows("SELECT now() - interval '60 days' AS at"))[0]["at"]
    found = (await fraud_tune.tune(conn, program=world.program, since=since)).report
    assert (found.frauds, found.honest, found.background) == (50, 53, 20)


async def test_what_was_found_is_saved_as_a_draft_with_its_report(world: World, conn: Connection) -> None:
    await known(world)
    tuned = await fraud_tune.tune(conn, program=world.program)
    with pytest.raises(InvalidRequest):
        await fraud_tune.save(conn, tuned, program=world.program, note="", change=BY_COMMAND)
    saved = await fraud_tune.save(conn, tuned, program=world.program, note="march", change=BY_COMMAND)
    assert saved.report.draft == 1
    (row,) = await world.rows("SELECT version, state, note, report, created_by, body FROM fraud_model")
    assert (row["version"], row["state"], row["note"], row["created_by"]) == (1, "draft", "march", None)
    assert json.loads(row["report"])["frauds"] == 60
    assert json.loads(row["body"])["weights"]["clockwork"] == tuned.model.weights["clockwork"]
    assert [r["action"] for r in await world.rows("SELECT action FROM audit WHERE action LIKE 'fraud%'")] == ["fraud_model.tune"]


# Labels


async def judged(world: World, *, strengths: str | None = '{"burst":2}', outcome: int = 2) -> dict[str, Any]:
    """An event of `shop` that was reported and judged."""
    paid = order_paid("c")
    await world.credit(paid)
    await world.rows(
        """INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, strengths, judged_at)
           SELECT $1, number, bucket, account, number, 20, $3, true, 0, 777, 9, $4, now() FROM event WHERE id = $2""",
        world.program, paid["id"], outcome, strengths,
    )  # fmt: skip
    return paid


def rows(*given: tuple[str, str, bool]) -> list[Any]:
    return [LabelRow(platform=platform, event=event, fraud=fraud) for platform, event, fraud in given]


async def labelled(world: World) -> list[tuple[Any, ...]]:
    found = await world.rows("SELECT fraud, points, score, strengths, source FROM fraud_label ORDER BY event")
    return [tuple(row.values()) for row in found]


async def test_labels_take_over_what_was_judged(world: World, conn: Connection) -> None:
    await world.campaign()
    one, other = await judged(world), await judged(world, strengths=None, outcome=1)
    answer = await fraud_labels.load(conn, rows(("shop", one["id"], True), ("shop", other["id"], False)), program=world.program)
    assert (answer.created, answer.updated, answer.unchanged, answer.rejected) == (2, 0, 0, 0)
    assert await labelled(world) == [(True, 20, 777, '{"burst":2}', "import"), (False, 20, 777, "{}", "import")]
    answer = await fraud_labels.load(conn, rows(("shop", one["id"], False), ("shop", other["id"], False)), program=world.program)
    assert (answer.created, answer.updated, answer.unchanged) == (0, 1, 1)
    assert [row[0] for row in await labelled(world)] == [False, False]
    await fraud_labels.load(conn, rows(("shop", one["id"], False)), program=world.program)
    audited = await world.rows("SELECT after::text FROM audit WHERE action = 'fraud_label.import' ORDER BY id")
    assert len(audited) == 2, "what changes nothing is not recorded"
    assert one["id"] not in audited[0]["after"]


async def test_the_newest_verdict_counts(world: World, conn: Connection) -> None:
    await world.campaign()
    paid = await judged(world)
    await world.rows(
        """INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, strengths, judged_at)
           SELECT program, seq + 1, bucket, account, event, 15, 2, true, 0, 9000, 9, '{"gain":4}', now() FROM verdict"""
    )
    await fraud_labels.load(conn, rows(("shop", paid["id"], True)), program=world.program)
    assert await labelled(world) == [(True, 15, 9_000, '{"gain":4}', "import")]


async def test_what_cannot_be_labelled_is_told_and_stops_no_other(world: World, conn: Connection) -> None:
    await world.campaign()
    paid, nothing = await judged(world), await judged(world, outcome=0)
    decided = await judged(world)
    await fraud_labels.load(conn, rows(("shop", decided["id"], True)), program=world.program)
    await world.rows("UPDATE fraud_label SET source = 'decision'")
    unjudged = order_paid("c")
    await world.credit(unjudged)
    given = rows(
        ("elsewhere", paid["id"], True), ("shop", "never", True), ("shop", nothing["id"], True), ("shop", unjudged["id"], True),
        ("shop", decided["id"], False), ("shop", decided["id"], True), ("market", paid["id"], True), ("shop", paid["id"], True),
    )  # fmt: skip
    given[1:1] = list(label_lines(["{", '{"platform": "shop", "event": "x"}']))
    answer = await fraud_labels.load(conn, given, program=world.program)
    told = {result.row: result.errors[0].detail for result in answer.results}
    assert set(told) == {0, 1, 2, 3, 4, 5, 6, 8}
    assert told[6] == "a person decided otherwise, which stays"
    assert told[2] == "is missing: true or false"
    assert (answer.created, answer.unchanged, answer.rejected) == (1, 1, 8)
    assert [(row[0], row[4]) for row in await labelled(world)] == [(True, "import"), (True, "decision")]


async def test_what_a_person_decides_meanwhile_stays(world: World, conn: Connection) -> None:
    """The import had read that there was no label."""
    await label(world, 1, fraud=False, strengths={"gain": 4}, first=7)
    await store.put(conn, world.program, [store.Label(event=7, fraud=True, points=1, score=1, strengths="{}")])
    assert await labelled(world) == [(False, 50, 100, '{"gain": 4}', "decision")]


async def test_of_an_event_that_is_there_twice_the_last_row_counts(world: World, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.campaign()
    paid = await judged(world)
    for size in (5_000, 1):
        monkeypatch.setattr("service.flows.fraud_labels.CHUNK_ROWS", size)
        await fraud_labels.load(conn, rows(("shop", paid["id"], False), ("shop", paid["id"], True)), program=world.program)
        assert [row[0] for row in await labelled(world)] == [True]
        await fraud_labels.load(conn, rows(("shop", paid["id"], True), ("shop", paid["id"], False)), program=world.program)
        assert [row[0] for row in await labelled(world)] == [False]


async def test_another_programs_events_are_not_labelled(world: World, conn: Connection) -> None:
    await world.campaign()
    paid = await judged(world)
    answer = await fraud_labels.load(conn, rows(("shop", paid["id"], True)), program=world.program + 1)
    assert answer.rejected == 1
    assert await labelled(world) == []


async def test_labels_go_out_as_they_come_in(world: World, conn: Connection) -> None:
    await world.campaign()
    paid = await judged(world)
    await fraud_labels.load(conn, rows(("shop", paid["id"], True)), program=world.program)
    await label(world, 1, fraud=False, strengths={}, first=1_000_000)
    lines = [msgspec.json.encode(row).decode() async for row in store.exported(conn, world.program)]
    found, gone = (json.loads(line) for line in lines)
    assert (gone["number"], gone["platform"], gone["event"]) == (1_000_000, None, None), "its event is not there any more"
    assert found | {"platform": "shop", "event": paid["id"], "fraud": True, "strengths": {"burst": 2}, "score_bp": 777} == found
    answer = await fraud_labels.load(conn, label_lines(lines), program=world.program)
    assert (answer.unchanged, answer.rejected) == (1, 1)
