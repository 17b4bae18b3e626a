"""Collection stations over HTTP: registering them, their keys, their one-time tokens, and what they report."""

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar

from schemas.events import PackagingReturned, Return
from schemas.stations import StationBody
from service.api.callers import Callers, StationCaller
from service.domain import secrets, tokens
from service.domain.errors import Unauthenticated
from service.domain.stations import Refused, Station, Token, judge, verify_proof
from service.flows import administer
from service.flows import stations as flow
from service.sealing import Sealer, new_master_key
from service.settings import Settings
from service.store import stations as store
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.sealer import SEALER
from tests.worlds import World

HOURS = {"mon": [["08:00", "12:00"], ["14:00", "20:00"]], "fri": [["22:00", "02:00"]], "exceptions": {"2026-12-25": []}}


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    made = await Shop(app, client, World(app.state.resources.pool)).found()
    await made.world.rows("UPDATE program SET return_window_days = NULL")
    await made.world.campaign(code="boxes", action="return", when="item.class == 'foam_box'", award={"kind": "per_unit", "points": 30})
    return made


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


@pytest.fixture
async def corner(shop: Shop) -> Shop:
    """With a station of the platform `shop` and one of the whole program; whoever calls is called like them."""
    for code, platform in (("corner", "shop"), ("plaza", None)):
        shop.tokens[code] = (await create(shop, code=code, platform=platform))["api_key"]
    return shop


async def create(shop: Shop, **changes: Any) -> dict[str, Any]:
    answer = await shop.call("POST", "/v1/stations", json={"code": "corner", "name": "Corner"} | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def station_of(shop: Shop, code: str = "corner") -> Station:
    async with shop.world.pool.acquire() as conn:
        return (await store.read_stations(conn, program=shop.world.program, codes=[code]))[code]


async def other_process(shop: Shop) -> Callers:
    callers = Callers(shop.world.pool, sealer=SEALER)
    await callers.refresh()
    return callers


async def known(callers: Callers, key: str) -> StationCaller | None:
    await callers.refresh()
    try:
        return await callers.station(f"Bearer {key}")
    except Unauthenticated:
        return None


# Registering


async def test_a_station_is_shown_as_it_was_registered_its_key_once(shop: Shop) -> None:
    plain = await create(shop)
    key = plain.pop("api_key")
    assert secrets.is_station_key(key)
    assert plain | {"created_at": ""} == {
        "code": "corner", "name": "Corner", "platform": None, "time_zone": "Asia/Shanghai", "location": None, "opening_hours": None,
        "classes": None, "max_units": None, "max_mass_g": None, "needs_proof": True, "proof_life_s": 120, "late_h": 72, "active": True,
        "created_at": "",
    }  # fmt: skip
    given = {
        "code": "a-depot", "name": "Depot", "platform": "shop", "time_zone": "Europe/Berlin", "location": "behind the hall", "opening_hours": HOURS,
        "classes": ["foam_box", "circular_box", "circular_box"], "max_units": "500", "max_mass_g": 20_000, "needs_proof": False, "proof_life_s": 60,
        "late_h": 24,
    }  # fmt: skip
    made = await create(shop, **given)
    assert made.pop("api_key") != key
    assert {name: made[name] for name in given} == given | {"classes": ["circular_box", "foam_box"], "max_mass_g": "20000"}
    assert (await shop.call("GET", "/v1/stations/a-depot", "viewer")).json() == made
    first = (await shop.call("GET", "/v1/stations?limit=1", "viewer")).json()
    assert first["items"] == [made]
    assert (await shop.call("GET", f"/v1/stations?limit=1&cursor={first['next_cursor']}", "viewer")).json() == {
        "items": [plain],
        "next_cursor": None,
    }


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"time_zone": "Asia/Atlantis"}, "/time_zone"),
        ({"time_zone": "../../etc/passwd"}, "/time_zone"),
        ({"time_zone": "Asia"}, "/time_zone"),
        ({"platform": "nowhere"}, "/platform"),
        ({"platform": "a-foreign-shop"}, "/platform"),
        ({"opening_hours": {"mon": [["08:00", "08:00"]]}}, "/opening_hours/mon/0/1"),
        ({"opening_hours": {"exceptions": {"2026-02-30": []}}}, "/opening_hours/exceptions/2026-02-30"),
        ({"opening_hours": {"monday": []}}, "/opening_hours"),
        ({"max_units": -1}, "/max_units"),
        ({"max_units": 1.5}, "/max_units"),
        ({"max_mass_g": "NaN"}, "/max_mass_g"),
        ({"max_mass_g": "1e9"}, "/max_mass_g"),
        ({"late_h": 0}, "/late_h"),
        ({"proof_life_s": 9}, "/proof_life_s"),
        ({"classes": ["Circular Box"]}, "/classes/0"),
        ({"location": "a\u0007b"}, "/location"),
        ({"name": "a\u2028b"}, "/name"),
        ({"code": "me"}, "/code"),
        ({"code": "Corner 1"}, "/code"),
    ],
)
async def test_what_is_wrong_is_pointed_at_and_changes_nothing(shop: Shop, changes: dict[str, Any], pointer: str) -> None:
    async with shop.world.pool.acquire() as conn:
        other = await administer.choose_program(conn, "other")
        await administer.create_platform(conn, sealer=SEALER, program=other.id, code="a-foreign-shop", name="Foreign")
    await create(shop)
    for method, path, body in (("POST", "/v1/stations", {"code": "new", "name": "New"}), ("PATCH", "/v1/stations/corner", {})):
        if method == "PATCH" and changes.keys() & {"code", "platform"}:
            continue  # those stay as they are
        answer = await shop.call(method, path, json=body | changes)
        assert answer.status_code == 422, answer.text
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert await shop.world.rows("SELECT code FROM station") == [{"code": "corner"}]
    assert [row["action"] for row in await shop.world.rows("SELECT action FROM audit WHERE subject LIKE 'station:%'")] == ["station.create"]


