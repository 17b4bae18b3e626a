"""Packaging classes and activities: the reference lists, and a program's own beside them."""

import json
from typing import Any

import asyncpg
import httpx
import pytest
from litestar import Litestar

from schemas.bounds import MAX_OWN_CLASSES, MAX_OWN_KINDS
from service.domain.activities import BUILT_IN
from service.domain.packaging import CLASS_CODES
from service.settings import Settings
from service.store import packaging_classes
from service.store.callers import VERSION
from service.store.campaigns import load_catalogue
from tests.beginnings import Begin, Beginning
from tests.deliveries import Shop
from tests.servers import serving
from tests.worlds import World, now, order_paid

CLASS = {
    "code": "milk_crate", "group": "reuse", "name_en": "Milk crate", "name_zh": "牛奶筐", "needs_asset": True, "evidence": ["asset", "scan"],
    "contains_plastic": True, "reportable": False, "baseline": "single_use_container", "caveat": "Count trips.",
}  # fmt: skip
SCHEMA = {"type": "object", "properties": {"cup": {"type": "string"}, "litres": {"type": "number", "minimum": 0.1}}, "required": ["litres"]}
KIND = {"code": "cup_day", "name": "A day with a cup", "schema": SCHEMA, "claim": {"keys": ["cup"], "scope": "consumer"}}
CLASSES, KINDS = "/v1/packaging/classes", "/v1/activity-kinds"


async def open_shop(app: Litestar, client: httpx.AsyncClient) -> Shop:
    return await Shop(app, client, World(app.state.resources.pool)).found()


@pytest.fixture
def beginning(begin: Begin) -> Beginning[Shop]:
    return begin(open_shop, in_app=True)


async def made(shop: Shop, path: str, body: dict[str, Any], who: str = "admin") -> dict[str, Any]:
    answer = await shop.call("POST", path, who, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def packed(code: str, **changes: Any) -> dict[str, Any]:
    return order_paid(**changes) | {"packaging": {"class": code}}


def cup_day(name: str, **evidence: Any) -> dict[str, Any]:
    return {"id": name, "type": "activity.completed", "occurred_at": now(), "consumer": "c-1", "activity": "cup_day", "evidence": evidence}


async def report(shop: Shop, event: dict[str, Any], client: httpx.AsyncClient | None = None, who: str = "shop") -> list[tuple[str, str]]:
    """What is wrong with it: pointers and details; empty when it was taken."""
    authorization = {"Authorization": f"Bearer {shop.tokens[who]}"}
    answer = await (client or shop.client).post("/v1/events", json=event, headers=authorization)
    assert answer.status_code in (201, 422), answer.text
    return [] if answer.status_code == 201 else [(e["pointer"], e["detail"]) for e in answer.json()["errors"]]


UNKNOWN = [("/packaging/class", "is not a known packaging class")]
NO_KIND = [("/activity", "is neither built in nor an activity of this program's own")]


# Packaging classes


async def test_a_class_is_made_changed_retired_and_taken_back(shop: Shop) -> None:
    assert await report(shop, packed("milk_crate")) == UNKNOWN
    created = await made(shop, CLASSES, CLASS)
    assert created == CLASS | {
        "origin": "program", "active": True, "rank": None, "description": "", "evidence_from": [], "verification": "", "sources": [],
    }  # fmt: skip
    assert await report(shop, packed("milk_crate")) == []
    assert (await shop.call("GET", f"{CLASSES}/milk_crate", "shop")).json() == created
    changes = {"name_en": "Crate", "name_zh": None, "contains_plastic": None, "evidence": ["scan"], "active": False}
    changed = await shop.call("PATCH", f"{CLASSES}/milk_crate", json=changes | {"group": "baseline", "code": "x"})
    assert (changed.status_code, changed.json()) == (200, created | changes)
    await shop.app.state.callers.refresh()
    assert await report(shop, packed("milk_crate")) == [("/packaging/class", "is a packaging class that was retired")]
    assert (await shop.call("PATCH", f"{CLASSES}/milk_crate", json={"active": True})).json()["active"]
    assert await report(shop, packed("milk_crate")) == [], "at once: what is refused is asked for again"
    assert (await shop.call("PATCH", f"{CLASSES}/milk_crate", json={"active": True, "unheard": 1})).status_code == 200
    rows = await shop.world.rows(
        "SELECT action, before::text, after::text FROM audit WHERE subject = 'packaging-class:milk_crate' ORDER BY id"
    )
    assert [row["action"] for row in rows] == ["packaging-class.create", *["packaging-class.change"] * 2]
    assert json.loads(rows[2]["before"]) == {"active": False}


async def test_the_reference_list_is_there_and_stays(shop: Shop) -> None:
    await made(shop, CLASSES, CLASS)
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await shop.call("GET", CLASSES, "shop", params={"limit": 7} | ({"cursor": cursor} if cursor else {}))).json()
        items, cursor = items + page["items"], page["next_cursor"]
    assert [item["code"] for item in items] == sorted([*CLASS_CODES, "milk_crate"])
    assert {item["origin"] for item in items if item["code"] != "milk_crate"} == {"reference"}
    box = (await shop.call("GET", f"{CLASSES}/circular_box", "viewer")).json()
    assert (box["group"], box["name_zh"], box["needs_asset"], box["baseline"], box["rank"]) == (
        "reuse",
        "循环快递箱",
        True,
        "corrugated_plastic_fill",
        3,
    )
    assert (await shop.call("PATCH", f"{CLASSES}/circular_box", json={"active": False})).status_code == 409
    assert (await shop.call("GET", f"{CLASSES}/circular_box", "foreign")).json() == box


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"code": "circular_box"}, "/code"),
        ({"code": "Milk"}, "/code"),
        ({"code": "a\x00"}, "/code"),
        ({"group": "recycle-in"}, "/group"),
        ({"name_en": ""}, "/name_en"),
        ({"name_en": "a\x00b"}, "/name_en"),
        ({"caveat": "a\nb"}, "/caveat"),
        ({"evidence": ["photo"]}, "/evidence/0"),
        ({"contains_plastic": "yes"}, "/contains_plastic"),
        ({"baseline": "unheard"}, "/baseline"),
        ({"baseline": "circular_box"}, "/baseline"),
        ({"baseline": "milk_crate"}, "/baseline"),
    ],
)
async def test_what_is_wrong_with_a_class(shop: Shop, changes: dict[str, Any], pointer: str) -> None:
    answer = await shop.call("POST", CLASSES, json=CLASS | changes)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert await shop.world.rows("SELECT * FROM packaging_class") == []


