"""A process ends at each failpoint; the next one goes on, the caller repeats, and everything has happened exactly once.

`SCENARIOS` names, for each way to reach failpoints, which ones it reaches. A name of service/failpoints.py that stands in none fails.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from secrets import token_bytes
from typing import Any

import httpx
import pytest
from msgspec import Struct
from redis.asyncio import Redis

from schemas.adjustments import AdjustmentBody
from schemas.bounds import MAX_BALANCE
from schemas.causes import CauseBody
from schemas.fraud_lists import ListEntryBody
from service import failpoints
from service.domain import secrets
from service.flows import adjustments, causes, erase, fraud_lists, links, objections
from service.flows.administer import Change
from service.flows.redeem import Ask, redeem
from service.flows.settle import settle_due
from service.projection import Projection
from service.settings import Settings
from service.store import callers
from tests import books, fraud_cases, reviewing
from tests.forked import Forked
from tests.load import clean
from tests.redeeming import Catalogue
from tests.sealer import SEALER
from tests.spending import end_of
from tests.tampering import tamper
from tests.worlds import World, now, order_paid, refund

BY_SHOP = Change(actor="platform:shop")
GIVE_UP_S = 20.0
WATCH_S = 0.02

AFTER_COMMIT = {
    "receive.committed", "receive.pushed", "declare.committed", "openings.committed", "erase.committed", "redeem.committed",
    "repeats.committed", "links.committed", "links.pushed", "split.committed",
}  # fmt: skip
"""Whoever repeats then is told what came of the first time."""

_numbers = itertools.count(1)


class Sent(Struct, frozen=True, kw_only=True):
    """A request, and the answers that a caller may get who repeats it after its first sender heard nothing."""

    path: str
    json: Any = None
    method: str = "POST"
    token: str
    statuses: Sequence[int] = (200, 201)
    key: str | None = None
    """Its Idempotency-Key: the second repeat gets the answer to the first."""
    right: "Callable[[httpx.Response], Awaitable[None]] | None" = None
    """Sees whether it has happened exactly once, by what the repeat was answered and what is stored."""


class Stage:
    """A small world on a real PostgreSQL and Valkey; processes come and go."""

    def __init__(self, world: World, settings: Settings, projection: Projection, client: httpx.AsyncClient, folder: Path) -> None:
        self.world, self.projection = world, projection
        self._settings, self._client, self._folder = settings, client, folder
        self.operator = self.colleague = ""
        self.operators: list[int] = []

    async def open(self) -> None:
        """Campaigns, a reward with codes, a cause, transfers allowed, two administrators."""
        await self.world.rows(
            "INSERT INTO points_policy (program, version, effective_from, body, created_by) VALUES ($1, 1, now() - interval '1 day', $2, 'test')",
            self.world.program, '{"transfers": {"enabled": true}}',
        )  # fmt: skip
        await self.world.campaign(code="goods", hold="PT0S")
        await self.world.campaign(
            code="refills", action="activity", when="activity.name == 'refill'", award={"kind": "fixed", "points": 10}
        )
        await self.world.campaign(code="packed", action="packaging", award={"kind": "fixed", "points": 3})
        self.operator, self.colleague = [await self._administrator(f"o{n}@example.com") for n in range(2)]
        await Catalogue(self.world).reward(codes=[f"CODE-{n}" for n in range(20)], points=10)
        async with self.world.pool.acquire() as conn:
            await causes.create_cause(conn, CauseBody(code="trees", name="Trees"), program=self.world.program)

    async def _administrator(self, email: str) -> str:
        """Their token."""
        token = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
        async with self.world.pool.acquire() as conn:
            made = await callers.insert_operator(conn, program=self.world.program, email=email, password_hash="none", role="admin")
            assert made is not None
            await callers.insert_operator_token(conn, token_hash=secrets.token_hash(token), operator=made.id, expires_at=None)
        self.operators.append(made.id)
        return token

    @contextlib.asynccontextmanager
    async def process(self, module: str, armed: str = "", **more: str) -> AsyncIterator[Forked]:
        arm = {"FAILPOINTS": armed, "ENVIRONMENT": "test"} if armed else {}
        more = {"FRAUD_MODE": "enforce"} | more
        process = Forked(module, self._settings, self._folder / f"{module}.log", **arm, **more)
        try:
            await process.start()
            yield process
        finally:
            process.end()

    async def ask(self, process: Forked, sent: Sent) -> httpx.Response:
        key = {} if sent.key is None else {"Idempotency-Key": sent.key}
        headers = {"Authorization": f"Bearer {sent.token}"} | key
        return await self._client.request(sent.method, f"{process.url}{sent.path}", json=sent.json, headers=headers, timeout=10)

    def event(self, event: dict[str, Any], *statuses: int) -> Sent:
        return Sent(path="/v1/events", json=event, token=self.world.keys["shop"], statuses=statuses or (200, 201))

    async def settle(self) -> None:
        await settle_due(self.world.pool, self.projection, stripe=1, buckets=1_024, batch_events=1_000)

    async def erase(self, consumer: str) -> None:
        sender = self.world.platforms["shop"]
        async with self.world.pool.acquire() as conn:
            await erase.erase(
                conn, program=sender.program, platform=sender.platform, code="shop", reference=consumer, change=BY_SHOP
            )  # fmt: skip

    async def with_points(self, platform: str = "shop") -> str:
        """A consumer who has thirty points."""
        await self.world.credit(order_paid(consumer := somebody(), quantity=3), platform)
        await self.settle()
        return consumer

    async def reserved(self, consumer: str, **more: Any) -> str:
        """A redemption that is open; its id."""
        sender = self.world.platforms["shop"]
        ask = Ask(
            program=sender.program, platform=sender.platform, step="create", key=f"key-{next(_numbers)}", consumer=consumer,
            ttl=timedelta(minutes=15), **more,
        )  # fmt: skip
        async with self.world.pool.acquire() as conn:
            (outcome,) = (await redeem(conn, [ask], 1, sealer=SEALER)).outcomes
        assert outcome.error is None, outcome.error
        id_: str = json.loads(outcome.answer)["id"]
        return id_

    async def link_code(self, consumer: str, platform: str) -> str:
        """A code that stands for a consumer."""
        sender = self.world.platforms[platform]
        async with self.world.pool.acquire() as conn:
            made = await links.make_code(
                conn, program=sender.program, platform=sender.platform, code=platform, reference=consumer, change=BY_SHOP
            )  # fmt: skip
        return made.code

    async def linked(self) -> tuple[str, str]:
        """Two names of one person with thirty points each: the shop's, whose points the market's has."""
        mine, theirs = await self.with_points(), await self.with_points("market")
        sender = self.world.platforms["shop"]
        async with self.world.pool.acquire() as conn:
            await links.link(
                conn, program=sender.program, platform=sender.platform, code="shop", reference=mine,
                link_code=await self.link_code(theirs, "market"), stripe=1, change=BY_SHOP,
            )  # fmt: skip
        return mine, theirs

    async def proposed(self, consumer: str, points: int, reason: str = "Sorry") -> int:
        """An adjustment by the first operator; its number."""
        body = AdjustmentBody(platform="shop", consumer=consumer, points=points, reason=reason)
        async with self.world.pool.acquire() as conn:
            outcome = await adjustments.propose(
                conn, body, program=self.world.program, operator=self.operators[0], key=f"key-{next(_numbers)}", request_hash=b"x",
                change=BY_SHOP,
            )  # fmt: skip
        return int(outcome.answer.id)

    async def has(self, consumer: str, platform: str = "shop") -> int:
        """What a consumer can spend, or the one who has their points."""
        (row,) = await self.world.rows(
            """
            SELECT a.available FROM consumer_reference r JOIN account m ON m.id = r.account
            JOIN account a ON a.id = coalesce(m.home, m.id) WHERE r.reference = $1 AND r.platform = $2
            """,
            consumer, self.world.platforms[platform].platform,
        )  # fmt: skip
        return int(row["available"])

    async def account(self, consumer: str) -> int:
        """The account of one of the shop's consumers."""
        (row,) = await self.world.rows("SELECT account FROM consumer_reference WHERE reference = $1", consumer)
        return int(row["account"])

    async def sound(self) -> None:
        """The book adds up."""
        async with self.world.pool.acquire() as conn:
            assert await books.faults(conn) == {}


