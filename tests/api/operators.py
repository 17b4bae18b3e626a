"""Operators of two programs, as tests of the operator API call them."""

from secrets import token_bytes
from typing import Any

import httpx
from litestar import Litestar

from service.domain import secrets
from service.flows import administer
from service.store import callers as store
from service.store.connection import Connection
from tests.sealer import SEALER


class Operators:
    """The program `p` (Asia/Shanghai) with the platform `shop`, and the program `q` with `foreign`; calls by role.

    Roles: campaigns, viewer and fraud of `p`, `foreign`, the admin of `q`, and `shop`, the platform itself.
    """

    def __init__(self, client: httpx.AsyncClient, pool: Any) -> None:
        self.client, self.pool = client, pool
        self.program = self.platform = 0
        self.tokens: dict[str, str] = {}

    async def call(self, method: str, path: str, json: Any = None, *, role: str = "campaigns", **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[role]}"} | more.pop("headers", {})
        return await self.client.request(method, path, json=json, headers=headers, **more)

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        async with self.pool.acquire() as conn:
            return [tuple(row) for row in await conn.fetch(sql, *values)]


async def make_operators(app: Litestar, client: httpx.AsyncClient) -> Operators:
    made = Operators(client, app.state.resources.pool)
    async with made.pool.acquire() as conn:
        program = await administer.create_program(conn, code="p", name="P", currency="leaf", time_zone="Asia/Shanghai")
        made.tokens["shop"] = (await administer.create_platform(conn, sealer=SEALER, program=program.id, code="shop", name="Shop")).api_key
        other = await administer.create_program(conn, code="q", name="Q", currency="leaf", time_zone="UTC")
        await administer.create_platform(conn, sealer=SEALER, program=other.id, code="foreign", name="Foreign")
        made.program = program.id
        made.platform = (await administer.find_platform(conn, program=program.id, code="shop")).id
        for name, role in (("campaigns", "campaigns"), ("viewer", "viewer"), ("fraud", "fraud"), ("foreign", "admin")):
            made.tokens[name] = await _token(conn, name, role, other.id if name == "foreign" else program.id)
    return made


async def _token(conn: Connection, name: str, role: Any, program: int) -> str:
    """A token without a password that anybody could use: hashing one takes long on purpose."""
    token = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
    operator = await store.insert_operator(conn, program=program, email=f"{name}@example.com", password_hash="none", role=role)
    assert operator is not None
    await store.insert_operator_token(conn, token_hash=secrets.token_hash(token), operator=operator.id, expires_at=None)
    return token
