"""A shop whose webhooks come in: signed deliveries on the real application, and what the log says of them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
from litestar import Litestar

from schemas.callers import HookCredentials
from service.domain import secrets
from service.flows import administer
from service.store import callers as store
from tests.sealer import SEALER
from tests.worlds import World, now


def signed(body: bytes, secret: str, delivery: str, at: float | None = None) -> dict[str, str]:
    """Headers of Standard Webhooks."""
    timestamp = str(int(time.time() if at is None else at))
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256)).decode()
    return {"webhook-id": delivery, "webhook-timestamp": timestamp, "webhook-signature": f"v1,{signature}"}


def refill(name: str, consumer: str = "a-person") -> dict[str, Any]:
    return {"id": name, "type": "activity.completed", "occurred_at": now(), "consumer": consumer, "activity": "refill", "evidence": {}}


def shopify_order(number: int, consumer: int = 77, **changes: Any) -> dict[str, Any]:
    return {
        "id": number, "financial_status": "paid", "currency": "CNY", "total_price": "40.00", "taxes_included": True,
        "processed_at": now(), "customer": {"id": consumer}, "note_attributes": [{"name": "Packaging", "value": "circular box"}],
        "line_items": [{"id": 1, "sku": "TP-01", "quantity": 2, "price": "20.00"}],
    } | changes  # fmt: skip


class Shop:
    """The platform `shop` of a world, its hooks, and operators of the world's program and of another one."""

    def __init__(self, app: Litestar, client: httpx.AsyncClient, world: World) -> None:
        self.app, self.client, self.world = app, client, world
        self.hooks: dict[str, HookCredentials] = {}
        self.tokens: dict[str, str] = {}

    async def found(self) -> "Shop":
        await self.world.found()
        await self.world.campaign(
            code="refills", action="activity", when="activity.name == 'refill'", award={"kind": "fixed", "points": 10}
        )
        await self.world.campaign(code="goods")
        async with self.world.pool.acquire() as conn:
            for made in await store.hooks(conn, self.world.platforms["shop"].platform, after="", limit=10):
                self.hooks[made.connector] = HookCredentials(id=made.id, secret=SEALER.open(made.secrets[0]))
            other = await administer.create_program(conn, code="other", name="Other", currency="x", time_zone="UTC")
            for name, role, program in (
                ("admin", "admin", self.world.program), ("viewer", "viewer", self.world.program), ("foreign", "admin", other.id),
                ("root", "admin", None),
            ):  # fmt: skip
                token = secrets.operator_token(name.encode().ljust(secrets.RANDOM_BYTES, b"."))
                row = await store.insert_operator(conn, program=program, email=f"{name}@example.com", password_hash="none", role=role)
                assert row is not None
                await store.insert_operator_token(conn, token_hash=secrets.token_hash(token), operator=row.id, expires_at=None)
                self.tokens[name] = token
        self.tokens |= self.world.keys
        return self

    async def deliver(
        self,
        content: Any,
        delivery: str = "msg_1",
        *,
        secret: str | None = None,
        at: float | None = None,
        more: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """A delivery to the hook `standard`, an event or any bytes as its body."""
        data = (
            content if isinstance(content, bytes) else json.dumps({"type": content["type"], "timestamp": now(), "data": content}).encode()
        )
        hook = self.hooks["standard"]
        return await self.client.post(
            f"/v1/hooks/{hook.id}", content=data, headers=signed(data, secret or hook.secret, delivery, at) | dict(more or {})
        )

    async def shopify(self, order: Any, topic: str = "orders/paid", delivery: str = "wh-1") -> httpx.Response:
        """A delivery to the hook `shopify`."""
        data = order if isinstance(order, bytes) else json.dumps(order).encode()
        hook = self.hooks["shopify"]
        proof = base64.b64encode(hmac.digest(hook.secret.encode(), data, hashlib.sha256)).decode()
        headers: Any = {"x-shopify-hmac-sha256": proof, "x-shopify-topic": topic.encode("latin-1"), "x-shopify-webhook-id": delivery}
        return await self.client.post(f"/v1/hooks/{hook.id}", content=data, headers=headers)

    async def set_packaging(self, class_: str) -> None:
        """What the shop's packaging attribute means, and every process knows."""
        settings = {"packaging": [{"from": "note_attribute", "name": "Packaging", "class": class_}]}
        path = f"/v1/platforms/shop/hooks/{self.hooks['shopify'].id}"
        answer = await self.call("PATCH", path, json={"settings": settings})
        assert answer.status_code == 200, answer.text
        self.app.state.callers.forget()

    async def call(self, method: str, path: str, who: str = "admin", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} | more.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **more)

    async def log(self, who: str = "admin", **search: Any) -> list[dict[str, Any]]:
        """What the log says, newest first, all of it written."""
        await self.app.state.deliveries.flush()
        answer = await self.call("GET", "/v1/deliveries", who, params=search)
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def balance(self, consumer: str) -> int:
        """All points of a consumer."""
        answer = await self.call("GET", f"/v1/consumers/{consumer}/balance", "shop")
        if answer.status_code == 404:
            return 0
        found = answer.json()
        return int(found["pending"]) + int(found["available"])