def somebody() -> str:
    return f"c-{next(_numbers)}"


# Requests: prepare, and what is sent -------------------------------------------------------------------


async def a_purchase(stage: Stage) -> Sent:
    return stage.event(order_paid(somebody(), quantity=2))


async def an_order_of_a_blocked_consumer(stage: Stage) -> Sent:
    await stage.world.credit(order_paid(consumer := somebody()))
    body = ListEntryBody(list_="block", kind="consumer", platform="shop", consumer=consumer, reason="farmed")
    async with stage.world.pool.acquire() as conn:
        await fraud_lists.add(conn, body, program=stage.world.program, operator=stage.operators[0], hash_key=b"", change=BY_SHOP)
    paid = order_paid(consumer)

    async def right(again: httpx.Response) -> None:
        assert again.json()["status"] == "held"
        hint = "SELECT s.hint FROM screening s JOIN event e ON e.bucket = s.bucket AND e.number = s.event WHERE e.id = $1"
        assert await stage.world.rows(hint, paid["id"]) == [{"hint": 1}]

    return Sent(path="/v1/events", json=paid, token=stage.world.keys["shop"], right=right)


async def packaging(stage: Stage) -> Sent:
    waybill = f"SF-{next(_numbers)}"
    return stage.event(order_paid(somebody()) | {"packaging": {"class": "ship_in_own_container", "parcels": 1, "waybill": waybill}})


async def a_refund_after_settlement(stage: Stage) -> Sent:
    paid = order_paid(somebody(), quantity=3)
    await stage.world.credit(paid)
    await stage.settle()
    return stage.event(refund(paid, "r", 1))


async def a_refund_before_its_order(stage: Stage) -> Sent:
    return stage.event(refund(order_paid(somebody()), "r", 1))


async def an_order_that_is_waited_for(stage: Stage) -> Sent:
    paid = order_paid(somebody(), quantity=3)
    await stage.world.credit(refund(paid, "r", 1))
    return stage.event(paid)


async def a_late_fact_of_who_was_erased(stage: Stage) -> Sent:
    paid = order_paid(consumer := somebody(), quantity=3)
    await stage.world.credit(paid)
    await stage.erase(consumer)
    return stage.event(refund(paid, "r", 1))


def refill(consumer: str) -> dict[str, Any]:
    return {
        "id": f"refill-{next(_numbers)}", "type": "activity.completed", "occurred_at": now(), "consumer": consumer,
        "activity": "refill", "evidence": {},
    }  # fmt: skip


