"""Campaigns by the operator API: drafted, changed, activated; and that a new cap or budget starts from what was awarded."""

import asyncio
from datetime import UTC, date, datetime
from typing import Any

from service.flows import administer
from service.store.locks import CATALOGUE_LOCK, share_catalogue
from tests.api.operators import Operators
from tests.sealer import SEALER

CAMPAIGN: dict[str, Any] = {
    "code": "goods", "name": "Goods", "action": "purchase", "starts_at": "2025-01-01T00:00:00Z", "ends_at": "2030-01-01T00:00:00Z",
    "when": "line.certified", "award": {"kind": "per_unit", "points": 10}, "hold": "PT0S",
}  # fmt: skip


async def create(operators: Operators, **changes: Any) -> dict[str, Any]:
    answer = await operators.call("POST", "/v1/campaigns", CAMPAIGN | changes)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def test_the_life_of_a_campaign(operators: Operators) -> None:
    created = await create(operators)
    assert (created["status"], created["version"], created["caps"], created["platforms"]) == ("draft", 1, None, None)
    for step, status in (("activate", "running"), ("activate", "running"), ("pause", "paused"), ("activate", "running"), ("end", "ended")):
        answer = await operators.call("POST", f"/v1/campaigns/goods/{step}")
        assert (answer.status_code, answer.json()["status"]) == (200, status)
    refused = await operators.call("POST", "/v1/campaigns/goods/activate")
    assert (refused.status_code, refused.json()["code"]) == (409, "invalid_state")
    assert (await operators.call("PATCH", "/v1/campaigns/goods", {"name": "x"})).status_code == 409
    audit = await operators.fetch("SELECT action FROM audit WHERE subject = 'campaign:goods' ORDER BY id")
    assert [action for (action,) in audit] == ["campaign.create", *(f"campaign.{s}" for s in ("activate", "pause", "activate", "end"))]
    assert (await operators.fetch("SELECT catalogue_version FROM deployment"))[0][0] >= 6


async def test_a_patch_is_a_new_version(operators: Operators) -> None:
    await create(
        operators, caps={"order": 500, "consumer_day": 1000}, award={"kind": "per_amount", "points": 1, "per": "1.00", "currency": "CNY"}
    )
    draft = (await operators.call("PATCH", "/v1/campaigns/goods", {"caps": {"order": None}})).json()
    assert (draft["version"], draft["caps"]) == (2, {"order": None, "consumer_day": 1000, "consumer_year": None, "consumer_total": None})
    await operators.call("POST", "/v1/campaigns/goods/activate")
    tiers = {"kind": "tiered", "by": "quantity", "tiers": [{"from": "2", "points": 5}]}
    changed = await operators.call("PATCH", "/v1/campaigns/goods", {"award": tiers, "name": "Better", "when": None})
    assert changed.status_code == 200, changed.text
    assert (changed.json()["award"], changed.json()["when"]) == (tiers | {"currency": None}, None)
    again = await operators.call("PATCH", "/v1/campaigns/goods", {"name": "Better"})
    assert again.json()["version"] == 3
    versions = (await operators.call("GET", "/v1/campaigns/goods/versions?limit=2", role="viewer")).json()
    assert [v["version"] for v in versions["items"]] == [3, 2]
    assert versions["items"][0]["effective_from"] is not None
    assert versions["items"][1]["effective_from"] is None  # a draft never ran: its change counts from the beginning
    last = (await operators.call("GET", "/v1/campaigns/goods/versions", params={"cursor": versions["next_cursor"]}, role="viewer")).json()
    assert [v["version"] for v in last["items"]] == [1]
    assert last["next_cursor"] is None


