"""Erasing a person: what goes, what stays, and that no credit lands on what somebody still remembers."""

import asyncio
import contextlib
import json
from typing import Any

import pytest

from service.domain.errors import InvalidState, NotFound
from service.flows import erase as flow
from service.flows.administer import Change
from service.flows.knowledge import Knowledge
from service.store import vault
from tests import books
from tests.flows.test_locks import Slow, blocked
from tests.flows.test_packaging import BOX, asset, fulfilled, returned, wrong
from tests.flows.test_packaging import paid as order_fact
from tests.worlds import World, cancelled, order_paid, refund

PLATFORM = Change(actor="platform:shop")


class Redis:
    """Takes notice of what is to be removed; `gone` as long as it does not answer."""

    def __init__(self) -> None:
        self.removed: list[int] = []
        self.gone = False

    async def forget(self, accounts: list[int]) -> bool:
        if not self.gone:
            self.removed += accounts
        return not self.gone


async def erase(world: World, reference: str = "c", platform: str = "shop") -> int:
    sender = world.platforms[platform]
    async with world.pool.acquire() as connection:
        return await flow.erase(
            connection, program=sender.program, platform=sender.platform, code=platform, reference=reference, change=PLATFORM
        )


async def finish(world: World, redis: Redis | None = None) -> int:
    return await flow.finish_erasures(world.pool, redis or Redis())  # type: ignore[arg-type]


async def hold(world: World, reference: str = "c") -> None:
    sender = world.platforms["shop"]
    async with world.pool.acquire() as connection:
        await flow.place_hold(
            connection,
            program=sender.program,
            platform=sender.platform,
            code="shop",
            reference=reference,
            reason="a lawsuit",
            change=PLATFORM,
        )


async def accounts(world: World) -> dict[str, int]:
    return {row["reference"]: row["account"] for row in await world.rows("SELECT reference, account FROM consumer_reference")}


async def pending(world: World, account: int) -> int:
    (row,) = await world.rows("SELECT pending FROM account WHERE id = $1", account)
    points: int = row["pending"]
    return points


async def unharmed(world: World) -> None:
    async with world.pool.acquire() as connection:
        assert await books.faults(connection) == {}


@pytest.fixture
def slow(world: World) -> Slow:
    return Slow(world)


def personal(consumer: str = "c", **changes: Any) -> dict[str, Any]:
    return order_paid(consumer, attributes={"note": "leave it with Ada", "address": "Elm 1"}, **changes) | {
        "packaging": {"class": "ship_in_own_container", "waybill": "SF-ADA"}
    }


async def test_who_is_erased_is_forgotten_and_what_the_ledger_needs_stays(world: World) -> None:
    await world.campaign()
    await world.campaign(code="act", action="activity", award={"kind": "fixed", "points": 5})
    paid = personal(quantity=3)
    await world.credit(paid)
    activity = {"type": "activity.completed", "occurred_at": paid["occurred_at"], "consumer": "c", "activity": "refill"}
    await world.credit(activity | {"id": "a", "evidence": {"serial": "Ada's bottle"}})
    account = await erase(world)
    assert await accounts(world) == {}
    redis = Redis()
    assert await finish(world, redis) == 1
    assert redis.removed == [account]
    rows = await world.rows("SELECT facts, answer FROM event ORDER BY number")
    facts = [json.loads(row["facts"]) for row in rows]
    assert not any("attributes" in fact or "evidence" in fact or "consumer" in fact for fact in facts)
    assert facts[0]["lines"] == [paid["lines"][0] | {"amount": None, "merchant": None}]
    assert (facts[0]["order"], facts[0]["packaging"]["class"], facts[0]["packaging"]["waybill"]) == (
        paid["order"], "ship_in_own_container", None,
    )  # fmt: skip
    assert [json.loads(row["answer"])["points"] for row in rows] == [30, 5]
    assert await pending(world, account) == 35
    assert await world.rows("SELECT request_hash FROM registry WHERE request_hash IS NOT NULL") == []
    assert await world.rows("SELECT consumer_hash FROM erasure WHERE state = 'done'") == [{"consumer_hash": None}]
    await unharmed(world)


async def test_nobody_is_erased_twice(world: World) -> None:
    await world.campaign()
    await world.credit(order_paid("c"))
    await erase(world)
    with pytest.raises(NotFound):
        await erase(world)
    assert await finish(world) == 1
    assert await finish(world) == 0