def declared(wrong: str, name: str = "") -> dict[str, Any]:
    error = {"event": wrong, "reason": "did_not_occur"}
    return {"id": name or f"{wrong}:wrong", "type": "event.error_declared", "occurred_at": now(), "error": error}


async def a_declaration(stage: Stage) -> Sent:
    done = refill(somebody())
    await stage.world.credit(done)
    return stage.event(declared(done["id"]))


async def a_declaration_of_what_has_not_come(stage: Stage) -> Sent:
    return stage.event(declared(f"never-{next(_numbers)}"))


async def a_declaration_under_a_used_id(stage: Stage) -> Sent:
    first = declared(f"never-{next(_numbers)}")
    await stage.world.credit(first)
    return stage.event(declared(f"never-{next(_numbers)}", first["id"]), 409)


async def balances_taken_over(stage: Stage) -> Sent:
    """One that is taken, and one that would be too much."""
    consumer = somebody()
    rows = [{"id": f"opening-{next(_numbers)}", "consumer": consumer, "points": points, "expires_on": None} for points in (70, MAX_BALANCE)]
    return Sent(path="/v1/consumers/import", json=rows, token=stage.world.keys["shop"])


async def an_erasure(stage: Stage) -> Sent:
    await stage.world.credit(order_paid(consumer := somebody()))
    return Sent(method="DELETE", path=f"/v1/consumers/{consumer}", token=stage.world.keys["shop"], statuses=(204, 404))


def campaign(code: str) -> dict[str, Any]:
    return {
        "code": code, "name": code, "action": "purchase", "starts_at": "2025-01-01T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z",
        "award": {"kind": "fixed", "points": 1}, "hold": "P14D", "expires_after": "P12M",
    }  # fmt: skip


async def a_new_campaign(stage: Stage) -> Sent:
    return Sent(path="/v1/campaigns", json=campaign(f"camp-{next(_numbers)}"), token=stage.operator, statuses=(201,))


async def a_changed_campaign(stage: Stage) -> Sent:
    code = await stage.world.campaign()
    return Sent(method="PATCH", path=f"/v1/campaigns/{code}", json={"caps": {"consumer_day": 500}}, token=stage.operator, statuses=(200,))


async def a_paused_campaign(stage: Stage) -> Sent:
    code = await stage.world.campaign()
    return Sent(path=f"/v1/campaigns/{code}/pause", token=stage.operator, statuses=(200,))


def spending(stage: Stage, path: str, body: Any, right: Callable[[httpx.Response], Awaitable[None]], status: int = 201) -> Sent:
    return Sent(path=path, json=body, token=stage.world.keys["shop"], statuses=(status,), key=f"key-{next(_numbers)}", right=right)


async def a_donation(stage: Stage) -> Sent:
    consumer = await stage.with_points()
    (before,) = await stage.world.rows("SELECT coalesce(sum(points), 0) AS given FROM cause_total")

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["status"] == "captured"
        assert await stage.has(consumer) == 23
        assert len(await stage.world.rows("SELECT FROM redemption WHERE account = $1", await stage.account(consumer))) == 1
        (after,) = await stage.world.rows("SELECT sum(points) AS given FROM cause_total")
        assert after["given"] - before["given"] == 7

    return spending(stage, "/v1/redemptions", {"consumer": consumer, "points": 7, "capture": True, "cause": "trees"}, right)


async def a_reward_with_a_code(stage: Stage) -> Sent:
    consumer = await stage.with_points()

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["voucher"].startswith("CODE-")
        assert await stage.has(consumer) == 20
        (row,) = await stage.world.rows("SELECT count(*) AS codes FROM voucher WHERE account = $1", await stage.account(consumer))
        assert row["codes"] == 1

    return spending(stage, "/v1/redemptions", {"consumer": consumer, "reward": "cup", "capture": True}, right)


async def a_reward_that_is_given_back(stage: Stage) -> Sent:
    consumer = await stage.with_points()
    redemption = await stage.reserved(consumer, reward="cup")

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["status"] == "cancelled"
        assert await stage.has(consumer) == 30
        assert not await stage.world.rows("SELECT FROM voucher WHERE account = $1", await stage.account(consumer))

    return spending(stage, f"/v1/redemptions/{redemption}/cancel", None, right, 200)


async def a_link_code(stage: Stage) -> Sent:
    consumer = await stage.with_points()

    async def right(_: httpx.Response) -> None:
        assert len(await stage.world.rows("SELECT FROM link_code WHERE account = $1", await stage.account(consumer))) == 1

    return Sent(path=f"/v1/consumers/{consumer}/link-codes", token=stage.world.keys["shop"], statuses=(201,), right=right)


async def a_link(stage: Stage) -> Sent:
    mine, theirs = await stage.with_points(), await stage.with_points("market")
    await stage.world.credit(order_paid(mine))
    code = await stage.link_code(theirs, "market")

    async def right(_: httpx.Response) -> None:
        assert (await stage.has(mine), await stage.has(theirs, "market")) == (60, 60)
        assert len(await stage.world.rows("SELECT FROM account_link WHERE account = $1", await stage.account(mine))) == 1

    return Sent(path=f"/v1/consumers/{mine}/link", json={"code": code}, token=stage.world.keys["shop"], statuses=(200, 422), right=right)


async def an_order_of_a_linked_consumer(stage: Stage) -> Sent:
    mine, _ = await stage.linked()
    return stage.event(order_paid(mine))