async def test_a_code_is_taken_once_in_a_program_and_free_in_another(shop: Shop) -> None:
    await create(shop)
    assert (await shop.call("POST", "/v1/stations", json={"code": "corner", "name": "Again"})).status_code == 409
    assert (await shop.call("POST", "/v1/stations", "foreign", json={"code": "corner", "name": "Theirs"})).status_code == 201
    assert (await shop.call("GET", "/v1/stations/corner", "foreign")).json()["name"] == "Theirs"
    assert (await shop.call("GET", "/v1/stations/corner")).json()["name"] == "Corner"


async def test_a_patch_changes_what_it_names_null_lifts_and_code_and_platform_stay(shop: Shop) -> None:
    before = await create(shop, platform="shop", opening_hours=HOURS, max_units=10, classes=["foam_box"], location="here")
    del before["api_key"]
    patch = {
        "opening_hours": None,
        "max_units": None,
        "classes": None,
        "location": None,
        "name": "Better",
        "code": "x",
        "platform": "market",
    }
    after = (await shop.call("PATCH", "/v1/stations/corner", json=patch)).json()
    assert after == before | {"opening_hours": None, "max_units": None, "classes": None, "location": None, "name": "Better"}
    assert (await shop.call("PATCH", "/v1/stations/corner", json={})).json() == after
    rows = await shop.world.rows("SELECT before, after FROM audit WHERE action = 'station.change'")
    assert len(rows) == 1, "what changes nothing is no change"
    assert json.loads(rows[0]["before"])["max_units"] == "10"
    for who, status in (("viewer", 403), ("foreign", 404), ("shop", 403)):
        assert (await shop.call("PATCH", "/v1/stations/corner", who, json={"name": "Mine"})).status_code == status
    assert (await shop.call("PATCH", "/v1/stations/nowhere", json={})).status_code == 404


