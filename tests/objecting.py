"""A shop whose consumers are under review, over HTTP: who is there, and what they ask."""

from datetime import timedelta
from typing import Any

import httpx
from litestar import Litestar

from service.flows import administer
from tests.api.operators import _token
from tests.deliveries import Shop
from tests.sealer import SEALER
from tests.worlds import World, order_paid

SAID = {"text": "It was my birthday.\nWe all bought soap."}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    """Operators analyst, fraud and second (of fraud); tokens of the consumers ada and bob of the shop, ada of the market."""
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    async with made.world.pool.acquire() as conn:
        for name, role in (("fraud", "fraud"), ("second", "fraud"), ("analyst", "analyst"), ("campaigns", "campaigns")):
            made.tokens[name] = await _token(conn, name, role, made.world.program)
        for platform, consumer in (("shop", "ada"), ("shop", "bob"), ("market", "ada")):
            made.tokens[f"{consumer} of {platform}"] = await administer.consumer_token(
                conn, sealer=SEALER, platform=platform, consumer=consumer, scope="balance:read", ttl=timedelta(hours=1)
            )
        made.tokens["ada who spends"] = await administer.consumer_token(
            conn, sealer=SEALER, platform="shop", consumer="ada", scope="redeem", ttl=timedelta(hours=1)
        )
    return made


async def bought(
    shop: Shop, consumer: str = "ada", *, quantity: int = 1, order: str | None = None, platform: str = "shop"
) -> dict[str, Any]:
    paid = order_paid(consumer, quantity=quantity, order=order)
    await shop.world.credit(paid, platform)
    return paid


async def number_of(shop: Shop, name: str) -> int:
    (row,) = await shop.world.rows("SELECT id FROM operator WHERE email = $1", f"{name}@example.com")
    return int(row["id"])


async def review(shop: Shop, who: str = "ada of shop", path: str = "/v1/me/activity") -> Any:
    """Of the newest event."""
    answer = await shop.call("GET", path, who)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"][0].get("review")


async def object_to(shop: Shop, id_: str, who: str = "ada of shop", body: Any = SAID) -> httpx.Response:
    path = f"/v1/me/events/{id_}/objection" if " of " in who else f"/v1/consumers/ada/events/{id_}/objection"
    return await shop.call("POST", path, who, json=body)


async def listed(shop: Shop, who: str = "fraud", **search: Any) -> list[dict[str, Any]]:
    answer = await shop.call("GET", "/v1/fraud/objections", who, params=search)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def answer_it(shop: Shop, state: str, who: str = "fraud", text: str = "We have looked.", id_: str | None = None) -> httpx.Response:
    id_ = id_ or (await listed(shop))[0]["id"]
    return await shop.call("POST", f"/v1/fraud/objections/{id_}/answer", who, json={"state": state, "answer": text})