async def test_who_comes_back_is_somebody_new(world: World) -> None:
    await world.campaign(caps={"consumer_total": 15})
    paid = order_paid("c")
    await world.credit(paid)
    account = await erase(world)
    answer = await world.credit(order_paid("c", quantity=2))
    assert (answer["points"], answer["balance"]["version"]) == (15, 1)
    assert (await accounts(world))["c"] != account
    assert await pending(world, account) == 10
    await unharmed(world)


async def test_a_repeat_after_the_erasure_gets_its_first_answer_and_opens_no_account(world: World) -> None:
    await world.campaign()
    paid = order_paid("c")
    first = await world.credit(paid)
    await erase(world)
    await finish(world)
    (outcome,) = await world.send(paid, knowledge=Knowledge())
    assert outcome.replayed
    assert json.loads(outcome.answer) == first
    assert await accounts(world) == {}


async def test_late_facts_of_an_order_find_the_account_and_bring_nothing_personal(world: World) -> None:
    await world.campaign()
    paid = order_paid("c", quantity=4)
    await world.credit(paid)
    account = await erase(world)
    await finish(world)
    assert (await world.credit(refund(paid, "r", 1) | {"attributes": {"why": "Ada is allergic", "ip": "10.0.0.1"}}))["points"] == -10
    assert (await world.credit(cancelled(paid) | {"attributes": {"why": "Ada moved"}}))["points"] == -30
    assert await pending(world, account) == 0
    assert await accounts(world) == {}
    rows = await world.rows("SELECT e.facts, r.request_hash FROM event e JOIN registry r USING (number) WHERE e.type <> 'order.paid'")
    assert [("Ada" in row["facts"], "h:" in row["facts"], row["request_hash"]) for row in rows] == [(False, False, None)] * 2
    await unharmed(world)


async def test_parked_facts_of_a_person_are_scrubbed(world: World) -> None:
    await world.campaign()
    await world.credit(order_paid("c"))
    unpaid = order_paid("c")
    await world.credit(refund(unpaid, "r", 1) | {"attributes": {"why": "Ada"}})
    await world.credit(refund(order_paid("d"), "r", 1) | {"attributes": {"why": "Bob"}})
    await erase(world)
    await finish(world)
    facts = " ".join(row["facts"] for row in await world.rows("SELECT facts FROM parked"))
    assert "Ada" not in facts
    assert "Bob" in facts
    assert (await world.credit(unpaid))["balance"]["pending"] == 0


async def test_one_platform_erases_its_own_name_and_facts(world: World) -> None:
    """References of two platforms on one account: linking makes them, here a row does."""
    await world.campaign()
    await world.credit(personal("c"))
    account = (await accounts(world))["c"]
    market = world.platforms["market"].platform
    await world.rows("INSERT INTO consumer_reference VALUES ($1, 'm', $2, $3) RETURNING 1", market, account & 1023, account)
    await world.credit(personal("m"), platform="market")
    await erase(world)
    await finish(world)
    assert await accounts(world) == {"m": account}
    rows = await world.rows("SELECT p.code, e.facts FROM event e JOIN platform p ON p.id = e.platform ORDER BY e.number")
    assert [(row["code"], "Ada" in row["facts"]) for row in rows] == [("shop", False), ("market", True)]
    assert (await world.credit(order_paid("m"), platform="market"))["balance"]["pending"] == 30


async def test_an_erasure_that_was_interrupted_is_finished(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "SCRUB_EVENTS", 2)
    await world.campaign()
    for _ in range(5):
        await world.credit(personal("c"))
    await erase(world)
    async with world.pool.acquire() as connection:
        (id_,) = await vault.running(connection, 10)
        assert await flow._scrub_some(connection, Redis(), id_)  # type: ignore[arg-type]
    assert sum("Ada" in row["facts"] for row in await world.rows("SELECT facts FROM event")) == 3
    gone = Redis()
    gone.gone = True
    assert await finish(world, gone) == 0
    assert await world.rows("SELECT state FROM erasure") == [{"state": "running"}]
    assert await finish(world) == 1
    assert not any("Ada" in row["facts"] for row in await world.rows("SELECT facts FROM event"))


# Packaging -------------------------------------------------------------------------------------------

FREE = {"waybill": "SF-ADA", "station": "near Ada", "proof": "Ada smiles"}
NOTE = {"attributes": {"note": "Ada rang", "ip": "10.0.0.1"}}


def brought(consumer: str | None, *assets: str, at: float = 2, **item: Any) -> dict[str, Any]:
    return returned(consumer, *assets, at=at, **(FREE | item)) | NOTE