async def a_split(stage: Stage) -> Sent:
    mine, theirs = await stage.linked()
    await stage.world.credit(order_paid(mine))

    async def right(_: httpx.Response) -> None:
        assert (await stage.has(mine), await stage.has(theirs, "market")) == (30, 30)

    return Sent(
        method="DELETE", path=f"/v1/consumers/{mine}/link", token=stage.world.keys["shop"], statuses=(200, 409), right=right
    )  # fmt: skip


async def an_adjustment(stage: Stage) -> Sent:
    consumer = await stage.with_points()

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["status"] == "done"
        assert await stage.has(consumer) == 37

    body = {"platform": "shop", "consumer": consumer, "points": 7, "reason": "Sorry"}
    return Sent(path="/v1/adjustments", json=body, token=stage.operator, statuses=(201,), key=f"key-{next(_numbers)}", right=right)


async def an_approval(stage: Stage) -> Sent:
    number = await stage.proposed(consumer := await stage.with_points(), 2_000)

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["status"] == "done"
        assert await stage.has(consumer) == 2_030

    return Sent(path=f"/v1/adjustments/{number}/approve", token=stage.colleague, statuses=(200,), right=right)


async def suspected(stage: Stage, **more: Any) -> tuple[str, int]:
    """A consumer with a refill that is held; the case."""
    await stage.world.credit(done := refill(consumer := somebody()))
    return consumer, await fraud_cases.hold(stage.world, done["id"], **more)


async def a_rejection(stage: Stage) -> Sent:
    consumer, case = await suspected(stage)

    async def right(answer: httpx.Response) -> None:
        assert [event["state"] for event in answer.json()["events"]] == ["rejected"]
        await is_rejected_once(stage, consumer)

    body = {"decision": "reject", "note": "a farm"}
    return Sent(path=f"/v1/fraud/cases/{case}/decision", json=body, token=stage.operator, statuses=(200,), right=right)


async def is_rejected_once(stage: Stage, consumer: str) -> None:
    (row,) = await stage.world.rows(
        """SELECT (SELECT sum(points - reversed) FROM award w WHERE w.account = $1) AS left,
                  (SELECT count(*) FROM event e WHERE e.account = $1) AS events,
                  (SELECT count(*) FROM outbox o WHERE o.account = $1) AS told,
                  (SELECT g.state FROM screening g JOIN fraud_case_event c USING (bucket, event) WHERE g.account = $1) AS mark""",
        await stage.account(consumer),
    )  # fmt: skip
    assert row == {"left": 0, "events": 2, "told": 1, "mark": 2}


async def a_withdrawal(stage: Stage) -> Sent:
    _, case = await suspected(stage)
    async with stage.world.pool.acquire() as conn:
        await conn.execute(
            """INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at)
               SELECT nextval('number'), program, fraud_case, 'reject', ARRAY[event], points, false, 'pending', $2, now()
               FROM fraud_case_event WHERE fraud_case = $1""",
            case, stage.operators[0],
        )  # fmt: skip
        await conn.execute("UPDATE fraud_case SET status = 'proposed' WHERE number = $1", case)

    async def right(answer: httpx.Response) -> None:
        assert [made["status"] for made in answer.json()["decisions"]] == ["withdrawn"]

    return Sent(path=f"/v1/fraud/cases/{case}/withdraw", token=stage.operator, statuses=(200,), right=right)


async def a_held_purchase(stage: Stage) -> tuple[dict[str, Any], str]:
    """Of somebody whom fraud checks suspect; and the path of an objection to it, for the platform."""
    paid = order_paid(consumer := somebody(), quantity=2)
    await stage.world.credit(paid)
    await reviewing.hold(stage.world, paid["id"])
    return paid, f"/v1/consumers/{consumer}/events/{paid['id']}/objection"


async def objected(stage: Stage, path: str) -> None:
    """As its platform says for the consumer."""
    _, _, _, consumer, _, event, _ = path.split("/")
    sender = stage.world.platforms["shop"]
    async with stage.world.pool.acquire() as conn:
        await objections.make(
            conn, program=sender.program, platform=sender.platform, reference=consumer, id=event, text="It was my birthday.", by=BY_SHOP
        )  # fmt: skip


async def an_objection(stage: Stage) -> Sent:
    paid, path = await a_held_purchase(stage)

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["state"] == "open"
        assert (await reviewing.states(stage.world, paid["id"]))["objection"] == "open"

    return Sent(path=path, json={"text": "It was my birthday."}, token=stage.world.keys["shop"], right=right)


async def an_answer_to(stage: Stage, paid: dict[str, Any], after: dict[str, Any], *, given: int) -> Sent:
    """An objection that is upheld by the first operator; what the event is then, and how many points were given back."""
    event = (await reviewing.event_of(stage.world, paid["id"]))["number"]

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["state"] == "upheld"
        assert await reviewing.states(stage.world, paid["id"]) == after
        assert await stage.has(paid["consumer"]) == given
        assert (
            len(await stage.world.rows("SELECT FROM audit WHERE subject = $1 AND action = 'objection.answer'", f"objection:{event}")) == 1
        )

    body = {"state": "upheld", "answer": "So it was."}
    return Sent(path=f"/v1/fraud/objections/{event}/answer", json=body, token=stage.operator, statuses=(200,), right=right)


async def an_upheld_objection_to_a_hold(stage: Stage) -> Sent:
    paid, path = await a_held_purchase(stage)
    await objected(stage, path)
    after = {"screening": None, "event": "approved", "case": "closed", "label": False, "objection": "upheld"}
    return await an_answer_to(stage, paid, after, given=0)


