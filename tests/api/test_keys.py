"""Platform keys: checksums, sandboxes, replacing one without a gap, and when each was used."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar

from service.api.callers import Callers
from service.domain import secrets
from service.domain.errors import Unauthenticated
from service.flows import administer
from service.store import callers as store
from tests.api.operators import Operators
from tests.sealer import SEALER


@pytest.fixture
async def admin(operators: Operators) -> Operators:
    """Operators with an admin of `p`."""
    async with operators.pool.acquire() as conn:
        made = await administer.create_operator(conn, email="root@example.com", role="admin", program=operators.program)
    operators.tokens["admin"] = made.token
    return operators


@pytest.fixture
async def other_process(operators: Operators) -> Callers:
    """What another process knows of its callers."""
    callers = Callers(operators.pool, sealer=SEALER)
    await callers.refresh()
    return callers


async def key_rows(operators: Operators, admin: str = "admin") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await operators.call("GET", "/v1/platforms/shop/keys", role=admin)).json()["items"]
    return items


async def test_a_key_with_a_wrong_checksum_is_refused_without_asking_the_database(
    operators: Operators, monkeypatch: pytest.MonkeyPatch, other_process: Callers
) -> None:
    asked = []
    read = store.platform_by_key

    async def counted(conn: Any, key_hash: bytes) -> store.PlatformKey | None:
        asked.append(key_hash)
        return await read(conn, key_hash)

    monkeypatch.setattr(store, "platform_by_key", counted)
    key = operators.tokens["shop"]
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    with pytest.raises(Unauthenticated):
        await other_process.platform(f"Bearer {wrong}")
    assert asked == []
    assert (await other_process.platform(f"Bearer {key}")).code == "shop"
    assert len(asked) == 1


async def test_a_key_of_the_first_release_goes_on_until_it_is_revoked(admin: Operators, other_process: Callers) -> None:
    old = "gpk_live_" + base64.urlsafe_b64encode(b"\xfb" * 24).decode()
    async with admin.pool.acquire() as conn:
        row = await store.insert_key(
            conn, platform=admin.platform, key_hash=secrets.token_hash(old), hint=old[-4:], scopes=[], expires_at=None
        )
    assert (await other_process.platform(f"Bearer {old}")).code == "shop"
    assert (await admin.call("POST", f"/v1/platforms/shop/keys/{row.id}/revoke", role="admin")).status_code == 200
    await other_process.refresh()
    with pytest.raises(Unauthenticated):
        await other_process.platform(f"Bearer {old}")


async def test_a_sandbox_hands_out_test_keys_which_touch_nothing_live(operators: Operators, other_process: Callers) -> None:
    async with operators.pool.acquire() as conn:
        sandbox = await administer.create_program(conn, code="play", name="Play", currency="leaf", time_zone="UTC", sandbox=True)
        made = await administer.create_platform(conn, sealer=SEALER, program=sandbox.id, code="play-shop", name="Play")
        more = await administer.create_key(conn, program=sandbox.id, platform="play-shop")
        rotated = await administer.rotate_key(conn, platform="play-shop", keep_old=timedelta(hours=1))
    keys = [made.api_key, str(more.key), rotated]
    assert all(key.startswith("gpk_test_") for key in keys)
    assert operators.tokens["shop"].startswith("gpk_live_")
    for key in keys:
        caller = await other_process.platform(f"Bearer {key}")
        assert (caller.code, caller.program) == ("play-shop", sandbox.id)
    # Whatever is done to the tables: a test key opens no live program, and a live key no sandbox.
    await operators.pool.execute("UPDATE program SET sandbox = NOT sandbox")
    other_process.forget()
    for key in (*keys, operators.tokens["shop"]):
        with pytest.raises(Unauthenticated, match="sandbox"):
            await other_process.platform(f"Bearer {key}")


async def test_a_replaced_key_goes_on_until_its_chosen_end_and_the_new_one_works_at_once(admin: Operators, other_process: Callers) -> None:
    old = admin.tokens["shop"]
    now = datetime.now(UTC).timestamp()
    clock = [now]
    third_process = Callers(admin.pool, sealer=SEALER, clock=lambda: clock[-1])
    await third_process.refresh()
    for callers in (other_process, third_process):
        assert (await callers.platform(f"Bearer {old}")).code == "shop"
    (row,) = await key_rows(admin)
    path = f"/v1/platforms/shop/keys/{row['id']}/replace"
    made = await admin.call("POST", path, {"keep_old": "PT1H"}, role="admin")
    assert made.status_code == 201, made.text
    new = made.json()["key"]
    for callers in (other_process, third_process):
        assert (await callers.platform(f"Bearer {new}")).code == "shop"  # before any refresh
        await callers.refresh()
        assert (await callers.platform(f"Bearer {old}")).code == "shop"
    ends = datetime.fromisoformat((await key_rows(admin))[0]["expires_at"]).timestamp()
    assert 3_500 < ends - now < 3_700
    clock.append(ends)
    assert third_process.platform_cached(f"Bearer {old}") is None
    await admin.pool.execute("UPDATE api_key SET expires_at = now() WHERE id = $1", row["id"])
    with pytest.raises(Unauthenticated):
        await third_process.platform(f"Bearer {old}")
    assert (await admin.call("POST", path, {"keep_old": "PT1H"}, role="admin")).status_code == 409
    audited = (await admin.call("GET", "/v1/audit", role="foreign")).text
    assert "key.replace" not in audited


async def test_a_replacement_keeps_the_scopes_and_never_lengthens_a_life(admin: Operators) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    made = (await admin.call("POST", "/v1/platforms/shop/keys", {"scopes": ["events:read"], "expires_at": soon}, role="admin")).json()
    new = await admin.call("POST", f"/v1/platforms/shop/keys/{made['id']}/replace", {"keep_old": "P30D"}, role="admin")
    assert new.json()["scopes"] == ["events:read"]
    kept = next(row for row in await key_rows(admin) if row["id"] == made["id"])
    assert datetime.fromisoformat(kept["expires_at"]) == datetime.fromisoformat(soon)
    assert kept["revoked_at"] is None
    at_once = await admin.call("POST", f"/v1/platforms/shop/keys/{new.json()['id']}/replace", {"keep_old": "PT0S"}, role="admin")
    assert at_once.status_code == 201
    assert next(row for row in await key_rows(admin) if row["id"] == new.json()["id"])["revoked_at"]


async def test_a_replacement_is_refused_where_it_makes_no_sense(admin: Operators) -> None:
    (row,) = await key_rows(admin)
    for keep_old in ("P31D", "P1M", "PT99999999S", "soon", ""):
        answer = await admin.call("POST", f"/v1/platforms/shop/keys/{row['id']}/replace", {"keep_old": keep_old}, role="admin")
        assert answer.status_code == 422, keep_old
        assert answer.json()["errors"][0]["pointer"] == "/keep_old"
    assert (await admin.call("POST", f"/v1/platforms/foreign/keys/{row['id']}/replace", {}, role="admin")).status_code == 404
    assert (await admin.call("POST", "/v1/platforms/shop/keys/999999/replace", {}, role="admin")).status_code == 404
    assert (await admin.call("POST", f"/v1/platforms/shop/keys/{row['id']}/replace", {}, role="viewer")).status_code == 403
    assert len(await key_rows(admin)) == 1


async def test_rotating_from_the_command_line_keeps_the_old_keys_as_long_as_asked(admin: Operators, other_process: Callers) -> None:
    async with admin.pool.acquire() as conn:
        new = await administer.rotate_key(conn, platform="shop", keep_old=timedelta(hours=2))
    await other_process.refresh()
    for key in (new, admin.tokens["shop"]):
        assert (await other_process.platform(f"Bearer {key}")).code == "shop"
    old, fresh = await key_rows(admin)
    assert (old["revoked_at"], fresh["expires_at"]) == (None, None)
    assert old["expires_at"]


async def test_when_a_key_was_used_is_written_in_the_background_and_once_a_minute(admin: Operators, app: Litestar) -> None:
    callers: Callers = app.state.callers
    assert [row["last_used_at"] for row in await key_rows(admin)] == [None]
    assert (await admin.call("GET", "/v1/events", role="shop")).status_code == 200
    assert [row["last_used_at"] for row in await key_rows(admin)] == [None]  # nothing on the way of a request
    await callers.write_used()
    first = (await key_rows(admin))[0]["last_used_at"]
    assert first
    assert (await admin.call("GET", "/v1/events", role="shop")).status_code == 200  # known by now
    await callers.write_used()
    assert (await key_rows(admin))[0]["last_used_at"] == first
    await admin.pool.execute("UPDATE api_key SET last_used_at = last_used_at - interval '61 seconds'")
    await callers.write_used()  # nobody called since
    assert (await key_rows(admin))[0]["last_used_at"] < first
    assert (await admin.call("GET", "/v1/events", role="shop")).status_code == 200
    await callers.write_used()
    assert (await key_rows(admin))[0]["last_used_at"] >= first


async def test_when_a_key_was_used_is_not_lost_while_postgresql_is_away(admin: Operators, app: Litestar) -> None:
    callers: Callers = app.state.callers
    assert (await admin.call("GET", "/v1/events", role="shop")).status_code == 200
    async with asyncpg.create_pool("postgresql://nobody@127.0.0.1:1/none", min_size=0, max_size=2) as nowhere:
        callers._pool = nowhere
        await callers.write_used()
    callers._pool = admin.pool
    await callers.write_used()
    assert (await key_rows(admin))[0]["last_used_at"]


async def test_a_process_that_writes_waits_for_nobody(admin: Operators, client: httpx.AsyncClient, app: Litestar) -> None:
    assert (await admin.call("GET", "/v1/events", role="shop")).status_code == 200
    async with admin.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT * FROM api_key FOR UPDATE")
        await app.state.callers.write_used()
        assert app.state.callers._used_keys == set()  # it did not wait and give up, which would have kept them
    assert (await key_rows(admin))[0]["last_used_at"] is None