async def recipients_earn(world: World) -> None:
    await world.rows(
        "WITH p AS (UPDATE program SET return_earner = 'recipient') UPDATE deployment SET catalogue_version = catalogue_version + 1"
    )


async def personal_facts(world: World) -> list[str]:
    """Of what of a return, a shipment or a declaration anything free is left, or what it looked like."""
    rows = await world.rows(
        "SELECT f.id, f.facts, r.request_hash FROM (SELECT number, id, facts FROM event UNION ALL SELECT number, id, facts FROM parked) f"
        " JOIN registry r ON r.number = f.number AND r.kind = 1 ORDER BY f.id"
    )
    return [row["id"] for row in rows if "ADA" in row["facts"].upper() or "h:" in row["facts"] or row["request_hash"] is not None]


@pytest.fixture
async def green(world: World) -> World:
    await world.campaign(code="back", action="return", award={"kind": "per_unit", "points": 50})
    await asset(world)
    return world


@pytest.mark.parametrize("scrubbed", [True, False], ids=["scrubbed", "at once"])
@pytest.mark.parametrize("of_box", [True, False], ids=["box", "single use"])
async def test_a_return_that_waits_never_counts_once_its_consumer_is_erased(green: World, *, scrubbed: bool, of_box: bool) -> None:
    early = brought("c", BOX) if of_box else brought("c")
    assert (await green.credit(early))["status"] == "parked"
    await green.credit(order_fact("o-1", "d" if of_box else "c"))
    account = await erase(green)
    if scrubbed:
        await finish(green)
        assert early["id"] not in await personal_facts(green)
    await green.send(fulfilled("o-1", BOX) if of_box else fulfilled("o-1", class_="paper_mailer"), knowledge=Knowledge())
    assert await pending(green, account) == 0
    assert await green.rows("SELECT id FROM parked") == [{"id": early["id"]}]
    assert (await green.rows("SELECT count(returned_event) AS n FROM trip"))[0]["n"] == 0
    await unharmed(green)


async def test_of_an_account_that_platforms_share_the_erased_name_takes_its_own_waiting_returns_along(green: World) -> None:
    early, theirs = brought("c", BOX), brought("m", "box2")
    await asset(green, "box2")
    await green.credit(early)
    account, market = (await accounts(green))["c"], green.platforms["market"].platform
    await green.rows("INSERT INTO consumer_reference VALUES ($1, 'm', $2, $3) RETURNING 1", market, account & 1023, account)
    await green.credit(theirs, "market")
    await erase(green)
    await finish(green)
    await green.send(order_fact("o-1", "d"), fulfilled("o-1", BOX, "box2"), knowledge=Knowledge())
    assert await pending(green, account) == 50
    assert await green.rows("SELECT id FROM parked") == [{"id": early["id"]}]


async def test_the_rest_of_a_return_that_counted_in_part_waits_no_more(green: World) -> None:
    await asset(green, "box2")
    await green.send(order_fact("o-1", "d"), fulfilled("o-1", BOX))
    assert (await green.credit(brought("c", BOX, "box2")))["points"] == 50
    account, market = (await accounts(green))["c"], green.platforms["market"].platform
    await green.rows("INSERT INTO consumer_reference VALUES ($1, 'm', $2, $3) RETURNING 1", market, account & 1023, account)
    await erase(green)
    await finish(green)
    await green.send(fulfilled("o-1", "box2"), knowledge=Knowledge())
    assert await pending(green, account) == 50
    assert await green.rows("SELECT 1 FROM waiting_return") == []
    await unharmed(green)


async def test_what_comes_back_from_who_was_erased_is_kept_without_anything_free(green: World) -> None:
    await green.send(order_fact("o-1", "c"), fulfilled("o-1", BOX))
    account = await erase(green)
    await finish(green)
    for event in (late := brought(None, BOX), wrong(late) | NOTE, again := brought(None, BOX, at=3)):
        await green.credit(event, "market")
    rows = await green.rows("SELECT id, account FROM event WHERE type IN ('packaging.returned', 'event.error_declared') ORDER BY number")
    assert rows == [{"id": id_, "account": account} for id_ in (late["id"], f"{late['id']}:wrong", again["id"])]
    assert await personal_facts(green) == []
    await unharmed(green)