async def an_upheld_objection_to_a_rejection(stage: Stage) -> Sent:
    paid, path = await a_held_purchase(stage)
    await reviewing.reject(stage.world, paid, by=stage.operators[1])
    await objected(stage, path)
    after = {"screening": 2, "event": "rejected", "case": "closed", "label": False, "objection": "upheld"}
    return await an_answer_to(stage, paid, after, given=20)


async def a_transfer(stage: Stage) -> Sent:
    giver, taker = await stage.with_points(), await stage.with_points()

    async def right(_: httpx.Response) -> None:
        assert (await stage.has(giver), await stage.has(taker)) == (25, 35)

    return spending(stage, f"/v1/consumers/{giver}/transfers", {"to": taker, "points": 5}, right)


async def voucher_codes(stage: Stage) -> Sent:
    codes = [f"NEW-{next(_numbers)}" for _ in range(2)]

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["created"] == 2

    return Sent(path="/v1/rewards/cup/vouchers", json=codes, token=stage.operator, statuses=(200,), right=right)


async def a_policy(stage: Stage) -> Sent:
    days = 31 + next(_numbers) % 300

    async def right(answer: httpx.Response) -> None:
        assert answer.json()["next"]["warn_before_days"] == days
        assert len(await stage.world.rows("SELECT FROM points_policy WHERE body::jsonb ->> 'warn_before_days' = $1", str(days))) == 1

    return Sent(method="PATCH", path="/v1/points-policy", json={"warn_before_days": days}, token=stage.operator, right=right)


REQUESTS: dict[Callable[[Stage], Awaitable[Sent]], str] = {
    a_purchase: "receive.referenced receive.registered receive.opened receive.known receive.locked receive.read receive.decided "
    "receive.stored receive.picked_up receive.written receive.committed receive.pushed",
    packaging: "receive.claimed",
    a_refund_after_settlement: "receive.reversed receive.posted receive.lots_used",
    a_refund_before_its_order: "receive.parked",
    a_late_fact_of_who_was_erased: "receive.scrubbed",
    a_declaration: "declare.registered declare.read declare.written declare.forgotten declare.committed",
    a_declaration_of_what_has_not_come: "declare.unapplied",
    a_declaration_under_a_used_id: "declare.unregistered",
    balances_taken_over: "openings.referenced openings.registered openings.unregistered openings.posted openings.written "
    "openings.committed",
    an_erasure: "erase.erased erase.written erase.committed",
    a_donation: "redeem.opened redeem.locked redeem.decided redeem.posted redeem.written redeem.counted redeem.committed",
    a_reward_with_a_code: "rewards.taken rewards.held rewards.given",
    a_reward_that_is_given_back: "rewards.given_back",
    a_link_code: "links.code_made links.recorded",
    a_link: "links.code_taken links.referenced links.outrun links.posted links.pending_moved links.home_set links.caps_merged links.noted "
    "links.committed links.pushed",
    an_order_of_a_linked_consumer: "receive.homes_set",
    an_order_of_a_blocked_consumer: "receive.hinted",
    a_split: "split.posted split.pending_moved split.home_set split.caps_split split.ended split.committed",
    an_adjustment: "adjustments.posted adjustments.inserted adjustments.recorded",
    an_approval: "adjustments.decided",
    a_rejection: "fraud.decided fraud.marked fraud.status_set fraud.recorded fraud.reversed fraud.pushed",
    a_withdrawal: "fraud.withdrawn fraud.reopened",
    an_objection: "objections.made",
    an_upheld_objection_to_a_hold: "approvals.approved approvals.labelled objections.answered objections.recorded",
    an_upheld_objection_to_a_rejection: "objections.labelled objections.upheld",
    a_transfer: "transfers.posted transfers.inserted repeats.remembered repeats.committed",
    voucher_codes: "vouchers.loaded vouchers.recorded",
    a_policy: "policy.inserted policy.recorded policy.written",
    a_new_campaign: "campaigns.inserted campaigns.counted campaigns.recorded campaigns.written",
    a_changed_campaign: "campaigns.versioned",
    a_paused_campaign: "campaigns.stepped",
}  # fmt: skip
"""What a process of the API ends in."""


# Sweeps: prepare, and what is true once a worker has done it ---------------------------------------------


Done = Callable[[], Awaitable[bool]]


async def a_settlement(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody(), quantity=2))

    async def done() -> bool:
        rows = await stage.world.rows(
            "SELECT a.available, a.pending, (SELECT count(*) FROM entry e WHERE e.account = a.id) AS entries "
            "FROM account a JOIN consumer_reference r ON r.account = a.id WHERE r.reference = $1", consumer,
        )  # fmt: skip
        assert rows[0]["entries"] in (0, 2), "it settles once"
        return rows == [{"available": 20, "pending": 0, "entries": 2}]

    return done


async def scrubbing(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody(), attributes={"note": "for Ada"}))
    await stage.proposed(consumer, 5, reason="for Ada")
    await stage.world.rows(
        "INSERT INTO fraud_list (number, program, list, kind, value, reason) VALUES (nextval('number'), $1, 'allow', 'account', $2, 'for Ada')",
        stage.world.program, str(await stage.account(consumer)),
    )  # fmt: skip
    await stage.world.credit(refund(order_paid(consumer), "r", 1))
    await stage.settle()
    await stage.erase(consumer)

    async def done() -> bool:
        (row,) = await stage.world.rows(
            """
            SELECT (SELECT count(*) FROM erasure WHERE state <> 'done') AS running,
                   (SELECT count(*) FROM event WHERE facts::text LIKE '%Ada%')
                   + (SELECT count(*) FROM adjustment WHERE reason LIKE '%Ada%')
                   + (SELECT count(*) FROM fraud_list WHERE reason LIKE '%Ada%') AS seen
            """
        )
        return row == {"running": 0, "seen": 0}

    return done