async def test_a_change_waits_for_the_credits_that_are_being_decided(shop: Shop) -> None:
    await create(shop)
    async with shop.world.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock_shared(7305)")
        waiting = asyncio.create_task(shop.call("PATCH", "/v1/stations/corner", json={"max_units": 1}))
        while not await shop.world.rows("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            await asyncio.sleep(0.01)
        assert (await station_of(shop)).max_units is None
    assert (await waiting).status_code == 200
    assert (await station_of(shop)).max_units == 1


# Keys


async def test_keys_are_rotated_without_a_gap(corner: Shop) -> None:
    callers = await other_process(corner)
    (first,) = (await corner.call("GET", "/v1/stations/corner/keys", "viewer")).json()["items"]
    assert "key" not in first
    old = corner.tokens["corner"]
    assert first["hint"] == old[-4:]
    new = (await corner.call("POST", f"/v1/stations/corner/keys/{first['id']}/replace", json={"keep_old": "PT1H"})).json()["key"]
    assert [await known(callers, key) is not None for key in (old, new)] == [True, True]
    assert (await corner.call("POST", f"/v1/stations/corner/keys/{first['id']}/revoke")).status_code == 200
    assert [await known(callers, key) is not None for key in (old, new)] == [False, True]
    again = await corner.call("POST", f"/v1/stations/corner/keys/{first['id']}/replace", json={})
    assert (again.status_code, again.json()["code"]) == (409, "invalid_state")
    third = (await corner.call("POST", "/v1/stations/corner/keys", json={"expires_at": "2999-01-01T00:00:00Z"})).json()
    assert await known(callers, third["key"]) is not None
    await corner.world.rows("UPDATE station_key SET expires_at = now() WHERE id = $1", third["id"])
    callers.forget()
    assert await known(callers, third["key"]) is None
    past = await corner.call("POST", "/v1/stations/corner/keys", json={"expires_at": "2020-01-01T00:00:00Z"})
    assert past.status_code == 422
    assert len((await corner.call("GET", "/v1/stations/corner/keys")).json()["items"]) == 3


async def test_a_key_is_that_of_its_station_alone(corner: Shop) -> None:
    (plaza,) = (await corner.call("GET", "/v1/stations/plaza/keys")).json()["items"]
    for step in ("revoke", "replace"):
        assert (await corner.call("POST", f"/v1/stations/corner/keys/{plaza['id']}/{step}", json={})).status_code == 404
        assert (await corner.call("POST", f"/v1/stations/plaza/keys/{plaza['id']}/{step}", "foreign", json={})).status_code == 404
    assert (await corner.call("POST", f"/v1/stations/plaza/keys/{2**63}/revoke")).status_code == 404
    assert (await corner.call("POST", "/v1/stations/me/tokens", "plaza", json={})).json()["station"] == "plaza"


@pytest.mark.parametrize(
    "statement", ["UPDATE station SET active = false WHERE code = 'corner'", "UPDATE platform SET active = false WHERE code = 'shop'"]
)
async def test_a_station_that_was_closed_down_is_nobody(corner: Shop, statement: str) -> None:
    callers = await other_process(corner)
    assert await known(callers, corner.tokens["corner"]) is not None
    await corner.world.rows(statement)
    await corner.world.rows("UPDATE deployment SET callers_version = callers_version + 1")
    assert await known(callers, corner.tokens["corner"]) is None
    assert await known(callers, corner.tokens["plaza"]) is not None


async def test_closing_a_station_down_tells_every_process(corner: Shop) -> None:
    callers = await other_process(corner)
    assert await known(callers, corner.tokens["corner"]) is not None
    assert (await corner.call("PATCH", "/v1/stations/corner", json={"active": False})).status_code == 200
    assert await known(callers, corner.tokens["corner"]) is None


async def test_a_sandbox_hands_out_test_keys_which_work_nowhere_else(shop: Shop) -> None:
    async with shop.world.pool.acquire() as conn:
        sandbox = await administer.create_program(conn, code="play", name="Play", currency="leaf", time_zone="UTC", sandbox=True)
        body = StationBody(code="corner", name="Corner")
        key = (await flow.create_station(conn, body, sealer=SEALER, program=sandbox.id)).api_key
    assert isinstance(key, str)
    assert key.startswith("gps_test_")
    callers = await other_process(shop)
    assert await known(callers, key) is not None
    await shop.world.rows("UPDATE program SET sandbox = false WHERE code = 'play'")
    callers.forget()
    assert await known(callers, key) is None


async def test_a_wrong_checksum_is_refused_without_asking_and_the_log_has_no_key(corner: Shop, caplog: pytest.LogCaptureFixture) -> None:
    key = corner.tokens["corner"]
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    unknown = secrets.station_key(b"?" * 24)
    with caplog.at_level(logging.DEBUG):
        for sent, status in ((wrong, 401), (unknown, 401), (corner.tokens["shop"], 403), (corner.tokens["admin"], 403)):
            answer = await corner.client.post("/v1/stations/me/tokens", json={}, headers={"Authorization": f"Bearer {sent}"})
            assert answer.status_code == status
            assert sent not in answer.text + caplog.text
    for path in ("/v1/events", "/v1/campaigns", "/v1/me/balance"):
        assert (await corner.call("GET", path, "corner")).status_code == 403, path


async def test_when_a_key_was_used_is_written_down(corner: Shop) -> None:
    assert (await corner.call("POST", "/v1/stations/me/tokens", "corner", json={})).status_code == 200
    await corner.app.state.callers.write_used()
    (key,) = (await corner.call("GET", "/v1/stations/corner/keys")).json()["items"]
    assert key["last_used_at"] is not None
    (other,) = (await corner.call("GET", "/v1/stations/plaza/keys")).json()["items"]
    assert other["last_used_at"] is None


# Tokens


async def test_a_token_is_of_this_station_and_for_now(corner: Shop) -> None:
    answer = (await corner.call("POST", "/v1/stations/me/tokens", "corner", json={})).json()
    begins, ends = (datetime.fromisoformat(answer[name]) for name in ("valid_from", "valid_until"))
    assert ends - begins == timedelta(seconds=120)
    (text,) = answer["tokens"]
    now = datetime.now(UTC)
    proved = verify_proof(text, await station_of(corner), at=now, now=now)
    assert (proved.station, proved.valid_from, proved.valid_until) == ("corner", begins, ends)
    again = (await corner.call("POST", "/v1/stations/me/tokens", "corner", json={})).json()["tokens"]
    assert again != [text]
    item = msgspec.convert({"class": "circular_box", "station": "plaza", "proof": text}, Return)
    refused = judge(item, await station_of(corner, "plaza"), platform=1, class_="circular_box", occurred_at=now, now=now)
    assert isinstance(refused, Refused)
    assert refused.code == "proof_wrong_station"


async def test_tokens_for_a_time_offline_have_their_window_fixed_before(corner: Shop) -> None:
    starts = (datetime.now(UTC) + timedelta(hours=10)).replace(microsecond=0)
    body = {"count": 1_000, "starts_at": starts.isoformat(), "life_s": 3_600}
    answer = (await corner.call("POST", "/v1/stations/me/tokens", "corner", json=body)).json()
    station = await station_of(corner)
    assert len({verify_proof(text, station, at=starts, now=starts).nonce for text in answer["tokens"][:50]}) == 50
    assert len(set(answer["tokens"])) == 1_000
    assert datetime.fromisoformat(answer["valid_until"]) == starts + timedelta(hours=1)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"count": 0}, "/count"),
        ({"count": 1_001}, "/count"),
        ({"count": 1.5}, "/count"),
        ({"life_s": 86_401}, "/life_s"),
        ({"life_s": 1}, "/life_s"),
        ({"starts_at": "in:23:59:30"}, "/life_s"),
        ({"starts_at": "in:-00:10:00"}, "/starts_at"),
        ({"starts_at": "9999-12-31T23:59:59Z"}, "/starts_at"),
        ({"starts_at": "9999-12-31T23:59:59-12:00"}, "/starts_at"),
        ({"starts_at": "0001-01-01T00:00:00+12:00"}, "/starts_at"),
        ({"starts_at": "2026-01-01T00:00:00"}, "/starts_at"),
    ],
)
async def test_a_window_that_a_station_cannot_have(corner: Shop, body: dict[str, Any], pointer: str) -> None:
    given = str(body.get("starts_at", ""))
    if given.startswith("in:"):
        hours, minutes, seconds = (int(part) for part in given[3:].lstrip("-").split(":"))
        ahead = timedelta(hours=hours, minutes=minutes, seconds=seconds) * (-1 if "-" in given else 1)
        body = body | {"starts_at": (datetime.now(UTC) + ahead).isoformat()}
    answer = await corner.call("POST", "/v1/stations/me/tokens", "corner", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_without_the_master_key_of_its_secret_a_station_gets_503(corner: Shop) -> None:
    await corner.world.rows("UPDATE station SET private_pem = $1", Sealer.of_setting(new_master_key()).seal("another"))
    for path, body in (("tokens", {}), ("returns", [])):
        answer = await corner.call("POST", f"/v1/stations/me/{path}", "corner", json=body)
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


# Returns


def row(name: str = "r1", **changes: Any) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat()
    return {"id": name, "occurred_at": at, "class": "foam_box", "quantity": 2, "consumer": "ada"} | changes


async def report(shop: Shop, *rows: Any, who: str = "corner") -> dict[str, Any]:
    answer = await shop.call("POST", "/v1/stations/me/returns", who, json=list(rows))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def facts(shop: Shop) -> list[PackagingReturned]:
    rows = await shop.world.rows("SELECT facts FROM event WHERE id LIKE 'station:%' ORDER BY number")
    return [msgspec.json.decode(row["facts"], type=PackagingReturned) for row in rows]


async def test_what_a_station_reports_counts_and_carries_its_proof(corner: Shop) -> None:
    assert await report(corner, row(attendant="mia")) == {
        "accepted": 1, "duplicates": 0, "rejected": 0,
        "results": [{"id": "r1", "outcome": "accepted", "event": "station:corner:r1", "status": "pending", "points": 60}],
    }  # fmt: skip
    assert await corner.balance("ada") == 60
    (event,) = await facts(corner)
    assert event.attributes["attendant"].startswith("h:"), "who worked there is kept as a keyed hash only"
    stored = await corner.world.rows("SELECT e::text AS text FROM event e")
    assert all("mia" not in one["text"] for one in stored)
    (item,) = event.returns
    shop_id = corner.world.platforms["shop"].platform
    judged = judge(
        item, await station_of(corner), platform=shop_id, class_=item.class_, occurred_at=event.occurred_at, now=datetime.now(UTC)
    )
    assert isinstance(judged, Token)
    assert judged.nonce == "r:r1"


async def test_a_batch_that_comes_again_counts_once_in_part_or_whole_and_side_by_side(corner: Shop) -> None:
    rows = [row(f"r{n}", consumer=f"c{n % 7}") for n in range(40)]
    first, second = await asyncio.gather(report(corner, *rows), report(corner, *rows[10:]))
    assert first["accepted"] + second["accepted"] == 40
    assert first["duplicates"] + second["duplicates"] == 30
    assert first["rejected"] + second["rejected"] == 0
    again = await report(corner, *rows)
    assert (again["accepted"], again["duplicates"]) == (0, 40)
    assert [one["points"] for one in again["results"]] == [60] * 40
    assert sum([await corner.balance(f"c{n}") for n in range(7)]) == 40 * 60
    assert (await report(corner, rows[0], rows[0]))["duplicates"] == 2
    other = (await report(corner, rows[0] | {"quantity": 3}))["results"][0]
    assert (other["outcome"], other["problem"]["code"]) == ("rejected", "id_reused")


async def test_a_row_that_is_wrong_says_where_and_stops_no_other(corner: Shop) -> None:
    async with corner.world.pool.acquire() as conn:
        other = await administer.choose_program(conn, "other")
        await administer.create_platform(conn, sealer=SEALER, program=other.id, code="a-foreign-shop", name="Foreign")
    ahead, late = (datetime.now(UTC) + timedelta(minutes=6), datetime.now(UTC) - timedelta(hours=72, minutes=1))
    wrong: list[tuple[Any, str]] = [
        (7, ""),
        (row("a b"), "/id"),
        (row("a" * 49), "/id"),
        (row(occurred_at="2026-01-01T00:00:00"), "/occurred_at"),
        (row(occurred_at=ahead.isoformat()), "/occurred_at"),
        (row(occurred_at=late.isoformat()), "/occurred_at"),
        (row(occurred_at="0001-01-01T00:00:00+12:00"), "/occurred_at"),
        (row(occurred_at="9999-12-31T23:59:59-12:00"), "/occurred_at"),
        (row(quantity=1.5), "/quantity"),
        (row(quantity=0), "/quantity"),
        (row(quantity="-1"), "/quantity"),
        (row(mass_g="NaN"), "/mass_g"),
        (row(mass_g=10**13), "/mass_g"),
        (row(**{"class": "no_such_class"}), "/class"),
        (row(**{"class": None}), "/class"),
        (row(consumer=None), "/consumer"),
        (row(consumer="a\u0000b"), "/consumer"),
        (row(consumer="a\ud800".encode("utf-16", "surrogatepass").decode("utf-16", "replace") + "\u2028"), "/consumer"),
        (row(platform="market"), "/platform"),
        (row(platform="a-foreign-shop"), "/platform"),
        (row(platform="nowhere"), "/platform"),
        (row(consumer_token="a.b.c"), "/consumer"),
        (row(consumer=None, consumer_token="a.b.c"), "/consumer_token"),
        (row(waybill="w" * 129), "/waybill"),
        (row(attendant={"name": "mia"}), "/attendant"),
    ]  # fmt: skip
    answer = await report(corner, *(one for one, _ in wrong), row("good"))
    assert (answer["accepted"], answer["rejected"]) == (1, len(wrong))
    for (sent, pointer), result in zip(wrong, answer["results"], strict=False):
        assert result["outcome"] == "rejected"
        assert result["problem"]["status"] == 422, (sent, result)
        assert [error["pointer"] for error in result["problem"]["errors"]] == [pointer], (sent, result)
    assert [event.id for event in await facts(corner)] == ["station:corner:good"]
    platforms = [
        result["problem"]["detail"] for (_, pointer), result in zip(wrong, answer["results"], strict=False) if pointer == "/platform"
    ]
    assert len(set(platforms)) == 1, "a sibling, another program's and none are the same"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{}", 422), (b"null", 422), (b"[", 400), (b"\xff", 400), (b'[{"id": NaN}]', 400), (b"[" * 100_000, 400),
        (b"[" + b"{}," * 500 + b"{}]", 422), (b" " * (8 * 2**20 + 1), 413), (b"[]", 200),
    ],
    ids=lambda value: f"{len(value)} bytes" if isinstance(value, bytes) else str(value),
)  # fmt: skip
async def test_a_body_that_is_no_list_of_returns(corner: Shop, body: bytes, status: int) -> None:
    answer = await corner.call("POST", "/v1/stations/me/returns", "corner", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status
    assert await facts(corner) == []
    assert corner.app.state.lanes.bodies == 0


async def test_a_row_nested_beyond_reading_stops_no_other(corner: Shop) -> None:
    deep = b'{"id": "deep", "x": ' + b"[" * 900 + b"]" * 900 + b"}"
    content = b"[" + deep + b"," + json.dumps(row()).encode() + b"]"
    answer = await corner.call("POST", "/v1/stations/me/returns", "corner", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    assert answer.json()["results"][0]["outcome"] == "rejected"
    assert answer.json()["accepted"] == 1


async def test_a_station_of_the_program_reports_for_the_platform_that_it_names(corner: Shop) -> None:
    answer = await report(corner, row("a", platform="shop"), row("b", platform="market"), row("c"), who="plaza")
    assert [one["outcome"] for one in answer["results"]] == ["accepted", "accepted", "rejected"]
    assert answer["results"][2]["problem"]["errors"] == [{"pointer": "/platform", "detail": "is required: the station serves several"}]
    events = await corner.world.rows("SELECT p.code, e.id FROM event e JOIN platform p ON p.id = e.platform ORDER BY 1")
    assert [(one["code"], one["id"]) for one in events] == [("market", "station:plaza:b"), ("shop", "station:plaza:a")]
    await corner.world.rows("UPDATE platform SET active = false WHERE code = 'market'")
    (closed,) = (await report(corner, row("d", platform="market"), who="plaza"))["results"]
    assert closed["outcome"] == "rejected"


async def test_hours_later_a_return_counts_until_the_stations_limit(corner: Shop) -> None:
    assert (await corner.call("PATCH", "/v1/stations/corner", json={"late_h": 5})).status_code == 200
    now = datetime.now(UTC)
    rows = [row(f"h{h}", occurred_at=(now - timedelta(hours=h)).isoformat()) for h in (1, 4, 6)]
    answer = await report(corner, *rows)
    assert [one["outcome"] for one in answer["results"]] == ["accepted", "accepted", "rejected"]
    station, shop_id = await station_of(corner), corner.world.platforms["shop"].platform
    for event in await facts(corner):
        (item,) = event.returns
        judged = judge(item, station, platform=shop_id, class_=item.class_, occurred_at=event.occurred_at, now=now)
        assert isinstance(judged, Token)
        assert abs(judged.valid_from - event.occurred_at) < timedelta(seconds=1)


# Consumers that show a token


async def token_of(shop: Shop, consumer: str = "bea", platform: str = "shop") -> str:
    async with shop.world.pool.acquire() as conn:
        return await administer.consumer_token(conn, sealer=SEALER, platform=platform, consumer=consumer, ttl=timedelta(minutes=2))


async def test_a_consumer_who_shows_a_token_is_who_it_counts_for(corner: Shop) -> None:
    shown = {"consumer": None, "consumer_token": await token_of(corner)}
    assert (await report(corner, row(**shown)))["accepted"] == 1
    assert await corner.balance("bea") == 60
    assert (await report(corner, row("r2", **shown), who="plaza"))["accepted"] == 1
    assert await corner.balance("bea") == 120
    assert (await report(corner, row(**shown | {"occurred_at": (await facts(corner))[0].occurred_at.isoformat()})))["duplicates"] == 1
    stored = await corner.world.rows("SELECT e::text AS text FROM event e")
    assert all(shown["consumer_token"] not in one["text"] for one in stored)


async def test_a_token_without_a_scope_says_who_it_is_and_opens_nothing(corner: Shop) -> None:
    pem = SEALER.open(
        (await corner.world.rows("SELECT k.private_pem FROM signing_key k JOIN platform p ON p.id = k.platform WHERE p.code = 'shop'"))[0][
            "private_pem"
        ]
    )
    now = datetime.now(UTC).timestamp()
    shown = tokens.sign(
        private_pem=pem, algorithm="EdDSA", kid="development", issuer="shop", reference="bea", scopes=(), now=now, ttl_s=120
    )
    corner.tokens["bea"] = shown
    assert (await corner.call("GET", "/v1/me/balance", "bea")).status_code == 403
    assert (await report(corner, row(consumer=None, consumer_token=shown)))["accepted"] == 1
    assert await corner.balance("bea") == 60


async def test_a_token_has_to_be_good_when_it_was_shown_and_of_a_platform_of_the_station(corner: Shop) -> None:
    own, market = await token_of(corner), await token_of(corner, platform="market")
    async with corner.world.pool.acquire() as conn:
        other = await administer.choose_program(conn, "other")
        await administer.create_platform(conn, sealer=SEALER, program=other.id, code="a-foreign-shop", name="Foreign")
    foreign = await token_of(corner, platform="a-foreign-shop")
    forged = own[:-8] + "AAAAAAAA"
    early = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    late = {"occurred_at": (datetime.now(UTC) + timedelta(minutes=4)).isoformat()}
    rows = [
        row("a", consumer=None, consumer_token=market), row("b", consumer=None, consumer_token=foreign),
        row("c", consumer=None, consumer_token=forged), row("d", consumer=None, consumer_token=own, occurred_at=early),
        row("e", consumer=None, consumer_token=own, **late), row("f", consumer=None, consumer_token=corner.tokens["shop"]),
    ]  # fmt: skip
    answer = await report(corner, *rows)
    assert answer["rejected"] == len(rows)
    assert len({json.dumps(one["problem"]) for one in answer["results"]}) == 1, "whatever is wrong with it, it is the same"
    named = await report(corner, row("g", consumer=None, consumer_token=own, platform="market"), who="plaza")
    assert named["results"][0]["problem"]["errors"][0]["pointer"] == "/consumer_token"
    assert (await report(corner, row("h", consumer=None, consumer_token=foreign), who="plaza"))["rejected"] == 1
    assert await facts(corner) == []


# Limits of rates


class TestLimits:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, limit_station_per_min=3)

    async def test_a_station_is_limited_for_itself_with_all_its_keys(self, corner: Shop) -> None:
        more = (await corner.call("POST", "/v1/stations/corner/keys", json={})).json()["key"]
        corner.tokens["more"] = more
        answers = [
            await corner.call("POST", "/v1/stations/me/tokens", who, json={}) for who in ("corner", "more", "corner", "more", "plaza")
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 200]
        assert answers[0].headers["RateLimit-Policy"] == '"station";q=3;w=60'