async def test_errors_have_pointers(operators: Operators) -> None:
    for changes, pointer in (
        ({"when": "line.no_such_field == 1"}, "/when"),
        ({"when": "line.certified &&"}, "/when"),
        ({"platforms": ["shop", "foreign"]}, "/platforms/1"),
        ({"award": {"kind": "multiplier", "factor": "2", "of": ["nothing"]}}, "/award/of/0"),
        ({"award": {"kind": "fixed", "points": 1.5}}, "/award/points"),
        ({"award": {"kind": "magic"}}, "/award/kind"),
        ({"starts_at": "2025-01-01T00:00:00"}, "/starts_at"),
        ({"name": "a\x00b"}, "/name"),
    ):
        answer = await operators.call("POST", "/v1/campaigns", CAMPAIGN | changes)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await operators.fetch("SELECT count(*) FROM campaign"))[0][0] == 0


async def test_patch_errors(operators: Operators) -> None:
    await create(operators)
    for changes, pointer in (({"code": "x"}, "/code"), ({"action": None}, "/action"), ({"hold": 5}, "/hold"), ({"when": "1"}, "/when")):
        answer = await operators.call("PATCH", "/v1/campaigns/goods", changes)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer), changes
    for hostile in (b"[]", b'{"a":' * 5_000, b"{"):
        answer = await operators.client.patch(
            "/v1/campaigns/goods", content=hostile, headers={"Authorization": f"Bearer {operators.tokens['campaigns']}"}
        )
        assert answer.status_code in (400, 422)
    deep = b'{"award":' + b'{"a":' * 500 + b"1" + b"}" * 501
    answer = await operators.client.patch(
        "/v1/campaigns/goods", content=deep, headers={"Authorization": f"Bearer {operators.tokens['campaigns']}"}
    )
    assert answer.status_code in (200, 400, 422)
    assert (await operators.call("GET", "/v1/campaigns/goods")).json()["version"] == 1


async def test_a_multiplier_multiplies_what_is_there(operators: Operators) -> None:
    await create(operators)
    await create(operators, code="double", award={"kind": "multiplier", "factor": "2", "of": ["goods"]})
    for of, action in ((["double"], "purchase"), (["goods"], "packaging")):
        body = CAMPAIGN | {"code": "more", "action": action, "when": None, "award": {"kind": "multiplier", "factor": "2", "of": of}}
        answer = await operators.call("POST", "/v1/campaigns", body)
        assert answer.json()["errors"][0]["pointer"] == "/award/of/0"


async def test_who_may(operators: Operators) -> None:
    await create(operators)
    assert (await operators.call("POST", "/v1/campaigns", CAMPAIGN)).json()["code"] == "invalid_state"
    for role in ("viewer", "fraud"):
        assert (await operators.call("GET", "/v1/campaigns/goods", role=role)).status_code == 200
        assert (await operators.call("POST", "/v1/campaigns/goods/activate", role=role)).status_code == 403
        assert (await operators.call("PATCH", "/v1/campaigns/goods", {"name": "x"}, role=role)).status_code == 403
    for method, path in (("GET", ""), ("GET", "/versions"), ("POST", "/end"), ("GET", "/statistics"), ("PATCH", "")):
        answer = await operators.call(method, f"/v1/campaigns/goods{path}", {} if method == "PATCH" else None, role="foreign")
        assert answer.status_code == 404
    assert (await operators.call("GET", "/v1/campaigns", role="foreign")).json()["items"] == []
    assert (await operators.call("GET", "/v1/campaigns/%00")).status_code == 404


async def test_lists_by_page(operators: Operators) -> None:
    for n in range(3):
        await create(operators, code=f"c{n}")
    await operators.call("POST", "/v1/campaigns/c1/activate")
    first = (await operators.call("GET", "/v1/campaigns?limit=2")).json()
    second = (await operators.call("GET", "/v1/campaigns", params={"cursor": first["next_cursor"]})).json()
    assert [c["code"] for c in first["items"] + second["items"]] == ["c0", "c1", "c2"]
    assert second["next_cursor"] is None
    assert [c["code"] for c in (await operators.call("GET", "/v1/campaigns?status=running")).json()["items"]] == ["c1"]
    assert (await operators.call("GET", "/v1/campaigns?status=nonsense")).status_code in (400, 422)