async def old_deliveries(stage: Stage) -> Done:
    sender = stage.world.platforms["shop"]
    async with stage.world.pool.acquire() as conn:
        columns = {r["column_name"]: r for r in await conn.fetch(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'delivery' AND is_nullable = 'NO' "
            "AND column_default IS NULL AND is_identity = 'NO'"
        )}  # fmt: skip
        known = {"program": str(sender.program), "platform": str(sender.platform), "received_at": "now() - interval '1000 days'"}
        default = {"integer": "0", "smallint": "0", "bigint": "0", "text": "'x'", "bytea": "''::bytea", "boolean": "false", "ARRAY": "'{}'"}
        values = {name: known.get(name) or default.get(str(r["data_type"]), "now()") for name, r in columns.items()} | known
        await conn.execute(f"INSERT INTO delivery ({', '.join(values)}) VALUES ({', '.join(values.values())})")

    async def done() -> bool:
        return not await stage.world.rows("SELECT 1 FROM delivery WHERE received_at < now() - interval '900 days'")

    return done


async def old_events(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody(), attributes={"note": f"for {somebody()}"}))
    await stage.settle()
    await stage.world.rows(
        "UPDATE event e SET received_at = now() - interval '1000 days' FROM consumer_reference r WHERE r.account = e.account AND r.reference = $1",
        consumer,
    )

    async def done() -> bool:
        return not await stage.world.rows(
            "SELECT 1 FROM event WHERE facts::text LIKE '%note%' AND received_at < now() - interval '900 days'"
        )

    return done


async def what_fraud_checks_left(stage: Stage) -> Done:
    await stage.world.credit(paid := order_paid(somebody()))
    await reviewing.verdict(stage.world, await reviewing.event_of(stage.world, paid["id"]), outcome=1, days_ago=500)
    await reviewing.listed(stage.world, "device", f"hash-{next(_numbers)}", removed_days_ago=500)

    async def done() -> bool:
        return not await stage.world.rows("SELECT 1 FROM verdict WHERE judged_at < now() - interval '499 days'") and not (
            await stage.world.rows("SELECT 1 FROM fraud_list WHERE removed_at IS NOT NULL")
        )

    return done


async def a_missed_push(stage: Stage) -> Done:
    await stage.world.credit(order_paid(consumer := somebody()))
    (row,) = await stage.world.rows("SELECT account FROM consumer_reference WHERE reference = $1", consumer)

    async def done() -> bool:
        return await stage.projection.read(row["account"]) is not None

    return done


async def a_reservation_that_nobody_ends(stage: Stage) -> Done:
    redemption = await stage.reserved(consumer := await stage.with_points(), points=12)
    account = await stage.account(consumer)
    await stage.world.rows("UPDATE redemption SET expires_at = now() - interval '1 s' WHERE id = $1", redemption)
    await stage.world.rows("UPDATE reservation_due SET due_at = now() - interval '1 s' WHERE account = $1", account)
    await stage.world.rows("UPDATE reservation_due d SET due_at = r.expires_at FROM redemption r WHERE r.number = d.redemption")

    async def done() -> bool:
        (row,) = await stage.world.rows("SELECT status FROM redemption WHERE id = $1", redemption)
        transfers = await stage.world.rows("SELECT FROM transfer WHERE account = $1", account)
        assert len(transfers) <= 2, "reserved and released, once each"
        return (row["status"], len(transfers), await stage.has(consumer)) == ("expired", 2, 30)

    return done


async def an_adjustment_that_nobody_decides(stage: Stage) -> Done:
    number = await stage.proposed(await stage.with_points(), 2_000)
    await stage.world.rows("UPDATE adjustment SET open_until = now() - interval '1 s' WHERE number = $1", number)

    async def done() -> bool:
        (row,) = await stage.world.rows(
            "SELECT status, (SELECT count(*) FROM audit WHERE action = 'adjustment.expire' AND subject = $2) AS audited "
            "FROM adjustment WHERE number = $1",
            number,
            f"adjustment:{number}",
        )  # in one statement: two would see what is committed between them
        assert row["audited"] == (row["status"] == "expired")
        return bool(row["status"] == "expired")

    return done


async def a_case_past_its_deadline(stage: Stage) -> Done:
    consumer, case = await suspected(stage, deadline=timedelta(seconds=-1), at_deadline="reject")

    async def done() -> bool:
        (row,) = await stage.world.rows(
            """SELECT c.status, e.state, (SELECT count(*) FROM audit WHERE subject = $2) AS audited
               FROM fraud_case c JOIN fraud_case_event e ON e.fraud_case = c.number WHERE c.number = $1""",
            case, f"fraud_case:{case}",
        )  # fmt: skip
        ended = row["status"] == "closed"
        assert (row["state"], row["audited"]) == (("rejected", 1) if ended else ("held", 0))
        if ended:
            await is_rejected_once(stage, consumer)
        return ended

    return done


