"""Reusable packaging by the operator API: registered one by one and in bulk, shown, inspected, retired, lost; the policy about returns."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx

from service.domain.registrations import Asset
from service.store import assets as store
from service.store import campaigns as campaigns_store
from tests.api.operators import Operators

ASSET: dict[str, Any] = {"asset": "04012345555554987", "class": "circular_box", "max_trips": 20}
SAME = ["(8003)04012345555554987", "4012345555554987", "https://id.gs1.org/8003/04012345555554987", "urn:epc:id:grai:4012345.55555.987"]
PATH = "/v1/packaging/assets"


async def register(operators: Operators, **changes: Any) -> dict[str, Any]:
    answer = await operators.call("POST", PATH, ASSET | changes)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def ship(operators: Operators, asset: str, shipments: list[tuple[str, str, str | None]], *, void: bool = False) -> None:
    """Trips as events leave them: order, shipped at, returned at."""
    async with operators.pool.acquire() as conn:
        (numbers,) = await conn.fetch("SELECT coalesce(max(shipped_event), 0) AS n FROM trip")
        for n, (order, shipped_at, returned_at) in enumerate(shipments, numbers["n"] + 1):
            await conn.execute(
                "INSERT INTO trip (program, asset, shipped_event, shipped_at, platform, order_id, bucket, account, void, returned_event, returned_at)"
                " VALUES ($1, $2, $3, $4, $5, $6, 1, 1, $7, $8, $9)",
                operators.program, asset, n, datetime.fromisoformat(shipped_at), operators.platform, order, void,
                None if returned_at is None else n + 1_000, None if returned_at is None else datetime.fromisoformat(returned_at),
            )  # fmt: skip


async def sent(operators: Operators, content: str | bytes, content_type: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {operators.tokens['campaigns']}", "Content-Type": content_type}
    return await operators.client.post(f"{PATH}/import", content=content, headers=headers)


async def test_an_asset_is_registered_once_however_it_is_written(operators: Operators) -> None:
    made = await register(operators)
    assert made == ASSET | {"state": "registered", "state_at": None, "trips": 0, "open_trip": None, "history": []}
    for text in SAME:
        again = await operators.call("POST", PATH, ASSET | {"asset": text})
        assert (again.status_code, again.json()) == (200, made), text
        shown = await operators.call("GET", f"{PATH}/{quote(text, safe='')}", role="viewer")
        assert (shown.status_code, shown.json()) == (200, made), text
    for other in ({"max_trips": 21}, {"max_trips": None}, {"class": "circular_bag"}):
        refused = await operators.call("POST", PATH, ASSET | other)
        assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert (await operators.call("GET", f"{PATH}/04012345555554987")).json() == made
    assert await operators.fetch("SELECT action, subject FROM audit WHERE action LIKE 'asset.%'") == [
        ("asset.create", "asset:04012345555554987")
    ]


async def test_what_is_wrong_with_an_asset(operators: Operators) -> None:
    for changes, pointer in (
        ({"asset": "04012345555553987"}, "/asset"),
        ({"asset": "04012345555554"}, "/asset"),
        ({"asset": "(01)04012345555554"}, "/asset"),
        ({"asset": ""}, "/asset"),
        ({"asset": "a\x00b"}, "/asset"),
        ({"asset": "x" * 129}, "/asset"),
        ({"asset": 7}, "/asset"),
        ({"class": "moon_box"}, "/class"),
        ({"class": "Circular Box"}, "/class"),
        ({"class": None}, "/class"),
        ({"max_trips": 0}, "/max_trips"),
        ({"max_trips": 1.5}, "/max_trips"),
        ({"max_trips": "20"}, "/max_trips"),
        ({"max_trips": 10**30}, "/max_trips"),
    ):
        answer = await operators.call("POST", PATH, ASSET | changes)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), changes
    both = await operators.call("POST", PATH, {"asset": "04012345555553987", "class": "moon_box"})
    assert [error["pointer"] for error in both.json()["errors"]] == ["/asset", "/class"]
    for path in ("04012345555553987", "unknown", "a%00b", quote("(8003)", safe=""), "%ff"):
        assert (await operators.call("GET", f"{PATH}/{path}")).status_code == 404
    assert await operators.fetch("SELECT count(*) FROM asset") == [(0,)]


async def test_trips_are_shown_newest_first_without_any_name(operators: Operators) -> None:
    await register(operators)
    key = ASSET["asset"]
    early, late = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"
    await ship(operators, key, [("o-1", early, "2026-01-09T00:00:00+00:00"), ("o-2", late, None)])
    shown = (await operators.call("GET", f"{PATH}/{key}", role="viewer")).json()
    assert shown["open_trip"] == {"order": "o-2", "platform": "shop", "shipped_at": "2026-02-01T00:00:00Z"}
    assert (shown["trips"], [trip["order"] for trip in shown["history"]]) == (2, ["o-2", "o-1"])
    assert shown["history"][1] == {
        "order": "o-1", "platform": "shop", "shipped_at": "2026-01-01T00:00:00Z", "returned_at": "2026-01-09T00:00:00Z", "void": False,
    }  # fmt: skip
    await ship(operators, key, [("o-3", "2026-03-01T00:00:00+00:00", None)], void=True)
    shown = (await operators.call("GET", f"{PATH}/{key}")).json()
    assert (shown["trips"], shown["open_trip"]["order"], shown["history"][0]["void"]) == (2, "o-2", True)
    begun = datetime(2026, 4, 1, tzinfo=UTC)
    times = [(begun + timedelta(hours=n)).isoformat() for n in range(120)]
    await ship(operators, key, [(f"more-{n}", at, at) for n, at in enumerate(times)])
    shown = (await operators.call("GET", f"{PATH}/{key}")).json()
    assert (shown["trips"], len(shown["history"]), shown["history"][0]["order"], shown["open_trip"]) == (122, 100, "more-119", None)
    assert (await operators.call("GET", PATH)).json()["items"][0]["trips"] == 122


async def test_assets_are_listed_by_class_and_state(operators: Operators) -> None:
    for n in range(5):
        await register(operators, asset=f"box-{n}", **{"class": "circular_bag" if n % 2 else "circular_box"})
    await operators.call("POST", f"{PATH}/box-3/retire", {})
    seen, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await operators.call("GET", PATH, role="viewer", params=params)).json()
        seen += [item["asset"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == ["box0", "box1", "box2", "box3", "box4"]
    for params, found in (
        ({"class": "circular_bag"}, ["box1", "box3"]),
        ({"state": "retired"}, ["box3"]),
        ({"class": "circular_box", "state": "retired"}, []),
        ({"class": "none-such"}, []),
    ):
        assert [item["asset"] for item in (await operators.call("GET", PATH, params=params)).json()["items"]] == found
    for params in ({"state": "eaten"}, {"class": "A B"}, {"cursor": "x"}, {"limit": 0}):
        assert (await operators.call("GET", PATH, params=params)).status_code == 422, params


async def test_imports_answer_per_row(operators: Operators) -> None:
    rows = [
        ASSET,
        ASSET | {"asset": SAME[0]},
        ASSET | {"asset": "4012345555554987", "max_trips": 7},
        {"asset": "Box-1", "class": "circular_bag"},
        {"asset": "b o x 1", "class": "circular_box"},
        {"asset": "04012345555553987", "class": "circular_box"},
        {"asset": "x", "class": "moon_box"},
        {"class": "circular_box"},
        5,
        {"asset": "y", "class": "circular_box", "max_trips": 1.5},
    ]
    first = (await operators.call("POST", f"{PATH}/import", rows)).json()
    statuses = ["created", "unchanged", "rejected", "created", *["rejected"] * 6]
    assert [result["status"] for result in first["results"]] == statuses
    pointers = ["/max_trips", "/class", "/asset", "/class", "", "", "/max_trips"]
    assert [result["errors"][0]["pointer"] for result in first["results"] if result["errors"]] == pointers
    assert (first["created"], first["unchanged"], first["rejected"]) == (2, 1, 7)
    assert [result["id"] for result in first["results"][:4]] == ["04012345555554987"] * 3 + ["box1"]
    again = (await operators.call("POST", f"{PATH}/import", rows)).json()
    assert (again["created"], again["unchanged"], again["rejected"]) == (0, 3, 7)
    after = json.loads((await operators.fetch("SELECT after::text FROM audit WHERE action = 'asset.import'"))[0][0])
    assert {name: after[name] for name in ("rows", "created", "unchanged", "rejected")} == {
        "rows": 10, "created": 2, "unchanged": 1, "rejected": 7,
    }  # fmt: skip
    assert len(after["sha256"]) == 64
    assert await operators.fetch("SELECT count(*) FROM audit WHERE action = 'asset.import'") == [(1,)], "the repeat changed nothing"


async def test_imports_take_lines_and_tables(operators: Operators) -> None:
    csv = "\ufeffAsset,class,max_trips,colour\nbox-1,circular_box,20,red\nbox-2,circular_bag,\nbox-3,circular_box,many\n\nbox-4,moon_box,1,,,\n"
    answer = (await sent(operators, csv, "text/csv")).json()
    assert [(r["status"], [e["pointer"] for e in r["errors"]]) for r in answer["results"]] == [
        ("created", []), ("created", []), ("rejected", ["/max_trips"]), ("rejected", [""]),
    ]  # fmt: skip
    lines = '{"asset": "box-1", "class": "circular_box", "max_trips": 20}\n{"asset": "box-5", "class": "deposit_container"}\n{"asset":\n'
    answer = (await sent(operators, lines, "application/x-ndjson")).json()
    assert [r["status"] for r in answer["results"]] == ["unchanged", "created", "rejected"]
    assert await operators.fetch("SELECT key, class, max_trips FROM asset ORDER BY key") == [
        ("box1", "circular_box", 20), ("box2", "circular_bag", None), ("box5", "deposit_container", None),
    ]  # fmt: skip
    for content, content_type, status in (
        ("<a/>", "application/xml", 415),
        (csv, "application/json", 400),
        ("{}", "application/json", 422),
        (b"asset,class\n\xff,circular_box", "text/csv", 422),
        ("asset,asset\n", "text/csv", 422),
        ("[" * 100_000, "application/json", 400),
        (b"{}\n" * 5_001, "application/x-ndjson", 422),
    ):
        assert (await sent(operators, content, content_type)).status_code == status, content[:20]
    hostile = (
        '[{"asset":"a\\u0000b","class":"circular_box"},{"asset":'
        + "[" * 900
        + "]" * 900
        + ',"class":"circular_box"},{"asset":"n","class":"circular_box","max_trips":NaN}]'
    )
    assert (await sent(operators, hostile, "application/json")).status_code == 400, "NaN is no JSON: the whole cannot be cut into rows"
    assert (await operators.fetch("SELECT count(*) FROM asset")) == [(3,)]


async def test_registered_by_many_at_once_it_is_new_to_one(operators: Operators) -> None:
    texts = [SAME[n % len(SAME)] for n in range(24)]
    single = [operators.call("POST", PATH, ASSET | {"asset": text}) for text in texts]
    rows = [{"asset": f"box-{n}", "class": "circular_box"} for n in range(200)]
    bulk = [operators.call("POST", f"{PATH}/import", rows[::step]) for step in (1, -1, 1, -1)]
    answers = await asyncio.gather(*single, *bulk)
    assert sorted(answer.status_code for answer in answers[:24]) == [200] * 23 + [201]
    imported = [answer.json() for answer in answers[24:]]
    assert (sum(a["created"] for a in imported), sum(a["unchanged"] for a in imported)) == (200, 600)
    assert await operators.fetch("SELECT count(*) FROM asset") == [(201,)]
    assert await operators.fetch("SELECT count(*) FROM audit WHERE action = 'asset.create'") == [(1,)]


async def test_an_import_that_meets_another_in_another_order_is_tried_again(operators: Operators) -> None:
    async with operators.pool.acquire() as other:
        await other.execute("SET deadlock_timeout = '60s'")  # the import is the one that finds the deadlock
        async with other.transaction():
            await store.register(other, program=operators.program, assets=[Asset(key="z", class_="circular_box", max_trips=None)])
            rows = [{"asset": text, "class": "circular_box"} for text in ("a", "z")]
            importing = asyncio.create_task(operators.call("POST", f"{PATH}/import", rows))
            while not await operators.fetch("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INTO asset%'"):
                await asyncio.sleep(0.02)
            await store.register(other, program=operators.program, assets=[Asset(key="a", class_="circular_box", max_trips=None)])
        await other.execute("RESET deadlock_timeout")
    answer = (await importing).json()
    assert [result["status"] for result in answer["results"]] == ["unchanged", "unchanged"]
    assert await operators.fetch("SELECT count(*) FROM audit WHERE action = 'asset.import'") == [(0,)]


async def test_operators_inspect_retire_and_lose(operators: Operators) -> None:
    await register(operators, asset="box-1")
    path = f"{PATH}/box-1"
    at = "2026-03-01T10:00:00Z"
    inspected = await operators.call("POST", f"{path}/inspect", {"at": at, "reason": "clean"})
    assert (inspected.status_code, inspected.json()["state"], inspected.json()["state_at"]) == (200, "inspected", at)
    earlier = await operators.call("POST", f"{path}/lose", {"at": "2026-02-01T10:00:00Z"})
    assert (earlier.status_code, earlier.json()["code"]) == (409, "invalid_state")
    for body, pointer in (
        ({"at": "2999-01-01T00:00:00Z"}, "/at"),
        ({"at": "2026-03-01T10:00:00"}, "/at"),
        ({"at": 5}, "/at"),
        ({"reason": "a\x00"}, "/reason"),
    ):
        answer = await operators.call("POST", f"{path}/lose", body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    for _ in range(2):
        assert (await operators.call("POST", f"{path}/lose", {})).json()["state"] == "lost"
    assert (await operators.call("POST", f"{path}/inspect", {})).status_code == 409
    for _ in range(2):
        assert (await operators.call("POST", f"{path}/retire", {"reason": "torn"})).json()["state"] == "retired"
    assert (await operators.call("POST", f"{path}/lose", {})).status_code == 409
    audit = await operators.fetch(
        "SELECT action, before->>'state', after->>'state', after->>'reason' FROM audit WHERE subject = 'asset:box1'"
    )
    assert audit[1:] == [
        ("asset.inspect", "registered", "inspected", "clean"), ("asset.lose", "inspected", "lost", None), ("asset.retire", "lost", "retired", "torn"),
    ]  # fmt: skip
    assert (await operators.call("POST", f"{PATH}/unknown/lose", {})).status_code == 404


async def test_assets_are_their_programs_own(operators: Operators) -> None:
    made = await register(operators)
    path = f"{PATH}/{ASSET['asset']}"
    assert (await operators.call("GET", path, role="foreign")).status_code == 404
    assert (await operators.call("POST", f"{path}/lose", {}, role="foreign")).status_code == 404
    assert (await operators.call("GET", PATH, role="foreign")).json()["items"] == []
    mine = await operators.call("POST", PATH, ASSET | {"class": "circular_bag"}, role="foreign")
    assert (mine.status_code, mine.json()["class"]) == (201, "circular_bag"), "the same number in another program is another asset"
    assert (await operators.call("GET", path)).json() == made
    for role, status in (("viewer", 403), ("fraud", 403), ("shop", 403)):
        assert (await operators.call("POST", PATH, ASSET, role=role)).status_code == status
        assert (await operators.call("POST", f"{path}/lose", {}, role=role)).status_code == status


async def test_the_policy_about_returns_is_the_programs(operators: Operators) -> None:
    async def loaded() -> dict[str, tuple[str, int | None]]:
        async with operators.pool.acquire() as conn:
            catalogue = await campaigns_store.load_catalogue(conn)
        return {p.code: (p.return_earner, p.return_window_days) for p in catalogue.programs.values()}

    path = "/v1/packaging-policy"
    assert (await operators.call("GET", path, role="viewer")).json() == {"return_earner": "returner", "return_window_days": 90}
    assert await loaded() == {"p": ("returner", 90), "q": ("returner", 90)}
    (version,) = (await operators.fetch("SELECT catalogue_version FROM deployment"))[0]
    changed = await operators.call("PATCH", path, {"return_earner": "recipient"})
    assert (changed.status_code, changed.json()) == (200, {"return_earner": "recipient", "return_window_days": 90})
    assert (await operators.call("PATCH", path, {"return_window_days": None})).json()["return_window_days"] is None
    assert (await operators.call("PATCH", path, {"return_window_days": None})).status_code == 200
    assert await operators.fetch("SELECT catalogue_version FROM deployment") == [(version + 2,)], "a repeat changes nothing"
    assert await loaded() == {"p": ("recipient", None), "q": ("returner", 90)}
    for body, pointer in (
        ({"return_earner": "me"}, "/return_earner"),
        ({"return_earner": None}, "/return_earner"),
        ({"return_window_days": 0}, "/return_window_days"),
        ({"return_window_days": 3_661}, "/return_window_days"),
        ({"return_window_days": 1.5}, "/return_window_days"),
    ):
        answer = await operators.call("PATCH", path, body)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await operators.call("PATCH", path, {})).status_code == 422
    assert (await operators.call("PATCH", path, {"return_earner": "returner"}, role="viewer")).status_code == 403
    assert len(await operators.fetch("SELECT 1 FROM audit WHERE action = 'packaging_policy.change'")) == 2


async def test_looking_an_asset_up_needs_its_key_only(operators: Operators) -> None:
    """However many assets and trips there are: the statements' plans, with 200,000 of each loaded. tests/flows has those of returns."""
    async with operators.pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO asset (program, key, class) SELECT $1, 'box' || n, 'circular_box' FROM generate_series(1, 200000) n",
            operators.program,
        )
        await conn.execute(
            "INSERT INTO trip (program, asset, shipped_event, shipped_at, platform, order_id, bucket, account)"
            " SELECT $1, 'box' || n, n, now(), $2, 'o' || n, 1, 1 FROM generate_series(1, 200000) n",
            operators.program, operators.platform,
        )  # fmt: skip
        await conn.execute("ANALYZE asset, trip")
        keys = [f"box{n}" for n in range(1, 200_000, 4_000)]
        for statement, values, indexes in (
            (store.GET, (operators.program, "box77"), {"asset_pkey", "trip_pkey"}),
            (store.LOCK, (operators.program, "box77"), {"asset_pkey"}),
            (store.REGISTERED, (operators.program, keys), {"asset_pkey"}),
            (store.TRIPS, (operators.program, "box77", 100), {"trip_pkey"}),
        ):
            (plan,) = json.loads(await conn.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))
            nodes = list(_nodes(plan["Plan"]))
            scanned = {node.get("Relation Name") for node in nodes if node["Node Type"] == "Seq Scan"} - {"platform"}
            assert scanned == set(), statement
            assert {node["Index Name"] for node in nodes if "Index Name" in node} - {"platform_pkey"} == indexes, statement
            for node in nodes:
                if node.get("Index Name") in indexes:
                    column = "key" if node["Index Name"] == "asset_pkey" else "asset"
                    assert f"{column} = " in node["Index Cond"], statement


def _nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)
