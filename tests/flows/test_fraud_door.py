"""What is held at the door while it is credited: listed things and bursts, by whichever process, and nothing of it settles."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from schemas.fraud_lists import ListEntryAnswer, ListEntryBody
from service.domain.errors import InvalidState
from service.domain.fraud.door import Door
from service.domain.intake import keyed_hash, read_fact
from service.flows import erase as erasing
from service.flows import fraud_lists, links
from service.flows.administer import Change
from service.flows.events import find_event
from service.flows.knowledge import Knowledge
from service.flows.receive import preview, receive
from service.flows.settle import settle_due
from service.projection import Projection
from service.store import credit
from service.store import fraud_lists as store
from tests import books
from tests.flows.test_locks import blocked
from tests.flows.test_packaging import fulfilled
from tests.worlds import HASH_KEY, World, order_paid

BY = Change(actor="operator:1")


def process(mode: Any = "enforce", **bounds: int) -> Knowledge:
    """What another process would know: nothing so far."""
    return Knowledge(door=Door(mode, **bounds))


@pytest.fixture
async def guarded(world: World) -> World:
    """With a campaign, and a process whose door is open."""
    await world.campaign()
    await world.campaign(action="packaging", award={"kind": "fixed", "points": 3})
    world.knowledge = process()
    return world


async def operator(world: World) -> int:
    (row,) = await world.rows(
        "INSERT INTO operator (program, email, password_hash, role) VALUES ($1, 'o@example.com', 'none', 'fraud') "
        "ON CONFLICT (email) DO UPDATE SET role = 'fraud' RETURNING id",
        world.program,
    )  # fmt: skip
    return int(row["id"])


async def add(world: World, list_: str = "block", *, connection: Any = None, **what: Any) -> ListEntryAnswer:
    by = await operator(world)
    body = msgspec.convert({"list": list_, "kind": "consumer", "reason": "seen before"} | what, ListEntryBody)
    known = {"program": world.program, "operator": by, "hash_key": HASH_KEY, "change": BY}
    if connection is not None:
        return await fraud_lists.add(connection, body, **known)
    async with world.pool.acquire() as conn:
        return await fraud_lists.add(conn, body, **known)


async def block(world: World, consumer: str = "c-1", **what: Any) -> ListEntryAnswer:
    return await add(world, platform="shop", consumer=consumer, **what)


async def remove(world: World, entry: ListEntryAnswer) -> None:
    async with world.pool.acquire() as conn:
        await fraud_lists.remove(conn, int(entry.id), program=world.program, change=BY)


async def status(world: World, event: dict[str, Any], knowledge: Knowledge | None = None) -> str:
    """The first answer's."""
    (outcome,) = await world.send(event, knowledge=knowledge)
    return str(json.loads(outcome.answer)["status"])


async def status_now(world: World, event: dict[str, Any]) -> str:
    sender = world.platforms["shop"]
    async with world.pool.acquire() as conn:
        found = await find_event(conn, platform=sender.platform, program=sender.program, id=event["id"])
    assert found is not None
    return found.status


async def hints(world: World) -> list[int]:
    return [row["hint"] for row in await world.rows("SELECT hint FROM screening ORDER BY event")]


async def settle(world: World, projection: Projection) -> int:
    return await settle_due(world.pool, projection, stripe=1, buckets=1_024, batch_events=1_000, screened=True)


def bought(consumer: str = "c-1", **attributes: Any) -> dict[str, Any]:
    return order_paid(consumer, attributes=attributes) if attributes else order_paid(consumer)


def at(minutes: float) -> str:
    return (datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(minutes=minutes)).isoformat()


# Lists