async def points_that_end(stage: Stage) -> Done:
    consumer = await stage.with_points()
    await end_of(stage.world, consumer, 3)
    account = await stage.account(consumer)

    async def done() -> bool:
        entries = await stage.world.rows("SELECT FROM entry WHERE account = $1 AND kind = 8", account)
        assert len(entries) in (0, 2), "they end once"
        return (len(entries), await stage.has(consumer)) == (2, 0)

    return done


async def points_that_end_soon(stage: Stage) -> Done:
    await end_of(stage.world, consumer := await stage.with_points(), -5)
    await stage.world.rows("DELETE FROM expiry_watch")
    account = await stage.account(consumer)

    async def done() -> bool:
        warned = await stage.world.rows("SELECT points FROM expiry_warning WHERE account = $1", account)
        watch = await stage.world.rows("SELECT FROM expiry_watch WHERE bucket = 1024 AND day <> '-infinity'")
        assert len(warned) <= 1, "once"
        return [row["points"] for row in warned] == [30] and len(watch) == 1

    return done


async def entries(stage: Stage) -> Done:
    """Some that sealing finds by their dates."""
    account = await stage.account(await stage.with_points())
    async with stage.world.pool.acquire() as conn:
        await tamper(conn, f"UPDATE entry SET at = at - interval '1 minute' WHERE account = {account}")
    await stage.world.rows("UPDATE proof_progress SET through = '2000-01-01' WHERE work = 'seal'")
    return sealed(stage, account)


async def entries_of_a_bucket(stage: Stage) -> Done:
    """Some that it finds because their bucket's turn has come."""
    account = await stage.account(await stage.with_points())
    await stage.world.rows("UPDATE proof_progress SET bucket = $1 WHERE work = 'seal'", account & 1023)
    return sealed(stage, account)


async def entries_of_another(stage: Stage) -> Done:
    """The same once more: a turn of its own."""
    return await entries_of_a_bucket(stage)


def sealed(stage: Stage, account: int) -> Done:
    async def done() -> bool:
        (row,) = await stage.world.rows(
            "SELECT (SELECT count(*) FROM entry WHERE account = $1) AS all, "
            "(SELECT coalesce(sum(last - first + 1), 0) FROM seal_part WHERE account = $1) AS sealed",
            account,
        )
        assert row["sealed"] in (0, row["all"]), "each in one block"
        return bool(row["sealed"] == row["all"])

    return done


async def a_verdict(stage: Stage) -> Done:
    paid = order_paid(somebody())
    await stage.world.credit(paid)

    async def done() -> bool:
        (row,) = await stage.world.rows(
            "SELECT (SELECT count(*) FROM verdict v WHERE v.event = e.number) AS verdicts, "
            "(SELECT count(*) FROM screening s WHERE s.event = e.number AND s.state = 0) AS waiting FROM event e WHERE e.id = $1", paid["id"],
        )  # fmt: skip
        assert row["verdicts"] <= 1, "once"
        return row == {"verdicts": 1, "waiting": 0}  # the one at which judges ended three times is held, whatever they ended of

    return done


async def a_hold(stage: Stage) -> Done:
    paid = order_paid(somebody())
    await stage.world.credit(paid)
    await stage.world.rows("UPDATE screening s SET hint = 1 FROM event e WHERE e.number = s.event AND e.id = $1", paid["id"])

    async def done() -> bool:
        rows = await stage.world.rows(
            "SELECT c.state, s.state AS screened FROM fraud_case_event c JOIN screening s USING (bucket, event) "
            "JOIN event e ON e.number = c.event WHERE e.id = $1", paid["id"],
        )  # fmt: skip
        return rows == [{"state": "held", "screened": 1}]

    return done


async def a_decision(stage: Stage) -> Done:
    paid = order_paid(somebody())
    await stage.world.credit(paid)
    (made,) = await stage.world.rows(
        """
        WITH o AS (
            INSERT INTO operator (email, password_hash, role) VALUES ($2, 'x', 'fraud') RETURNING id
        ), c AS (
            INSERT INTO fraud_case (number, program, ring, status, score, opened_at, updated_at, closed_at)
            SELECT nextval('number'), program, account, 'closed', 9000, now(), now(), now() FROM event WHERE id = $1 RETURNING number
        ), d AS (
            INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at, decided_at)
            SELECT nextval('number'), e.program, c.number, 'approve', ARRAY[e.number], e.points, true, 'done', o.id, now(), now()
            FROM event e, c, o WHERE e.id = $1 RETURNING number
        )
        INSERT INTO fraud_case_event (bucket, account, event, program, fraud_case, points, score, reasons, found, state, held_at, decided_at, decision)
        SELECT e.bucket, e.account, e.number, e.program, c.number, e.points, 9000, '[]', 'arrival', 'approved', now(), now(), d.number
        FROM event e, c, d WHERE e.id = $1 RETURNING decision
        """, paid["id"], f"{somebody()}@example.com",
    )  # fmt: skip

    async def done() -> bool:
        (row,) = await stage.world.rows("SELECT told_seq FROM fraud_decision WHERE number = $1", made["decision"])
        return row["told_seq"] is not None

    return done