async def test_a_declaration_about_who_was_erased_is_kept_without_anything_free(green: World) -> None:
    sent, back, waits = fulfilled("o-1", BOX), brought("c", BOX), brought("c", BOX, at=3)
    await green.send(order_fact("o-1", "c"), sent, back)
    assert (await green.credit(waits))["status"] == "parked"
    await erase(green)
    await finish(green)
    for event in (back, sent, waits):
        await green.credit(wrong(event) | NOTE)
    assert await personal_facts(green) == []
    await unharmed(green)


async def test_what_another_platform_reported_goes_with_the_last_name(green: World) -> None:
    await green.send(order_fact("o-1", "c"), fulfilled("o-1", BOX))
    back = brought(None, BOX)
    assert (await green.credit(back, "market"))["points"] == 50
    assert back["id"] in await personal_facts(green)
    await erase(green)
    await finish(green)
    assert await personal_facts(green) == []


@pytest.mark.parametrize("early", [True, False])
async def test_of_who_brings_back_for_another_nothing_free_is_kept(green: World, *, early: bool) -> None:
    """No erasure of theirs would find it: it is an event of the other's."""
    await recipients_earn(green)
    back = brought("c", BOX)
    shipment = [order_fact("o-1", "d"), fulfilled("o-1", BOX)]
    for events in [[back], shipment] if early else [shipment, [back]]:
        await green.send(*events)
    assert await pending(green, (await accounts(green))["d"]) == 50
    assert back["id"] not in await personal_facts(green)
    (outcome,) = await green.send(back)
    assert outcome.replayed
    await unharmed(green)


# Policy ----------------------------------------------------------------------------------------------


async def refuse(world: World, policy: Any = "refuse") -> None:
    async with world.pool.acquire() as connection:
        await vault.set_policy(connection, world.program, policy)


async def test_a_program_may_refuse_events_of_who_was_erased(world: World) -> None:
    await world.campaign()
    await refuse(world)
    await world.credit(order_paid("c"))
    await erase(world)
    outcomes = await world.send(order_paid("d"), order_paid("c"), order_paid("e"), knowledge=Knowledge())
    assert [None if o.error is None else o.error.code for o in outcomes] == [None, "consumer_erased", None]
    assert "c" not in str(outcomes[1].error and outcomes[1].error.errors[0].detail).split()
    assert sorted(await accounts(world)) == ["d", "e"]
    await refuse(world, "new_account")
    assert (await world.credit(order_paid("c")))["points"] == 10
    await refuse(world)
    assert (await world.credit(order_paid("c")))["points"] == 10, "known again, and not erased since"


async def test_nothing_is_kept_of_a_name_unless_the_program_refuses_it(world: World) -> None:
    await world.campaign()
    await world.credit(order_paid("c"))
    await erase(world)
    assert await world.rows("SELECT hash FROM erased_reference") == []


# Holds -----------------------------------------------------------------------------------------------


async def test_a_legal_hold_keeps_a_person(world: World) -> None:
    await world.campaign()
    await world.credit(order_paid("c"))
    await hold(world)
    with pytest.raises(InvalidState, match="legal hold"):
        await erase(world)
    assert list(await accounts(world)) == ["c"]
    sender = world.platforms["shop"]
    async with world.pool.acquire() as connection:
        await flow.lift_hold(connection, program=sender.program, platform=sender.platform, code="shop", reference="c", change=PLATFORM)
    await erase(world)
    assert await world.rows("SELECT reason FROM legal_hold") == []


async def test_an_erasure_waits_for_a_hold_that_is_just_being_placed(world: World) -> None:
    await world.campaign()
    await world.credit(order_paid("c"))
    sender = world.platforms["shop"]
    async with world.pool.acquire() as connection, connection.transaction():
        await flow.place_hold(
            connection, program=sender.program, platform=sender.platform, code="shop", reference="c", reason="a lawsuit", change=PLATFORM
        )
        erasing = await blocked(world, erase(world))
        assert not erasing.done()
    with pytest.raises(InvalidState, match="legal hold"):
        await erasing


# Races -----------------------------------------------------------------------------------------------


async def test_an_erasure_waits_for_credits_in_progress(world: World, slow: Slow) -> None:
    await world.campaign()
    await world.credit(order_paid("c"))
    async with slow.credits(order_paid("c")):
        erasing = await blocked(world, erase(world))
        assert not erasing.done()
    account = await erasing
    assert await pending(world, account) == 20
    await unharmed(world)


