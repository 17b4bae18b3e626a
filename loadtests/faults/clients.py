"""Callers: shops that report orders and take them back, consumers who read their balance, and, where it is served, spend points.

Each caller writes down what it is about to ask and what came of it. What is unknown is asked again under the same id or key until somebody
answers, or patience ends.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx

from loadtests.faults.journal import Event, Journal, Move, Outcome, Redemption
from loadtests.faults.nemesis import Nemesis

CONSUMERS = 24
POINTS_PER_UNIT = 10
ANSWER_S = 2.0
"""A caller waits no longer for one answer."""
PATIENCE_S = 45.0
"""A caller asks no longer for one outcome."""
BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.4)
BATCH = (5, 25)
SHORT, LONG = "PT3S", "PT30S"
"""How long reservations last: those that nobody means to end, and the others."""
REST_S = 0.1
"""Between two gifts, and between a link and its end."""
KEPT_ORDERS = 40
MAX_BROKEN = 50
REFUSALS = frozenset({"insufficient_points", "invalid_state", "not_found", "invalid_request"})
"""Codes of definite refusals of redemptions; any other 409 says that the first request is still running."""
LINK_REFUSALS = frozenset({"invalid_state", "not_found"})
"""Open reservations, linked already with more names, or nobody known by this name so far."""


class Answer:
    """What came of one request: a body, or nothing that can be relied on."""

    def __init__(self, outcome: Outcome, status: int, body: Any) -> None:  # noqa: ANN401 - decoded JSON
        self.outcome, self.status, self.body = outcome, status, body


class Callers:
    """All callers of a run."""

    def __init__(
        self, client: httpx.AsyncClient, journal: Journal, nemesis: Nemesis, *, key: str, operator: str, platform: str, sku: str, gtin: str,
        seed: int,
    ) -> None:  # fmt: skip
        self.journal = journal
        self.run = uuid.uuid4().hex[:6]
        self.versions: dict[str, int] = {}
        """Consumer → the newest version that anybody was told."""
        self.stopping = False
        self.reads = 0
        self.links = Counter[Outcome]()
        """Links and their ends, by what came of them."""
        self._client, self._nemesis, self._sku, self._gtin = client, nemesis, sku, gtin
        self._headers, self._operator = {"Authorization": f"Bearer {key}"}, {"Authorization": f"Bearer {operator}"}
        self._platform = platform
        self._random = random.Random(seed + 1)
        self._numbers = itertools.count(1)

    def consumer(self, n: int) -> str:
        """The name of one of the consumers."""
        return f"soak-{self.run}-{n % CONSUMERS}"

    # Asking

    async def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, json: object = None) -> Answer:
        """One request; 5xx, 429 and no answer at all leave the outcome unknown."""
        begun = time.monotonic()
        self.journal.requests += 1
        try:
            response = await self._client.request(method, path, json=json, headers=headers or self._headers, timeout=ANSWER_S)
            body = response.json() if response.content else None
        except (httpx.HTTPError, ValueError):
            return Answer("unknown", 0, None)
        if response.status_code in (200, 201):
            if method == "POST":  # a read may come from Redis while PostgreSQL is down
                self._nemesis.answered(begun)
            return Answer("ok", response.status_code, body)
        return Answer("unknown" if response.status_code >= 500 or response.status_code == 429 else "failed", response.status_code, body)

    def broken(self, words: str) -> None:
        """Write down what must never be."""
        if len(self.journal.broken) < MAX_BROKEN:
            self.journal.broken.append(words)

    # Events

    def _paid(self, n: int) -> dict[str, Any]:
        number = next(self._numbers)
        order, quantity = f"{self.run}-{number}", self._random.randint(1, 5)
        return {
            "id": f"{order}:paid", "type": "order.paid", "occurred_at": _now(), "consumer": self.consumer(n),
            "order": {"id": order, "currency": "CNY", "total": f"{quantity * 20}.00"},
            "lines": [{"id": "1", "sku": self._sku, "gtin": self._gtin, "quantity": str(quantity), "unit_price": "20.00"}],
        }  # fmt: skip

    def _took(self, event: dict[str, Any], points: int, answer: dict[str, Any], *, first: bool) -> None:
        """An event was acknowledged: it binds, and a repeat must say the same."""
        entry = self.journal.events[event["id"]]
        if entry.outcome == "ok" and entry.points != answer["points"]:
            self.broken(f"event {entry.id}: a repeat was answered {answer['points']} points, the first {entry.points}")
        if answer["points"] != points:
            self.broken(f"event {entry.id}: answered {answer['points']} points, it is worth {points}")
        if first and entry.attempts > 1:
            self.journal.resolved += 1
        entry.outcome, entry.points = "ok", answer["points"]
        version = answer["balance"]["version"]
        self.versions[entry.consumer] = max(version, self.versions.get(entry.consumer, 0))

    async def report(self, event: dict[str, Any], points: int) -> bool:
        """Report one event until its outcome is known; whether it was acknowledged."""
        entry = self.journal.events.setdefault(event["id"], Event(id=event["id"], consumer=event["consumer"]))
        end = time.monotonic() + PATIENCE_S
        while True:
            await self.journal.write("report", id=event["id"], points=points)
            entry.attempts += 1
            answer = await self.ask("POST", "/v1/events", json=event)
            await self.journal.write(answer.outcome, id=event["id"], status=answer.status, points=(answer.body or {}).get("points"))
            if answer.outcome == "ok":
                self._took(event, points, answer.body, first=entry.outcome != "ok")
                return True
            if answer.outcome == "failed":
                if entry.outcome == "ok":
                    self.broken(f"event {entry.id}: a repeat was refused: {answer.body}")
                elif entry.attempts == 1:
                    entry.outcome = "failed"  # a repeat's refusal says nothing about an earlier attempt
                return False
            if time.monotonic() > end:
                return False
            await asyncio.sleep(BACKOFF_S[min(entry.attempts, len(BACKOFF_S)) - 1])

    async def report_batch(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Report orders in one body, again while any outcome is unknown; those that were acknowledged."""
        for event in events:
            self.journal.events[event["id"]] = Event(id=event["id"], consumer=event["consumer"])
        end, attempt = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < end:
            attempt += 1
            await self.journal.write("report", ids=[event["id"] for event in events])
            answer = await self.ask("POST", "/v1/events/batch", json=events)
            results = answer.body["results"] if answer.outcome == "ok" else []
            acknowledged = {event["id"]: result["points"] for event, result in zip(events, results, strict=False) if "points" in result}
            await self.journal.write(answer.outcome, status=answer.status, acknowledged=acknowledged)
            for event in events:
                self.journal.events[event["id"]].attempts += 1
            for event, result in zip(events, results, strict=False):
                if "points" in result:
                    self._took(event, _worth(event), result, first=self.journal.events[event["id"]].outcome != "ok")
                elif result.get("status", 500) < 500 and attempt == 1:
                    self.journal.events[event["id"]].outcome = "failed"
            if all(self.journal.events[event["id"]].outcome != "unknown" for event in events):
                break
            await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1])
        return [event for event in events if self.journal.events[event["id"]].outcome == "ok"]

    async def shop(self, n: int) -> None:
        """One shop: orders one by one and in bodies, refunds, cancellations, and repeats of what it was answered before."""
        orders: list[tuple[dict[str, Any], int]] = []
        """What was paid, and the units that have not come back."""
        while not self.stopping:
            chance = self._random.random()
            if chance < 0.08:
                events = [self._paid(self._random.randrange(CONSUMERS)) for _ in range(self._random.randint(*BATCH))]
                orders += [(event, _units(event)) for event in await self.report_batch(events)]
            elif chance < 0.2 and orders:
                event, _ = self._random.choice(orders)
                await self.report(event, _worth(event))
            elif chance < 0.45 and orders:
                await self._take_back(orders)
            else:
                event = self._paid(n if self._random.random() < 0.5 else self._random.randrange(CONSUMERS))
                if await self.report(event, _worth(event)):
                    orders.append((event, _units(event)))
            del orders[:-KEPT_ORDERS]

    async def _take_back(self, orders: list[tuple[dict[str, Any], int]]) -> None:
        """Refund some units of an order, or cancel it."""
        paid, left = orders.pop(self._random.randrange(len(orders)))
        order = paid["order"]["id"]
        name = f"{next(self._numbers)}"
        fact = {"occurred_at": _now(), "consumer": paid["consumer"], "order": {"id": order}}
        if self._random.random() < 0.3:
            await self.report(fact | {"id": f"{order}:cancelled", "type": "order.cancelled"}, -left * POINTS_PER_UNIT)
            return
        units = self._random.randint(1, left)
        refund = {"id": name, "lines": [{"id": "1", "quantity": str(units)}]}
        done = await self.report(
            fact | {"id": f"{order}:refund:{name}", "type": "order.refunded", "refund": refund}, -units * POINTS_PER_UNIT
        )
        if done and left > units:
            orders.append((paid, left - units))

    # Reading

    async def read(self, n: int, token: str) -> None:
        """One consumer, who never reads anything older than what anybody was told before."""
        consumer, headers = self.consumer(n), {"Authorization": f"Bearer {token}"}
        while not self.stopping:
            known = self.versions.get(consumer, 0)
            answer = await self.ask("GET", f"/v1/me/balance?min_version={known}", headers=headers)
            self.reads += 1
            if answer.outcome == "ok":
                version = answer.body["version"]
                if version < known:
                    self.broken(f"{consumer} asked for version {known} and read {version}")
                self.versions[consumer] = max(version, self.versions.get(consumer, 0))
            elif answer.outcome == "failed":
                self.broken(f"{consumer} could not read: {answer.status} {answer.body}")
            await asyncio.sleep(0.01)

    # Spending

    async def spend(self, n: int) -> None:
        """One consumer's redemptions: reserved, captured whole or in part, cancelled, left to end by themselves, refunded."""
        while not self.stopping:
            redemption = Redemption(
                key=f"{self.run}-{next(self._numbers)}", consumer=self.consumer(n), points=self._random.randint(1, 30)
            )  # fmt: skip
            self.journal.redemptions[redemption.key] = redemption
            at_once, forgotten = self._random.random() < 0.3, self._random.random() < 0.15
            body = {"consumer": redemption.consumer, "points": redemption.points, "capture": at_once, "ttl": SHORT if forgotten else LONG}
            redemption.outcome, found = await self._step(redemption.key, "/v1/redemptions", body)
            if redemption.outcome != "ok":
                await asyncio.sleep(0.05)
                continue
            self._answered(redemption, found, captured=redemption.points if at_once else 0)
            if not at_once and not forgotten:
                if self._random.random() < 0.6:
                    part = self._random.randint(1, redemption.points)
                    await self._move(redemption, "capture", {"points": part}, captured=part)
                else:
                    await self._move(redemption, "cancel", None)
            if redemption.captured and self._random.random() < 0.3:
                back = self._random.randint(1, redemption.captured)
                await self._move(redemption, "refund", {"points": back}, captured=redemption.captured, refunded=back)

    async def _move(self, redemption: Redemption, step: str, body: object, *, captured: int = 0, refunded: int = 0) -> None:
        outcome, found = await self._step(f"{redemption.key}-{step}", f"/v1/redemptions/{redemption.id}/{step}", body)
        redemption.steps[step] = outcome
        if outcome == "ok":
            self._answered(redemption, found, captured=captured, refunded=refunded)

    def _answered(self, redemption: Redemption, found: dict[str, Any], *, captured: int, refunded: int = 0) -> None:
        """A step was acknowledged: it binds."""
        redemption.id, redemption.status, redemption.captured, redemption.refunded = found["id"], found["status"], captured, refunded
        if (found["captured"], found["refunded"]) != (captured, refunded):
            self.broken(
                f"redemption {redemption.id}: {found['captured']} captured and {found['refunded']} refunded, not {captured}, {refunded}"
            )

    # Giving

    async def give(self) -> None:
        """Consumers give each other points, and operators give and take some."""
        while not self.stopping:
            key, points = f"{self.run}-{next(self._numbers)}", self._random.randint(1, 15)
            one, other = (self.consumer(n) for n in self._random.sample(range(CONSUMERS), 2))
            chance = self._random.random()
            giver, taker = (one, other) if chance < 0.6 else (one, None) if chance < 0.8 else (None, other)
            move = self.journal.moves[key] = Move(key=key, giver=giver, taker=taker, points=points)
            if giver is not None and taker is not None:
                move.outcome, found = await self._step(key, f"/v1/consumers/{giver}/transfers", {"to": taker, "points": points})
            else:
                body = {"platform": self._platform, "consumer": taker or giver, "points": points if taker else -points, "reason": "Soak"}
                move.outcome, found = await self._step(key, "/v1/adjustments", body, self._operator)
            if move.outcome == "ok":
                move.id = found["id"]
            await asyncio.sleep(REST_S)

    # Linking

    def person(self, n: int) -> str:
        """Consumers come in pairs: two names that are linked and separated again. What both have together is what binds."""
        return f"soak-{self.run}-person-{n % CONSUMERS // 2}"

    async def link(self) -> None:
        """Two names of one person are linked, and separated again; whatever came of it, the points of both together stay the same."""
        while not self.stopping:
            one = 2 * self._random.randrange(CONSUMERS // 2)
            theirs, mine = (self.consumer(n) for n in self._random.sample((one, one + 1), 2))
            made = await self.ask("POST", f"/v1/consumers/{theirs}/link-codes")
            if made.outcome == "ok":
                joined = await self.ask("POST", f"/v1/consumers/{mine}/link", json={"code": made.body["code"]})
                self._linked(mine, joined, linked=True)
            await asyncio.sleep(self._random.uniform(0, 10 * REST_S))
            self._linked(mine, await self.ask("DELETE", f"/v1/consumers/{mine}/link"), linked=False)
            await asyncio.sleep(REST_S)

    def _linked(self, consumer: str, answer: Answer, *, linked: bool) -> None:
        self.links[answer.outcome] += 1
        if answer.outcome == "ok" and answer.body["linked"] is not linked:
            self.broken(f"{consumer} was answered to be {'separated' if linked else 'linked'}, and asked for the opposite")
        if answer.outcome == "failed" and (answer.body or {}).get("code") not in LINK_REFUSALS:
            self.broken(f"{consumer}: a link or its end was refused: {answer.status} {answer.body}")

    async def _step(self, key: str, path: str, body: object, headers: Mapping[str, str] | None = None) -> tuple[Outcome, Any]:
        """One write under its key until its outcome is known.

        A repeat's refusal says nothing about an earlier attempt, which may still lie before a process that is paused.
        """
        end, attempt = time.monotonic() + PATIENCE_S, 0
        while time.monotonic() < end:
            attempt += 1
            await self.journal.write("redeem", key=key, path=path, body=body)
            answer = await self.ask("POST", path, headers={**(headers or self._headers), "Idempotency-Key": key}, json=body)
            refused = answer.outcome == "failed" and (answer.body or {}).get("code") in REFUSALS
            outcome: Outcome = "unknown" if answer.outcome == "failed" and answer.status == 409 and not refused else answer.outcome
            await self.journal.write(outcome, key=key, status=answer.status)
            if outcome == "failed" and attempt > 1:
                return "unknown", None
            if outcome != "unknown":
                self.journal.resolved += attempt > 1
                return outcome, answer.body
            await asyncio.sleep(BACKOFF_S[min(attempt, len(BACKOFF_S)) - 1])
        return "unknown", None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _units(event: dict[str, Any]) -> int:
    return int(event["lines"][0]["quantity"])


def _worth(event: dict[str, Any]) -> int:
    return _units(event) * POINTS_PER_UNIT