async def test_a_class_of_ones_own_may_be_the_baseline_of_another(shop: Shop) -> None:
    await made(shop, CLASSES, CLASS | {"code": "clay_pot", "group": "baseline", "baseline": None})
    await made(shop, CLASSES, CLASS | {"baseline": "clay_pot"})
    for baseline, status in (("foam_box", 200), (None, 200), ("milk_crate", 422), ("unheard", 422)):
        assert (await shop.call("PATCH", f"{CLASSES}/milk_crate", json={"baseline": baseline})).status_code == status
    assert (await shop.call("POST", CLASSES, json=CLASS)).status_code == 409


async def test_a_program_has_its_own_only(shop: Shop) -> None:
    await made(shop, CLASSES, CLASS)
    await made(shop, KINDS, KIND)
    for path in (f"{CLASSES}/milk_crate", f"{KINDS}/cup_day"):
        assert (await shop.call("GET", path, "foreign")).status_code == 404
        assert (await shop.call("PATCH", path, "foreign", json={"active": False})).status_code == 404
        assert (await shop.call("PATCH", path, "viewer", json={"active": False})).status_code == 403
        assert (await shop.call("PATCH", path, "shop", json={"active": False})).status_code == 403
    assert (await made(shop, CLASSES, CLASS | {"name_en": "Theirs"}, "foreign"))["name_en"] == "Theirs"
    assert (await shop.call("GET", f"{CLASSES}/milk_crate")).json()["name_en"] == "Milk crate"
    await made(shop, CLASSES, CLASS | {"code": "their_crate"}, "foreign")
    await made(shop, KINDS, KIND | {"code": "their_day"}, "foreign")
    assert await report(shop, packed("their_crate")) == UNKNOWN
    assert await report(shop, cup_day("x") | {"activity": "their_day"}) == NO_KIND
    for path in ("x", "%00", "١", "a" * 65):
        assert (await shop.call("GET", f"{CLASSES}/{path}")).status_code == 404
        assert (await shop.call("PATCH", f"{KINDS}/{path}", json={})).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "most", "fill"),
    [
        (CLASSES, CLASS, MAX_OWN_CLASSES, "INSERT INTO packaging_class (program, code, class_group, name_en, description, needs_asset, evidence, caveat) SELECT $1, 'c' || n, 'reuse', 'n', '', false, '{}', '' FROM generate_series(2, $2::int) n"),
        (KINDS, KIND, MAX_OWN_KINDS, "INSERT INTO activity_kind (program, code, name, schema) SELECT $1, 'k' || n, 'n', '{}' FROM generate_series(2, $2::int) n"),
    ],
)  # fmt: skip
async def test_a_program_declares_so_many_and_no_more(shop: Shop, path: str, body: dict[str, Any], most: int, fill: str) -> None:
    await shop.world.rows(fill, shop.world.program, most)
    await made(shop, path, body)
    answer = await shop.call("POST", path, json=body | {"code": "one-more"})
    assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")


