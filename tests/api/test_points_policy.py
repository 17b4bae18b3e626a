"""The points policy: versions that count some seconds after they were saved, never backwards."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from litestar import Litestar

from service.flows.knowledge import Knowledge
from service.flows.points_policy import EFFECT_AFTER_S
from service.flows.settle import settle_due
from service.store import campaigns as campaigns_store
from tests.api.operators import Operators, _token
from tests.worlds import World, order_paid

PATH = "/v1/points-policy"
DEFAULTS = {
    "expiry": {"kind": "never"}, "warn_before_days": 30, "restored_for": "P14D", "negative_balance": "debt",
    "transfers": {"enabled": False, "per_transfer": 1_000, "per_day": 5_000}, "adjustment_alone": 1_000,
}  # fmt: skip


@pytest.fixture
async def operators(operators: Operators) -> Operators:
    async with operators.pool.acquire() as conn:
        operators.tokens["admin"] = await _token(conn, "admin", "admin", operators.program)
    return operators


async def save(operators: Operators, body: Any, **more: Any) -> Any:
    answer = await operators.call("PATCH", PATH, body, role="admin", **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def in_force(operators: Operators) -> None:
    """As if the ten seconds were over."""
    await operators.fetch("UPDATE points_policy SET effective_from = effective_from - interval '10 seconds'")


async def test_a_version_counts_from_ten_seconds_later(operators: Operators) -> None:
    assert (await operators.call("GET", PATH, role="viewer")).json() == DEFAULTS | {"version": 0, "effective_from": None, "next": None}
    ((version, began),) = await operators.fetch("SELECT catalogue_version, clock_timestamp() FROM deployment")
    saved = await save(operators, {"expiry": {"kind": "rolling", "after": "P12M"}, "warn_before_days": None})
    ((raised, ended),) = await operators.fetch("SELECT catalogue_version, clock_timestamp() FROM deployment")
    assert raised == version + 1, "every process loads it before it decides again"
    first = DEFAULTS | {"expiry": {"kind": "rolling", "after": "P12M"}, "warn_before_days": None, "version": 1}
    starts = datetime.fromisoformat(saved["next"].pop("effective_from"))
    assert began <= starts - timedelta(seconds=EFFECT_AFTER_S) <= ended
    assert saved == DEFAULTS | {"version": 0, "effective_from": None, "next": first}, "not yet in force"

    # Saved on top of what is not in force yet, which stays.
    saved = await save(operators, {"negative_balance": "refuse"})
    assert (saved["version"], saved["next"]["version"], saved["next"]["warn_before_days"]) == (0, 2, None)
    assert saved["next"]["negative_balance"] == "refuse"
    again = await save(operators, {"negative_balance": "refuse"})
    assert again["next"] == saved["next"], "the same again changes nothing"
    assert await operators.fetch("SELECT catalogue_version FROM deployment") == [(version + 2,)]

    await in_force(operators)
    now = (await operators.call("GET", PATH, role="viewer")).json()
    assert (now["version"], now["next"], now["negative_balance"]) == (2, None, "refuse")
    versions = (await operators.call("GET", f"{PATH}/versions?limit=1", role="viewer")).json()
    assert [item["version"] for item in versions["items"]] == [2]
    assert versions["items"][0]["created_by"].startswith("operator:")
    rest = (await operators.call("GET", f"{PATH}/versions?limit=1&cursor={versions['next_cursor']}", role="viewer")).json()
    assert ([item["version"] for item in rest["items"]], rest["next_cursor"]) == ([1], None)
    assert rest["items"][0]["negative_balance"] == "debt", "what was saved is not rewritten"

    audit = await operators.fetch("SELECT before, after FROM audit WHERE action = 'points_policy.change' ORDER BY id")
    assert [json.loads(after)["version"] for _, after in audit] == [1, 2]
    assert [json.loads(before)["negative_balance"] for before, _ in audit] == ["debt", "debt"]


REFUSED = [
    ({}, ""),
    ({"expiry": {"kind": "sometimes"}}, "/expiry/kind"),
    ({"expiry": None}, "/expiry"),
    ({"expiry": {"kind": "rolling"}}, "/expiry"),
    ({"expiry": {"kind": "rolling", "after": "a year"}}, "/expiry/after"),
    ({"expiry": {"kind": "rolling", "after": "P0D"}}, "/expiry/after"),
    ({"expiry": {"kind": "rolling", "after": "P11Y"}}, "/expiry/after"),
    ({"expiry": {"kind": "rolling", "after": "P3654D"}}, "/expiry/after"),
    ({"expiry": {"kind": "rolling", "after": "P" + "9" * 40 + "D"}}, "/expiry/after"),
    ({"expiry": {"kind": "fixed", "on": "02-30"}}, "/expiry/on"),
    ({"expiry": {"kind": "fixed", "on": "04-31"}}, "/expiry/on"),
    ({"expiry": {"kind": "fixed", "on": "13-01"}}, "/expiry/on"),
    ({"expiry": {"kind": "fixed", "on": "12-31", "after": "P121M"}}, "/expiry/after"),
    ({"expiry": {"kind": "activity", "months": 0}}, "/expiry/months"),
    ({"expiry": {"kind": "activity", "months": 121}}, "/expiry/months"),
    ({"expiry": {"kind": "activity", "months": 1.5}}, "/expiry/months"),
    ({"warn_before_days": 0}, "/warn_before_days"),
    ({"warn_before_days": 366}, "/warn_before_days"),
    ({"restored_for": None}, "/restored_for"),
    ({"restored_for": "P11Y"}, "/restored_for"),
    ({"restored_for": "soon"}, "/restored_for"),
    ({"negative_balance": "forgive"}, "/negative_balance"),
    ({"transfers": {"enabled": "yes"}}, "/transfers/enabled"),
    ({"transfers": {"per_day": -1}}, "/transfers/per_day"),
    ({"adjustment_alone": 10**16}, "/adjustment_alone"),
]


async def test_a_bad_policy_is_refused_with_a_pointer_and_changes_nothing(operators: Operators) -> None:
    for body, pointer in REFUSED:
        answer = await operators.call("PATCH", PATH, body, role="admin")
        assert answer.status_code == 422, body
        if pointer:
            assert answer.json()["errors"][0]["pointer"] == pointer, answer.json()
    both = await operators.call("PATCH", PATH, {"expiry": {"kind": "fixed", "on": "02-30"}, "restored_for": "P99Y"}, role="admin")
    assert [error["pointer"] for error in both.json()["errors"]] == ["/expiry/on", "/restored_for"]
    assert await operators.fetch("SELECT 1 FROM points_policy") == []
    assert await operators.fetch("SELECT 1 FROM audit WHERE action LIKE 'points_policy%'") == []
    await save(operators, {"expiry": {"kind": "fixed", "on": "02-29", "after": "P0D"}})


async def test_only_administrators_change_it_and_every_program_has_its_own(operators: Operators) -> None:
    for role in ("viewer", "campaigns", "fraud", "shop"):
        assert (await operators.call("PATCH", PATH, {"warn_before_days": 7}, role=role)).status_code == 403
    await save(operators, {"warn_before_days": 7})
    foreign = (await operators.call("GET", PATH, role="foreign")).json()
    assert (foreign["version"], foreign["next"]) == (0, None)
    assert (await operators.call("GET", f"{PATH}/versions", role="foreign")).json()["items"] == []
    async with operators.pool.acquire() as conn:
        catalogue = await campaigns_store.load_catalogue(conn)
    assert {p.code: len(p.points_policies.versions) for p in catalogue.programs.values()} == {"p": 1, "q": 0}


async def test_points_that_are_there_keep_their_day(app: Litestar, client: httpx.AsyncClient) -> None:
    """Whatever is saved later, and however often: what was granted before has the day that it was granted with."""
    operators = Operators(client, app.state.resources.pool)
    world = await World(operators.pool).found()
    async with operators.pool.acquire() as conn:
        operators.tokens["admin"] = await _token(conn, "admin", "admin", world.program)
    await world.campaign(expires_after=None)

    async def grant() -> Any:
        await world.send(order_paid("c"), knowledge=Knowledge())  # which `in_force` has changed behind the back of
        await settle_due(operators.pool, app.state.resources.projection, stripe=1, buckets=64, batch_events=100)
        return (await operators.fetch("SELECT expires_on, idle_months FROM lot ORDER BY event DESC LIMIT 1"))[0]

    assert await grant() == (None, None)
    await save(operators, {"expiry": {"kind": "rolling", "after": "P1M"}})
    assert await grant() == (None, None), "saved, but not in force"
    await in_force(operators)
    rolling = await grant()
    today = datetime.now(UTC).astimezone().date()
    assert 27 <= (rolling[0] - today).days <= 32
    await save(operators, {"expiry": {"kind": "activity", "months": 6}})
    await in_force(operators)
    active = await grant()
    assert active[1] == 6
    assert 180 <= (active[0] - today).days <= 186
    await save(operators, {"expiry": {"kind": "never"}})
    await in_force(operators)
    assert await grant() == (None, None)
    lots = await operators.fetch("SELECT expires_on, idle_months FROM lot ORDER BY event")
    assert lots == [(None, None), (None, None), rolling, active, (None, None)]