async def test_what_a_blocked_consumer_earns_is_held_and_does_not_settle(guarded: World, projection: Projection) -> None:
    first = bought()
    assert await status(guarded, first) == "pending"
    await block(guarded)
    held = bought()
    (outcome,) = await guarded.send(held)
    answer = json.loads(outcome.answer)
    assert (answer["status"], answer["points"], answer["balance"]["pending"]) == ("held", 10, 20)
    assert (await status_now(guarded, held), await hints(guarded)) == ("held", [0, 1])
    (again,) = await guarded.send(held)
    assert (again.replayed, again.answer) == (True, outcome.answer)
    # The judge lets the first one through, and has not come to the other.
    await guarded.rows("DELETE FROM screening WHERE hint = 0")
    assert (await settle(guarded, projection), await status_now(guarded, first)) == (1, "settled")
    await guarded.rows("UPDATE screening SET state = 1")
    assert (await settle(guarded, projection), await status_now(guarded, held)) == (0, "held")
    await guarded.rows("DELETE FROM screening")
    assert (await settle(guarded, projection), await status_now(guarded, held)) == (1, "settled")
    (repeated,) = await guarded.send(held)
    assert repeated.answer == outcome.answer
    async with guarded.pool.acquire() as conn:
        assert await books.faults(conn) == {}


@pytest.mark.parametrize("kind", ["device", "payment", "address", "ip"])
async def test_what_carries_a_blocked_thing_is_held(guarded: World, kind: str) -> None:
    await add(guarded, kind=kind, value="that one")
    assert await status(guarded, bought(**{kind: "that one"})) == "held"
    assert await status(guarded, bought("c-2", **{kind: "that one", "note": "x"})) == "held"
    others = {"device": "payment", "payment": "device", "address": "ip", "ip": "address"}
    assert await status(guarded, bought(**{kind: "another", others[kind]: "that one"})) == "pending"
    assert await status(guarded, bought()) == "pending"


async def test_a_thing_is_listed_by_its_hash_or_as_events_carry_it(guarded: World) -> None:
    place = {"street": "Elm", "number": 1}
    entry = await add(guarded, kind="address", value=place)
    assert entry.value == keyed_hash(place, HASH_KEY)
    assert await status(guarded, bought(address={"number": 1, "street": "Elm"})) == "held"
    hashed = keyed_hash("phone", HASH_KEY)
    assert (await add(guarded, kind="device", value=hashed)).value == hashed
    assert await status(guarded, bought(device="phone")) == "held"
    assert not any("Elm" in str(row) for row in await guarded.rows("SELECT * FROM fraud_list"))


async def test_every_process_follows_a_change_with_its_next_batch(guarded: World) -> None:
    one, other = process(), process()
    for knowledge in (one, other):
        assert await status(guarded, bought(), knowledge) == "pending"
    entry = await block(guarded)
    for knowledge in (one, other, process()):
        assert await status(guarded, bought(), knowledge) == "held"
    await remove(guarded, entry)
    for knowledge in (one, other, process()):
        assert await status(guarded, bought(), knowledge) == "pending"