async def award(operators: Operators, campaign: int, account: int, number: int, day: date, points: int, reversed_: int = 0) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    bucket = account & 1023
    async with operators.pool.acquire() as conn:
        await conn.execute(
            "INSERT INTO award (bucket, account, event, n, program, platform, campaign, version, points, reversed, day, due_at)"
            " VALUES ($1, $2, $3, 0, $4, $5, $6, 1, $7, $8, $9, $10)",
            bucket, account, number, operators.program, operators.platform, campaign, points, reversed_, day, at,
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO campaign_consumer VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            bucket,
            campaign,
            at,
            account,
            operators.platform,
        )


async def test_a_new_cap_or_budget_starts_from_what_was_awarded(operators: Operators) -> None:
    await create(operators)
    await create(operators, code="other")
    await operators.call("POST", "/v1/campaigns/goods/activate")
    ids = dict(await operators.fetch("SELECT code, id FROM campaign"))
    first, second, new_year = date(2025, 12, 31), date(2025, 12, 30), date(2026, 1, 1)
    await award(operators, ids["goods"], 5, 1, first, 30, 10)
    await award(operators, ids["goods"], 5, 2, first, 7)
    await award(operators, ids["goods"], 5, 3, new_year, 4)
    await award(operators, ids["goods"], 6, 4, second, 100)
    await award(operators, ids["goods"], 7, 5, second, 50, 50)
    await award(operators, ids["other"], 5, 6, first, 1_000)
    patched = await operators.call(
        "PATCH",
        "/v1/campaigns/goods",
        {"caps": {"consumer_day": 50, "consumer_year": 100, "consumer_total": 200}, "budget": {"points": 500, "per_day": 200}},
    )
    assert patched.status_code == 200, patched.text
    usage = await operators.fetch("SELECT account, span, day::text, used FROM cap_usage WHERE campaign = $1 ORDER BY 1, 2, 3", ids["goods"])
    assert usage == [
        (5, 1, "2025-12-31", 27), (5, 1, "2026-01-01", 4), (5, 2, "2025-01-01", 27), (5, 2, "2026-01-01", 4), (5, 3, "-infinity", 31),
        (6, 1, "2025-12-30", 100), (6, 2, "2025-01-01", 100), (6, 3, "-infinity", 100),
    ]  # fmt: skip
    budget = await operators.fetch("SELECT day::text, used FROM budget WHERE campaign = $1 ORDER BY day", ids["goods"])
    assert budget == [("-infinity", 131), ("2025-12-30", 100), ("2025-12-31", 27), ("2026-01-01", 4)]
    assert await operators.fetch("SELECT * FROM budget WHERE campaign = $1", ids["other"]) == []


async def test_a_cap_that_comes_later_counts_real_credits(operators: Operators) -> None:
    await create(operators, when=None)
    await operators.call("POST", "/v1/campaigns/goods/activate")

    async def buy(order: str, quantity: int) -> int:
        event = {
            "id": order, "type": "order.paid", "occurred_at": "2026-05-01T00:00:00Z", "consumer": "c",
            "order": {"id": order, "currency": "CNY", "total": "10.00"}, "lines": [{"id": "1", "quantity": str(quantity)}],
        }  # fmt: skip
        answer = await operators.call("POST", "/v1/events", event, role="shop")
        assert answer.status_code == 201, answer.text
        points: int = answer.json()["points"]
        return points

    assert await buy("1", 3) == 30
    refund = {"id": "r", "type": "order.refunded", "occurred_at": "2026-05-02T00:00:00Z", "order": {"id": "1"}}
    lines = {"refund": {"id": "r", "lines": [{"id": "1", "quantity": "1"}]}}
    assert (await operators.call("POST", "/v1/events", refund | lines, role="shop")).json()["points"] == -10
    caps = {"caps": {"consumer_total": 35}, "budget": {"points": 100}}
    assert (await operators.call("PATCH", "/v1/campaigns/goods", caps | {"starts_at": "2025-02-01T00:00:00Z"})).status_code == 200
    await operators.fetch("UPDATE campaign_version SET effective_from = '-infinity'")  # so that the event's time need not be now
    await operators.fetch("UPDATE deployment SET catalogue_version = catalogue_version + 1")
    assert await buy("2", 3) == 15
    assert await operators.fetch("SELECT used FROM budget") == [(35,)]
    totals = (await operators.call("GET", "/v1/campaigns/goods/statistics")).json()["totals"]
    names = ("events", "consumers", "points_issued", "points_pending", "points_reversed", "budget_used")
    assert [totals[name] for name in names] == [2, 1, 45, 35, 10, 35]


