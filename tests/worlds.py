"""A small world: one program, two platforms, certified goods, and helpers that credit through the real flow."""

import copy
import itertools
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import msgspec

from schemas.campaigns import CampaignBody
from schemas.registries import CertificateBody, ProductBody
from service.domain.intake import Sender, read_fact
from service.flows import administer, campaigns, registries
from service.flows.administer import Change
from service.flows.knowledge import Knowledge
from service.flows.outcomes import Outcome
from service.flows.receive import receive
from tests.sealer import SEALER

CHANGE = Change()
HASH_KEY = b"k" * 32


class World:
    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self.pool = pool
        self.knowledge = Knowledge()
        self.program = 0
        self.platforms: dict[str, Sender] = {}
        self.keys: dict[str, str] = {}
        """API keys, by the platform's code."""
        self._numbers = itertools.count(1)

    def __deepcopy__(self, memo: dict[int, Any]) -> "World":
        """The same world in another database, whose pool is in `memo`; nothing of the campaigns is remembered."""
        copied = World(copy.deepcopy(self.pool, memo))
        copied.program, copied.platforms, copied.keys = self.program, dict(self.platforms), dict(self.keys)
        copied._numbers = copy.copy(self._numbers)
        return copied

    async def found(self, *, returns_compared: bool = True) -> "World":
        """A program with two platforms. Not `returns_compared`: single-use packaging earns whether it was sent or not."""
        async with self.pool.acquire() as conn:
            program = await administer.create_program(conn, code="green", name="Green", currency="leaves", time_zone="Asia/Shanghai")
            self.program = program.id
            for code in ("shop", "market"):
                self.keys[code] = (
                    await administer.create_platform(conn, sealer=SEALER, program=program.id, code=code, name=code.title())
                ).api_key
                platform = await administer.find_platform(conn, program=program.id, code=code)
                self.platforms[code] = Sender(program=program.id, platform=platform.id, platform_code=code)
            await self.certify(conn, "06901234567892", "TP-01", "paper")
            if not returns_compared:
                await conn.execute("UPDATE program SET return_window_days = NULL")
        return self

    async def certify(self, conn: Any, gtin: str, sku: str, category: str) -> None:
        skus = [{"platform": code, "sku": sku} for code in self.platforms]
        product = msgspec.convert({"gtin": gtin, "name": sku, "category": category, "skus": skus}, ProductBody)
        await registries.register_product(conn, product, program=self.program, change=CHANGE)
        number = f"IT/016/{next(self._numbers):03d}"
        certificate = msgspec.convert(
            {"scheme": "eu-ecolabel", "number": number, "holder": "Mill", "valid_from": "2025-01-01", "valid_until": "2029-12-31", "gtins": [gtin]},
            CertificateBody, strict=False,
        )  # fmt: skip
        await registries.register_certificate(conn, certificate, program=self.program, change=CHANGE)

    async def campaign(self, **changes: Any) -> str:
        code = changes.get("code") or f"camp-{next(self._numbers)}"
        body = {
            "code": code, "name": code, "action": "purchase", "starts_at": "2025-01-01T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z",
            "when": "line.certified", "award": {"kind": "per_unit", "points": 10}, "stacking": "add", "hold": "PT0S", "expires_after": "P12M",
        } | changes  # fmt: skip
        if body["action"] != "purchase" and "when" not in changes:
            del body["when"]
        async with self.pool.acquire() as conn:
            await campaigns.create(conn, msgspec.convert(body, CampaignBody), program=self.program, change=CHANGE)
            await campaigns.step(conn, code, "activate", program=self.program, change=CHANGE)
        return code

    async def send(self, *events: dict[str, Any], platform: str = "shop", knowledge: Knowledge | None = None) -> list[Outcome]:
        """Credit these events in one transaction."""
        sender = self.platforms[platform]
        facts = [read_fact(json.dumps(e).encode(), sender, now=datetime.now(UTC), hash_key=HASH_KEY) for e in events]
        async with self.pool.acquire() as conn:
            return (await receive(conn, facts, knowledge or self.knowledge)).outcomes

    async def credit(self, event: dict[str, Any], platform: str = "shop") -> dict[str, Any]:
        """Credit one event; its answer."""
        (outcome,) = await self.send(event, platform=platform)
        assert outcome.error is None, outcome.error
        answer: dict[str, Any] = json.loads(outcome.answer)
        return answer

    async def rows(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        async with self.pool.acquire() as conn:
            return [dict(r) for r in await conn.fetch(sql, *arguments)]


_orders = itertools.count(1)


def order_paid(
    consumer: str = "c-1", *, quantity: int = 1, price: str = "20.00", order: str | None = None, **changes: Any
) -> dict[str, Any]:
    order = order or f"o-{next(_orders)}"
    return {
        "id": f"{order}:paid", "type": "order.paid", "occurred_at": now(), "consumer": consumer,
        "order": {"id": order, "currency": "CNY", "total": str(Decimal(price) * quantity)},
        "lines": [{"id": "1", "sku": "TP-01", "gtin": "6901234567892", "quantity": str(quantity), "unit_price": price, "category": "x"}],
    } | changes  # fmt: skip


def refund(paid: dict[str, Any], name: str, quantity: int | None = None, amount: str | None = None) -> dict[str, Any]:
    body: dict[str, Any] = {"id": name}
    if quantity is not None:
        body["lines"] = [{"id": "1", "quantity": str(quantity)}]
    if amount is not None:
        body["amount"] = amount
    return {
        "id": f"{paid['order']['id']}:refund:{name}", "type": "order.refunded", "occurred_at": now(), "consumer": paid["consumer"],
        "order": {"id": paid["order"]["id"]}, "refund": body,
    }  # fmt: skip


def cancelled(paid: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"{paid['order']['id']}:cancelled", "type": "order.cancelled", "occurred_at": now(), "order": {"id": paid["order"]["id"]}}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


async def found_world(pool: "asyncpg.Pool[asyncpg.Record]") -> World:
    return await World(pool).found()