async def test_lists_are_read_once_a_change(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    active = store.active

    async def counted(connection: Any, program: int) -> Any:
        read.append(program)
        return await active(connection, program)

    monkeypatch.setattr(store, "active", counted)
    for _ in range(3):
        await status(guarded, bought())
    assert read == [guarded.program]
    await block(guarded)
    for _ in range(3):
        await status(guarded, bought())
    assert read == [guarded.program] * 2


async def test_block_wins_over_allow(guarded: World) -> None:
    await guarded.send(bought())
    await add(guarded, "allow", platform="shop", consumer="c-1")
    await add(guarded, kind="device", value="stolen")
    assert await status(guarded, bought(device="stolen")) == "held"


async def test_an_entry_ends_by_the_database_s_clock(guarded: World) -> None:
    """The process remembers the entry; what counts is when it is decided."""
    await guarded.send(bought())
    until = datetime.now(UTC) + timedelta(days=1)
    await block(guarded, until=until.isoformat())
    assert await status(guarded, bought()) == "held"
    sender = guarded.platforms["shop"]
    fact = read_fact(json.dumps(bought()).encode(), sender, now=datetime.now(UTC), hash_key=HASH_KEY)
    async with guarded.pool.acquire() as conn:
        tried = [(await preview(conn, fact, guarded.knowledge, until + timedelta(seconds=s))).status for s in (-1, 0, 1)]
    assert tried == ["held", "pending", "pending"]
    # A process that reads the lists later does not even hear of it.
    await guarded.rows("UPDATE fraud_list SET until = now()")
    assert await status(guarded, bought(), process()) == "pending"


async def test_what_has_ended_makes_room_for_a_new_entry(guarded: World) -> None:
    await guarded.send(bought())
    old = await block(guarded, until=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    with pytest.raises(InvalidState, match=f"by the entry {old.id}:"):
        await block(guarded)
    await guarded.rows("UPDATE fraud_list SET until = now() - interval '1 second'")
    new = await block(guarded)
    async with guarded.pool.acquire() as conn:
        found = await store.page(conn, guarded.program, before=2**63 - 1, list_=None, kind=None, status=None, limit=10)
    assert [(str(e.number), e.status) for e in found] == [(new.id, "active"), (old.id, "expired")]


async def test_of_two_who_list_one_thing_at_once_one_is_told(guarded: World) -> None:
    await guarded.send(bought())
    async with guarded.pool.acquire() as connection:
        async with connection.transaction():
            await add(guarded, platform="shop", consumer="c-1", connection=connection)
            second = await blocked(guarded, add(guarded, "allow", platform="shop", consumer="c-1"))
            assert not second.done()
        with pytest.raises(InvalidState):
            await second
    assert len(await guarded.rows("SELECT FROM fraud_list")) == 1


async def test_the_lists_have_an_end(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fraud_lists, "MAX_ENTRIES", 2)
    entry = await add(guarded, kind="ip", value="1")
    await add(guarded, kind="ip", value="2")
    with pytest.raises(InvalidState, match="2 entries"):
        await add(guarded, kind="ip", value="3")
    await remove(guarded, entry)
    await add(guarded, kind="ip", value="3")


async def test_another_program_s_lists_hold_nothing(guarded: World) -> None:
    await guarded.rows(
        "INSERT INTO program (code, name, currency, time_zone) VALUES ('other', 'Other', 'x', 'UTC')"
    )  # fmt: skip
    await guarded.rows(
        "INSERT INTO fraud_list (number, program, list, kind, value, reason) "
        "SELECT nextval('number'), id, 'block', 'device', $1, 'theirs' FROM program WHERE code = 'other'",
        keyed_hash("phone", HASH_KEY),
    )
    assert await status(guarded, bought(device="phone")) == "pending"


async def test_what_earns_nothing_is_not_held(guarded: World) -> None:
    await guarded.send(bought())
    await block(guarded)
    refill = {"id": "r-1", "type": "activity.completed", "occurred_at": at(0), "consumer": "c-1", "activity": "refill"}
    assert await status(guarded, refill) == "ignored"
    assert await hints(guarded) == [0, 0]


async def test_what_waited_for_its_order_is_looked_at_when_it_counts(guarded: World) -> None:
    """Its stored attributes are hashes already."""
    await add(guarded, kind="device", value="scanner")
    sent = fulfilled("o-9", class_="paper_mailer") | {"attributes": {"device": "scanner"}}
    assert await status(guarded, sent) == "parked"
    paid = order_paid(order="o-9")
    assert await status(guarded, paid) == "pending"
    assert (await status_now(guarded, paid), await status_now(guarded, sent)) == ("pending", "held")


async def test_a_dry_run_says_held_and_leaves_no_trace(guarded: World) -> None:
    await guarded.send(bought())
    await block(guarded)
    guarded.knowledge = process(consumer_events=1)
    sender = guarded.platforms["shop"]

    async def tried(event: dict[str, Any]) -> str:
        fact = read_fact(json.dumps(event).encode(), sender, now=datetime.now(UTC), hash_key=HASH_KEY)
        async with guarded.pool.acquire() as conn:
            return (await preview(conn, fact, guarded.knowledge, None)).status

    assert await tried(bought()) == "held"
    assert [await tried(bought("c-2")) for _ in range(3)] == ["pending"] * 3
    assert await status(guarded, bought("c-2")) == "pending"
    assert await tried(bought("c-2")) == "held"
    assert await hints(guarded) == [0, 0]


async def test_a_linked_person_is_blocked_under_all_their_names(guarded: World) -> None:
    await guarded.send(bought("ada"))
    await guarded.send(bought("lovelace"), platform="market")
    shop, market = guarded.platforms["shop"], guarded.platforms["market"]
    async with guarded.pool.acquire() as conn:
        code = await links.make_code(conn, program=market.program, platform=market.platform, code="market", reference="lovelace", change=BY)
        await links.link(
            conn, program=shop.program, platform=shop.platform, code="shop", reference="ada", link_code=code.code, stripe=1, change=BY
        )  # fmt: skip
    await add(guarded, platform="market", consumer="lovelace")  # who has the points of both
    assert await status(guarded, bought("ada")) == "held"


# Bursts


async def test_a_burst_of_one_consumer_is_held_from_the_event_that_is_too_much(guarded: World) -> None:
    guarded.knowledge = process(consumer_events=3)
    answers = [await status(guarded, order_paid(occurred_at=at(n))) for n in range(5)]
    assert answers == ["pending"] * 3 + ["held"] * 2
    assert await hints(guarded) == [0, 0, 0, 2, 2]
    assert await status(guarded, order_paid("c-2", occurred_at=at(1))) == "pending"
    assert await status(guarded, order_paid(occurred_at=at(120))) == "pending"


async def test_a_burst_within_one_batch_is_one(guarded: World) -> None:
    guarded.knowledge = process(consumer_events=3)
    outcomes = await guarded.send(*(order_paid(occurred_at=at(n)) for n in range(5)))
    assert [json.loads(outcome.answer)["status"] for outcome in outcomes] == ["pending"] * 3 + ["held"] * 2


async def test_a_burst_of_one_device_is_held_whoever_it_is(guarded: World) -> None:
    guarded.knowledge = process(device_events=2)
    answers = [await status(guarded, bought(f"c-{n}", device="farm")) for n in range(3)]
    assert answers == ["pending", "pending", "held"]
    assert await status(guarded, bought("c-1", device="own")) == "pending"


async def test_repeats_and_what_is_rolled_back_count_for_no_burst(guarded: World, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.knowledge = process(consumer_events=1)
    await guarded.send(order_paid(occurred_at=at(0)))  # long ago: from then on the account is known
    with monkeypatch.context() as broken:
        broken.setattr(credit, "write", None)
        for _ in range(3):
            with pytest.raises(TypeError):
                await guarded.send(bought())
    first = bought()
    for _ in range(3):
        assert await status(guarded, first) == "pending"
    assert await status(guarded, bought()) == "held"


async def test_in_shadow_nothing_is_held_and_it_is_told(guarded: World) -> None:
    await guarded.send(bought())
    await block(guarded)
    shadow, off = process("shadow", consumer_events=1), process("off", consumer_events=1)
    sender = guarded.platforms["shop"]
    told = []
    for knowledge in (shadow, off):
        for consumer in ("c-1", "c-2", "c-2"):
            fact = read_fact(json.dumps(bought(consumer)).encode(), sender, now=datetime.now(UTC), hash_key=HASH_KEY)
            async with guarded.pool.acquire() as conn:
                received = await receive(conn, [fact], knowledge)
            told.append(received.at_door)
            assert json.loads(received.outcomes[0].answer)["status"] == "pending"
    assert told == [["block_list"], [], ["consumer_burst"], [], [], []]
    assert set(await hints(guarded)) == {0}


# Persons


async def test_what_was_listed_of_a_person_goes_with_them(guarded: World) -> None:
    sender = guarded.platforms["shop"]
    await guarded.send(bought())
    async with guarded.pool.acquire() as connection, connection.transaction():
        await add(guarded, platform="shop", consumer="c-1", connection=connection)

        async def erase() -> None:
            async with guarded.pool.acquire() as conn:
                await erasing.erase(
                    conn, program=sender.program, platform=sender.platform, code="shop", reference="c-1", change=BY
                )  # fmt: skip

        erased = await blocked(guarded, erase())
        assert not erased.done()
    await erased

    class Redis:
        async def forget(self, _: list[int]) -> bool:
            return True

    assert await erasing.finish_erasures(guarded.pool, Redis()) == 1  # type: ignore[arg-type]
    assert await guarded.rows("SELECT FROM fraud_list") == []


async def test_every_statement_fits_the_migrated_schema(world: World) -> None:
    async with world.pool.acquire() as conn:
        for name, statement in vars(store).items():
            if name.isupper() and not name.startswith("_") and isinstance(statement, str) and " " in statement:
                await conn.prepare(statement)
        await conn.prepare(credit.SET_HINTS)