# Activities


async def test_an_activity_is_made_changed_and_retired(shop: Shop) -> None:
    assert await report(shop, cup_day("e-1", litres=1)) == NO_KIND
    created = await made(shop, KINDS, KIND)
    assert created == KIND | {"claim": {"kind": "own"} | KIND["claim"], "origin": "program", "active": True, "needs": ["cup"]}  # type: ignore[operator]
    assert await report(shop, cup_day("e-1", litres=1)) == []
    assert await report(shop, cup_day("e-2", cup=5)) == [("/evidence/cup", 'must be of type "string"'), ("/evidence/litres", "is required")]
    looser = SCHEMA | {"required": []}
    changed = await shop.call("PATCH", f"{KINDS}/cup_day", json={"schema": looser, "name": "Cup", "claim": None})
    assert changed.json() == created | {"schema": looser, "name": "Cup"}, "what it claims stays"
    assert await report(shop, cup_day("e-2")) == [], "what breaks a schema is asked for again"
    assert (await shop.call("PATCH", f"{KINDS}/cup_day", json={"schema": {"type": "object"}})).json()["errors"][0][
        "pointer"
    ] == "/claim/keys/0"
    assert (await shop.call("PATCH", f"{KINDS}/cup_day", json={"active": False})).status_code == 200
    await shop.app.state.callers.refresh()
    assert await report(shop, cup_day("e-3")) == [("/activity", "is retired")]
    assert (await shop.call("GET", f"{KINDS}/cup_day", "shop")).json()["active"] is False
    rows = await shop.world.rows("SELECT action FROM audit WHERE subject = 'activity-kind:cup_day' ORDER BY id")
    assert [row["action"] for row in rows] == ["activity-kind.create", *["activity-kind.change"] * 2]


async def test_what_is_built_in_is_there_and_stays(shop: Shop) -> None:
    await made(shop, KINDS, KIND)
    items = (await shop.call("GET", KINDS, "shop")).json()["items"]
    assert [item["code"] for item in items] == sorted([*BUILT_IN, "cup_day"])
    learning = (await shop.call("GET", f"{KINDS}/learning", "viewer")).json()
    assert learning["claim"] == {"kind": "course", "keys": ["module", "version"], "scope": "consumer"}
    assert (learning["origin"], learning["needs"]) == ("built_in", ["module", "version"])
    assert (await shop.call("PATCH", f"{KINDS}/learning", json={"active": False})).status_code == 409
    assert (await shop.call("POST", KINDS, json=KIND)).status_code == 409


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"code": "refill"}, "/code"),
        ({"name": "a\x00"}, "/name"),
        ({"schema": []}, "/schema"),
        ({"schema": {"type": "object", "$ref": "http://169.254.169.254/latest"}}, "/schema/$ref"),
        ({"schema": {"type": "object", "properties": {"cup": {"type": "string", "pattern": "(a+)+$"}}}}, "/schema/properties/cup/pattern"),
        ({"schema": {"type": "object", "title": "x" * 9_000}}, "/schema"),
        ({"claim": {"keys": []}}, "/claim/keys"),
        ({"claim": {"keys": ["litres"]}}, "/claim/keys/0"),
        ({"claim": {"keys": ["cup"], "scope": "world"}}, "/claim/scope"),
    ],
)
async def test_what_is_wrong_with_an_activity(shop: Shop, changes: dict[str, Any], pointer: str) -> None:
    answer = await shop.call("POST", KINDS, json=KIND | changes)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert await shop.world.rows("SELECT * FROM activity_kind") == []


# What other processes know


async def test_another_process_knows_at_once_what_was_declared_and_soon_what_was_retired(shop: Shop, settings: Settings) -> None:
    async with serving(settings) as (app, client):
        assert await report(shop, packed("milk_crate"), client) == UNKNOWN
        await made(shop, CLASSES, CLASS)
        await made(shop, KINDS, KIND)
        assert await report(shop, packed("milk_crate"), client) == []
        assert await report(shop, cup_day("e-1", litres=1), client) == []
        for path in (f"{CLASSES}/milk_crate", f"{KINDS}/cup_day"):
            assert (await shop.call("PATCH", path, json={"active": False})).status_code == 200
        await app.state.callers.refresh()
        assert await report(shop, packed("milk_crate"), client) != []
        assert await report(shop, cup_day("e-2", litres=1), client) != []