async def test_an_erasure_waits_for_a_fact_that_will_wait_for_its_order(world: World, slow: Slow) -> None:
    """It names somebody, and locks nothing of theirs."""
    await world.campaign()
    await world.credit(order_paid("c"))
    async with slow.credits(refund(order_paid("c"), "early", 1)):
        erasing = await blocked(world, erase(world))
        assert not erasing.done()
    await erasing
    await finish(world)
    assert await world.rows("SELECT FROM parked WHERE scrubbed_at IS NULL") == []


async def test_a_process_that_remembers_who_was_erased_does_not_credit_them(world: World) -> None:
    await world.campaign()
    other = Knowledge()
    await world.credit(order_paid("c"))
    await world.send(order_paid("c"), knowledge=other)
    assert list(other.references.values()) == list(world.knowledge.references.values())
    account = await erase(world)
    for knowledge in (world.knowledge, other):
        (outcome,) = await world.send(order_paid("c"), knowledge=knowledge)
        assert outcome.error is None
        assert account not in knowledge.references.values()
    assert await pending(world, account) == 20
    assert await pending(world, (await accounts(world))["c"]) == 20
    await unharmed(world)


@pytest.mark.parametrize("process", ["fresh", "that knows all"])
async def test_a_credit_that_waits_for_an_erasure_is_decided_anew(world: World, process: str) -> None:
    """It has resolved its account before it waits for the lock: its snapshot does not know of the erasure."""
    await world.campaign()
    await world.credit(order_paid("c"))
    async with world.pool.acquire() as connection, connection.transaction():
        sender = world.platforms["shop"]
        account = await flow.erase(
            connection, program=sender.program, platform=sender.platform, code="shop", reference="c", change=PLATFORM
        )
        crediting = await blocked(world, world.send(order_paid("c"), knowledge=Knowledge() if process == "fresh" else world.knowledge))
        assert not crediting.done()
    (outcome,) = await crediting
    assert json.loads(outcome.answer)["balance"] == {"pending": 10, "reserved": 0, "available": 0, "debt": 0, "version": 1}
    assert await pending(world, account) == 10
    await unharmed(world)


async def test_what_is_read_before_an_erasure_is_not_remembered_after_it(world: World) -> None:
    knowledge = Knowledge()
    knowledge.forget(1)
    knowledge.remember({(1, "c"): 7}, 0)
    assert not knowledge.references
    knowledge.remember({(1, "c"): 7}, 1)
    knowledge.forget(1)
    assert knowledge.references == {(1, "c"): 7}


async def test_credits_hammer_somebody_who_is_erased_again_and_again(world: World) -> None:
    """Every credit that begins after an erasure was answered lands on another account than the one that was erased."""
    await world.campaign()
    processes = [Knowledge() for _ in range(4)]
    erased: list[int] = []
    ended = asyncio.Event()
    wrong: list[Any] = []

    async def shop(knowledge: Knowledge) -> None:
        while not ended.is_set():
            gone = list(erased)
            before = await balances(world, gone)
            (outcome,) = await world.send(order_paid("c"), knowledge=knowledge)
            if outcome.error is not None or await balances(world, gone) != before:
                wrong.append((outcome, gone))

    async def forget() -> None:
        try:
            async with asyncio.timeout(30):
                while len(erased) < 12:
                    await asyncio.sleep(0.01)
                    with contextlib.suppress(NotFound):
                        erased.append(await erase(world))
        finally:
            ended.set()

    await asyncio.gather(forget(), *map(shop, processes))
    assert len(set(erased)) == 12
    assert wrong == []
    await unharmed(world)


async def test_credits_go_on_while_one_person_after_the_other_is_erased(world: World) -> None:
    """However many wait for the lock alone: a credit that was overtaken twice takes its turn before it looks for its account."""
    await world.campaign()
    crowd = [f"gone-{n}" for n in range(45)]
    await world.send(*(order_paid(name) for name in crowd))

    async def forget(names: list[str]) -> None:
        for name in names:
            await erase(world, name)

    async def shop(knowledge: Knowledge) -> None:
        for _ in range(5):
            (outcome,) = await world.send(order_paid("stays"), knowledge=knowledge)
            assert outcome.error is None

    await asyncio.gather(*(forget(crowd[n::3]) for n in range(3)), *(shop(Knowledge()) for _ in range(3)))
    assert await pending(world, (await accounts(world))["stays"]) == 150
    await unharmed(world)


async def balances(world: World, ids: list[int]) -> list[Any]:
    return [tuple(row.values()) for row in await world.rows("SELECT id, pending, version FROM account WHERE id = ANY($1) ORDER BY id", ids)]