async def test_a_counter_that_counts_is_not_counted_anew(operators: Operators) -> None:
    await create(operators, budget={"points": 500})
    assert await operators.fetch("SELECT day::text, used FROM budget") == [("-infinity", 0)]
    await operators.call("POST", "/v1/campaigns/goods/activate")
    await operators.fetch("UPDATE budget SET used = 77")
    await operators.call("PATCH", "/v1/campaigns/goods", {"budget": None})
    await operators.call("PATCH", "/v1/campaigns/goods", {"budget": {"points": 900}})
    assert await operators.fetch("SELECT day::text, used FROM budget") == [("-infinity", 77)]


async def test_statistics_are_sums_of_stripes(operators: Operators) -> None:
    await create(operators)
    ((campaign,),) = await operators.fetch("SELECT id FROM campaign")
    async with operators.pool.acquire() as conn:
        two = await administer.create_platform(conn, sealer=SEALER, program=operators.program, code="market", name="Market")
        market = (await administer.find_platform(conn, program=operators.program, code=two.code)).id
        for hour, platform, stripe, issued in (
            ("2026-03-01T15:00:00+00:00", operators.platform, 1, 10),  # March 1st, 23 h in Shanghai: a Sunday
            ("2026-03-01T15:00:00+00:00", operators.platform, 2, 5),
            ("2026-03-01T16:00:00+00:00", market, 1, 100),  # March 2nd, 0 h: a Monday
            ("2026-03-09T01:00:00+00:00", market, 1, 1_000),
        ):
            await conn.execute(
                "INSERT INTO rollup (campaign, hour, platform, stripe, events, points_issued, points_reversed)"
                " VALUES ($1, $2, $3, $4, 1, $5, 2)",
                campaign, datetime.fromisoformat(hour), platform, stripe, issued,
            )  # fmt: skip
        for hour, platform, account in (
            ("2026-03-01T15:00:00+00:00", operators.platform, 5),
            ("2026-03-01T16:00:00+00:00", market, 5),
            ("2026-03-01T16:00:00+00:00", market, 6),
            ("2026-03-09T01:00:00+00:00", market, 6),
        ):
            await conn.execute(
                "INSERT INTO campaign_consumer VALUES ($1, $2, $3, $4, $5)",
                account,
                campaign,
                datetime.fromisoformat(hour),
                account,
                platform,
            )
    path = "/v1/campaigns/goods/statistics"
    whole = (await operators.call("GET", path, role="viewer")).json()
    assert whole["time_zone"] == "Asia/Shanghai"
    totals = whole["totals"]
    assert (totals["events"], totals["consumers"], totals["points_issued"], totals["points_reversed"], totals["budget_used"]) == (
        4,
        2,
        1115,
        8,
        1107,
    )
    assert set(totals) == {
        "events", "consumers", "points_issued", "points_pending", "points_settled", "points_reversed", "points_redeemed",
        "points_expired", "budget_used", "held", "rejected", "co2e_g", "plastic_g",
    }  # fmt: skip
    assert [(e["at"], e["points_issued"], e["consumers"]) for e in whole["series"]] == [
        ("2026-03-01T00:00:00+08:00", 15, 1), ("2026-03-02T00:00:00+08:00", 100, 2), ("2026-03-09T00:00:00+08:00", 1000, 1),
    ]  # fmt: skip
    assert [(e["platform"], e["points_issued"], e["consumers"]) for e in whole["by_platform"]] == [("market", 1100, 2), ("shop", 15, 1)]
    weeks = (await operators.call("GET", path, params={"granularity": "week"})).json()
    assert [(e["at"][:10], e["points_issued"]) for e in weeks["series"]] == [("2026-02-23", 15), ("2026-03-02", 100), ("2026-03-09", 1000)]
    part = (
        await operators.call("GET", path, params={"granularity": "hour", "from": "2026-03-01T16:30:00Z", "to": "2026-03-09T01:00:00Z"})
    ).json()
    assert [(e["at"], e["points_issued"]) for e in part["series"]] == [("2026-03-02T00:00:00+08:00", 100)]
    assert (part["totals"]["consumers"], part["totals"]["budget_used"]) == (2, 98)
    for wrong in (
        {"from": "2026-03-01T00:00:00"},
        {"from": "x"},
        {"from": "2026-03-02T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        {"granularity": "year"},
    ):
        assert (await operators.call("GET", path, params=wrong)).status_code in (400, 422), wrong


async def test_a_campaign_that_did_nothing_has_zeros(operators: Operators) -> None:
    await create(operators, budget={"points": 10})
    answer = (await operators.call("GET", "/v1/campaigns/goods/statistics")).json()
    assert set(answer["totals"].values()) == {0}
    assert (answer["series"], answer["by_platform"]) == ([], [])


async def test_a_change_waits_for_the_credits_that_are_being_decided(operators: Operators) -> None:
    await create(operators)
    async with operators.pool.acquire() as deciding, deciding.transaction():
        await share_catalogue(deciding)
        change = asyncio.create_task(operators.call("POST", "/v1/campaigns/goods/activate"))
        while not (
            await operators.fetch("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted", CATALOGUE_LOCK)
        ):
            assert not change.done()
        assert (await deciding.fetchval("SELECT status FROM campaign")) == "draft"
    assert (await change).json()["status"] == "running"


async def test_a_draft_can_be_tried_out(operators: Operators) -> None:
    await create(operators, caps={"order": 25}, platforms=["shop"])
    await create(operators, code="double", award={"kind": "multiplier", "factor": "2.5", "of": ["goods"]}, when=None)
    certificate = {"scheme": "own", "number": "1", "holder": "h", "valid_from": "2025-01-01", "valid_until": "2029-12-31"}
    await operators.call("POST", "/v1/certificates", certificate | {"gtins": ["6901234567892"]})
    event: dict[str, Any] = {
        "id": "e", "type": "order.paid", "occurred_at": "2026-05-01T00:00:00Z", "consumer": "c",
        "order": {"id": "o", "currency": "CNY", "total": "10.00"},
        "lines": [
            {"id": "1", "gtin": "6901234567892", "quantity": "2"}, {"id": "2", "gtin": "96385074"}, {"id": "3", "gtin": "6901234567892"},
        ],
    }  # fmt: skip
    path = "/v1/campaigns/goods/simulate"
    one = (await operators.call("POST", path, event, role="viewer")).json()
    assert (one["points"], one["platform"], [a["points"] for a in one["results"][0]["awards"]]) == (25, "shop", [20, 5])
    assert one["results"][0]["refused"][0]["code"] == "certificate_missing"
    doubled = (
        await operators.call("POST", "/v1/campaigns/double/simulate", [event, event | {"occurred_at": "2024-01-01T00:00:00Z"}])
    ).json()
    assert [result["points"] for result in doubled["results"]] == [37, 0]
    wrong = await operators.call("POST", path, [event, event | {"lines": [{"id": "1", "gtin": "1"}]}])
    assert (wrong.status_code, wrong.json()["errors"][0]["pointer"]) == (422, "/1/lines/0/gtin")
    assert (await operators.call("POST", path, event, params={"platform": "foreign"})).status_code == 422
    assert (await operators.call("POST", path, event, role="foreign")).status_code == 404
    assert (await operators.call("POST", path, [event] * 101)).status_code == 422
    for table in ("event", "award", "registry", "account", "cap_usage"):
        assert (await operators.fetch(f"SELECT count(*) FROM {table}"))[0][0] == 0