async def test_who_names_what_nobody_knows_does_not_make_everything_be_read_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(shop, CLASSES, CLASS)
    assert await report(shop, packed("milk_crate")) == []
    statements: list[str] = []
    original = asyncpg.Connection._execute

    async def execute(self: Any, query: str, *args: Any, **more: Any) -> Any:
        statements.append(query)
        return await original(self, query, *args, **more)

    monkeypatch.setattr(asyncpg.Connection, "_execute", execute)
    body = [packed("unheard") for _ in range(50)]
    answer = await shop.call("POST", "/v1/events/batch", "shop", json=body)
    assert answer.json()["rejected"] == 50
    asked = [statement for statement in statements if statement in (VERSION, packaging_classes.OF_PROGRAM)]
    assert VERSION in asked
    assert packaging_classes.OF_PROGRAM not in asked


async def test_batches_hooks_dry_runs_and_simulations_know_them_too(shop: Shop) -> None:
    await report(shop, order_paid())  # this process knows the program's vocabulary, as it was
    await made(shop, KINDS, KIND)
    await made(shop, CLASSES, CLASS)
    await shop.world.campaign(code="cups", action="activity", when="activity.name == 'cup_day'", award={"kind": "fixed", "points": 5})
    events = [
        cup_day("b-1", litres=1, cup="m-1"),
        cup_day("b-2", litres=0),
        packed("unheard"),
        packed("milk_crate"),
        cup_day("b-3", litres="1"),
    ]
    answer = (await shop.call("POST", "/v1/events/batch", "shop", json=events)).json()
    assert (answer["accepted"], answer["rejected"]) == (2, 3)
    assert [result.get("points", result.get("status")) for result in answer["results"]] == [5, 422, 422, 10, 422]
    shop.app.state.callers.forget()
    await report(shop, order_paid())
    await made(shop, KINDS, KIND | {"code": "bag_day"})
    bag = cup_day("h-1", litres=1) | {"activity": "bag_day"}
    delivered = await shop.deliver(bag)
    assert delivered.json()["events"] == [{"id": "h-1", "status": "ignored", "points": 0}]
    await shop.deliver(bag | {"id": "h-2", "activity": "sack_day"}, "msg_2")
    (row,) = await shop.log(outcome="untranslatable")
    assert "Ada" not in row["detail"]
    await made(shop, KINDS, KIND | {"code": "sack_day"})
    assert (await shop.call("POST", f"/v1/deliveries/{row['id']}/replay")).json()["outcome"] == "ignored"
    tried = await shop.call("POST", "/v1/campaigns/cups/simulate", json=[cup_day("s-1", litres=1)])
    assert tried.json()["points"] == 5
    dry = await shop.call("POST", "/v1/events?dry_run=true", "shop", json=cup_day("d-1", litres=1, cup="m-2"))
    assert (dry.status_code, dry.json()["points"]) == (200, 5)


async def test_broken_evidence_is_not_quoted_in_the_log_of_deliveries(shop: Shop) -> None:
    await made(shop, KINDS, KIND)
    await shop.deliver(cup_day("h-1", cup="Ada Lovelace", litres="Ada Lovelace"))
    (row,) = await shop.log()
    assert row["outcome"] == "untranslatable"
    assert "Ada" not in json.dumps(row)


async def test_the_catalogue_has_them(shop: Shop) -> None:
    before = await shop.world.rows("SELECT catalogue_version, callers_version FROM deployment")
    await made(shop, CLASSES, CLASS)
    await made(shop, KINDS, KIND)
    after = await shop.world.rows("SELECT catalogue_version, callers_version FROM deployment")
    assert [after[0][name] - before[0][name] for name in ("catalogue_version", "callers_version")] == [2, 2]
    async with shop.world.pool.acquire() as conn:
        programs = (await load_catalogue(conn)).programs
    own = programs.pop(shop.world.program)
    assert (list(own.activity_kinds), list(own.packaging_classes)) == (["cup_day"], ["milk_crate"])
    assert own.activity_kinds["cup_day"].needs == ("cup",)
    assert [(p.activity_kinds, p.packaging_classes) for p in programs.values()] == [({}, {})]