SWEEPS: dict[Callable[[Stage], Awaitable[Done]], str] = {
    a_verdict: "judge.leased judge.asked judge.remembered judge.renewed judge.looked judge.begun judge.judged judge.held judge.moved judge.told judge.filed "
    "judge.freed judge.counted judge.written judge.committed judge.saved",
    a_hold: "judge.kept",
    a_decision: "judge.learnt",
    a_settlement: "settle.locked settle.settled settle.committed settle.pushed",
    scrubbing: "scrub.events scrub.noted scrub.parked scrub.reasons scrub.lists scrub.forgotten scrub.finished",
    old_deliveries: "forget.bodies",
    old_events: "retention.taken retention.scrubbed retention.noted retention.committed retention.caught_up retention.parked retention.exports",
    what_fraud_checks_left: "fraud_retention.verdicts fraud_retention.hours fraud_retention.reasons fraud_retention.words "
    "fraud_retention.outbox",
    a_missed_push: "mend.read mend.pushed",
    a_reservation_that_nobody_ends: "release.leased release.held release.released release.committed release.pushed",
    an_adjustment_that_nobody_decides: "adjustments.expired",
    a_case_past_its_deadline: "fraud.expired fraud.concluded fraud.told fraud.closed fraud.noted fraud.committed",
    points_that_end: "expire.leased expire.locked expire.held expire.expired expire.committed expire.pushed",
    points_that_end_soon: "warn.started warn.warned warn.through",
    entries: "seal.dated seal.through seal.committed",
    entries_of_a_bucket: "seal.buckets",
    entries_of_another: "seal.turned",
}  # fmt: skip
"""What a worker ends in."""


def test_every_failpoint_is_reached_by_a_scenario() -> None:
    named = [name for names in (*REQUESTS.values(), *SWEEPS.values()) for name in names.split()]
    assert sorted(named) == sorted(failpoints.NAMES)


@pytest.fixture
async def stage(world: World, settings: Settings, tmp_path: Path) -> AsyncIterator[Stage]:
    async with httpx.AsyncClient() as client, Redis.from_url(settings.balance_redis_url) as redis:
        made = Stage(world, settings, Projection(redis, epoch=1, ttl_s=600, wait_ms=2_000), client, tmp_path)
        await made.open()
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)  # a process starts and ends for each name; some 20 s on a quiet machine
async def test_an_api_process_ends_in_the_middle(stage: Stage) -> None:
    async with stage.process("service.api") as other:
        for prepare, names in REQUESTS.items():
            for name in names.split():
                await ends_at(stage, name, await prepare(stage), other)
    await settled_and_clean(stage)


async def ends_at(stage: Stage, name: str, sent: Sent, other: Forked) -> None:
    """A process ends there, its caller hears nothing and repeats, another process answers."""
    async with stage.process("service.api", name) as victim:
        with pytest.raises(httpx.TransportError):
            await stage.ask(victim, sent)
        assert await victim.ended() == failpoints.EXIT_CODE, name
    first = await stage.ask(other, sent)
    end = time.monotonic() + GIVE_UP_S
    while first.status_code == 409 and first.json()["code"] == "idempotency_key_in_use" and time.monotonic() < end:
        first = await stage.ask(other, sent)  # PostgreSQL has yet to notice that whoever held the key is gone
    assert first.status_code in sent.statuses, (name, first.text)
    if sent.path == "/v1/events" and first.status_code != 409:
        assert (first.status_code == 200) is (name in AFTER_COMMIT), name
        again = await stage.ask(other, sent)
        assert (again.status_code, again.content) == (200, first.content), name
        assert again.headers["Idempotency-Replayed"] == "true"
        rows = await stage.world.rows(
            "SELECT points FROM event WHERE id = $1 UNION ALL SELECT 0 FROM parked WHERE id = $1", sent.json["id"]
        )
        assert [row["points"] for row in rows] == [first.json()["points"]], name
    elif sent.path == "/v1/consumers/import":
        taken = "duplicate" if name in AFTER_COMMIT else "created"
        assert [result["status"] for result in first.json()["results"]] == [taken, "rejected"], name
        found = await stage.world.rows("SELECT points FROM opening WHERE id = $1", sent.json[0]["id"])
        assert [row["points"] for row in found] == [sent.json[0]["points"]], name
    elif sent.key is not None:
        assert (first.headers.get("Idempotency-Replayed") == "true") is (name in AFTER_COMMIT), name
        again = await stage.ask(other, sent)
        assert (again.status_code, again.content, again.headers["Idempotency-Replayed"]) == (first.status_code, first.content, "true"), name
    elif len(sent.statuses) > 1 and sent.right is not None and name.startswith(("links.", "split.")):
        assert first.status_code == sent.statuses[0], f"{name}: a repeat is answered as at first"
    elif sent.method == "DELETE":
        assert first.status_code == (404 if name in AFTER_COMMIT else 204), "erased, whole or not at all"
    if sent.right is not None:
        await sent.right(first)
    await stage.sound()


async def settled_and_clean(stage: Stage) -> None:
    """A worker brings what is left to its end, and every invariant holds, Redis included."""
    async with stage.process("workers"):
        await clean(stage.world, stage.projection)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_worker_ends_in_the_middle(stage: Stage) -> None:
    for prepare, names in SWEEPS.items():
        left: list[tuple[str, Done]] = []
        for name in names.split():
            left.append((name, await prepare(stage)))
            async with stage.process("workers", name) as victim:
                assert await victim.ended() == failpoints.EXIT_CODE, name
            await stage.sound()
            await stage.world.rows("UPDATE lease SET until = '-infinity'")  # as if the ten seconds of who ended were over
        async with stage.process("workers"):  # one that goes on after all of them
            end = time.monotonic() + GIVE_UP_S
            for name, done in left:
                while not await done():
                    assert time.monotonic() < end, name
                    await asyncio.sleep(WATCH_S)
        await stage.sound()
    await settled_and_clean(stage)
