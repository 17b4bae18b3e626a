"""Versions of the fraud model, its signals, the policy and the monitors over HTTP: who may, what is refused how, what the judge sees."""

import asyncio
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from service.domain.fraud.model import Model
from service.domain.fraud.signals import SIGNALS
from service.domain.fraud_models import SHIPPED
from service.store import fraud_models, fraud_policy
from tests.api.operators import Operators, _token

MODELS, SIGNAL_PATH, POLICY, MONITOR = "/v1/fraud/models", "/v1/fraud/signals", "/v1/fraud/policy", "/v1/fraud/monitor"
DEFAULTS = {"hold_for": "P7D", "at_deadline": "release", "alone_points": 10_000, "reviews_a_day": 50}
CHANGED = {"hold_for": "PT36H", "at_deadline": "reject", "alone_points": 0, "reviews_a_day": 7}


@pytest.fixture
async def operators(operators: Operators) -> Operators:
    async with operators.pool.acquire() as conn:
        for role in ("admin", "analyst"):
            operators.tokens[role] = await _token(conn, role, role, operators.program)
    return operators


async def draft(operators: Operators, **body: Any) -> Any:
    answer = await operators.call("POST", MODELS, body, role="fraud")
    assert answer.status_code == 201, answer.text
    return answer.json()


async def activate(operators: Operators, version: int, as_: str, role: str = "fraud") -> httpx.Response:
    return await operators.call("POST", f"{MODELS}/{version}/activate", {"as": as_}, role=role)


async def active(operators: Operators) -> fraud_models.Active:
    async with operators.pool.acquire() as conn:
        return await fraud_models.active(conn, operators.program)


async def states(operators: Operators) -> dict[int, str]:
    answer = await operators.call("GET", MODELS, role="analyst")
    assert answer.status_code == 200, answer.text
    return {item["version"]: item["state"] for item in answer.json()["items"]}


async def audited(operators: Operators) -> list[tuple[Any, ...]]:
    return await operators.fetch("SELECT action, subject, before::text, after::text FROM audit WHERE action LIKE 'fraud%' ORDER BY id")


# Models


async def test_the_shipped_model_runs_until_another_does(operators: Operators) -> None:
    assert await states(operators) == {0: "running"}
    shipped = (await operators.call("GET", f"{MODELS}/0", role="analyst")).json()
    assert shipped["weights"] == {signal.name: SHIPPED.weights.get(signal.name, signal.weight) for signal in SIGNALS}
    assert (shipped["created_by"], shipped["created_at"], shipped["report"]) == (None, None, None)
    assert await active(operators) == fraud_models.Active()

    made = await draft(operators, weights={"burst": 5}, hold_bp=6_000, note="bursts are worse here")
    assert (made["version"], made["state"], made["note"]) == (1, "draft", "bursts are worse here")
    assert made["weights"] == shipped["weights"] | {"burst": 5.0}
    assert made["created_by"].startswith("operator:")
    assert (await active(operators)).running.version == 0, "a draft decides nothing"

    answer = await activate(operators, 1, "running")
    assert (answer.status_code, answer.json()["state"]) == (200, "running")
    now = await active(operators)
    assert (now.running.version, now.running.weights["burst"], now.running.hold_bp, now.shadow) == (1, 5.0, 6_000, None)
    assert await states(operators) == {1: "running", 0: "retired"}
    assert (await activate(operators, 0, "running")).json()["state"] == "running"
    assert await states(operators) == {1: "retired", 0: "running"}


async def test_one_runs_and_one_stands_beside_it(operators: Operators) -> None:
    for _ in range(3):
        await draft(operators)
    await activate(operators, 1, "running")
    await activate(operators, 2, "shadow")
    await activate(operators, 3, "shadow")
    assert await states(operators) == {3: "shadow", 2: "retired", 1: "running", 0: "retired"}
    assert (await activate(operators, 3, "running")).status_code == 200
    assert await states(operators) == {3: "running", 2: "retired", 1: "retired", 0: "retired"}
    assert (await active(operators)).shadow is None
    await activate(operators, 2, "shadow")
    before = await audited(operators)
    assert (await activate(operators, 2, "shadow")).json()["state"] == "shadow"
    assert await audited(operators) == before, "a repeat changes nothing"
    assert (await activate(operators, 2, "retired")).json()["state"] == "retired"
    assert (await audited(operators))[-1][2:] == (
        '{"shadow": 2, "running": 3}', '{"as": "retired", "shadow": null, "running": 3, "version": 2}'
    )  # fmt: skip


@pytest.mark.parametrize(("version", "as_"), [(1, "shadow"), (1, "retired"), (0, "shadow"), (0, "retired")])
async def test_something_always_runs(operators: Operators, version: int, as_: str) -> None:
    await draft(operators)
    await activate(operators, 1, "running")
    answer = await activate(operators, version, as_)
    if (version, as_) == (0, "retired"):
        assert answer.status_code == 200, "it is already"
    else:
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")
    assert await states(operators) == {1: "running", 0: "retired"}


async def test_a_draft_is_based_on_any_version(operators: Operators) -> None:
    await draft(operators, weights={"burst": 5}, off=["odd_hour"])
    await activate(operators, 1, "running")
    assert (await draft(operators, weights={"gain": 3}))["weights"]["burst"] == 5.0, "on the running one, if nothing is said"
    based = await draft(operators, base=0, weights={"gain": 3})
    assert (based["weights"]["burst"] != 5.0, based["weights"]["gain"], based["off"]) == (True, 3.0, [])
    answer = await operators.call("POST", MODELS, {"base": 9}, role="fraud")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/base")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"weights": {"luck": 1}}, "/weights/luck"), ({"weights": {"burst": -1}}, "/weights/burst"), ({"caps": {"luck": 1}}, "/caps/luck"),
        ({"off": ["luck"]}, "/off/0"), ({"hold_bp": 0}, "/hold_bp"), ({"hold_bp": 9_000, "reject_bp": 8_000}, "/reject_bp"),
        ({"intercept": 1_000}, "/intercept"), ({"note": ""}, "/note"),
    ],
)  # fmt: skip
async def test_what_is_no_model_is_refused_and_changes_nothing(operators: Operators, body: Any, pointer: str) -> None:
    answer = await operators.call("POST", MODELS, body, role="fraud")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["errors"][0]["pointer"].startswith(pointer.rsplit("/", 1)[0])
    assert await states(operators) == {0: "running"}
    assert await audited(operators) == []


@pytest.mark.parametrize("version", ["7", "x", "-1", "1.5", "00000000000", "2147483648", "9999999999", "\u0661"])
async def test_versions_that_are_not_there(operators: Operators, version: str) -> None:
    for answer in (
        await operators.call("GET", f"{MODELS}/{version}", role="fraud"),
        await operators.call("POST", f"{MODELS}/{version}/activate", {"as": "running"}, role="fraud"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), version


async def test_models_are_paged_newest_first_and_the_shipped_one_is_last(operators: Operators) -> None:
    for _ in range(4):
        await draft(operators)
    seen: list[int] = []
    path, pages = f"{MODELS}?limit=2", 0
    while True:
        page = (await operators.call("GET", path, role="analyst")).json()
        seen += [item["version"] for item in page["items"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        path = f"{MODELS}?limit=2&cursor={page['next_cursor']}"
    assert (seen, pages) == ([4, 3, 2, 1, 0], 3)


async def test_models_are_a_programs_own(operators: Operators) -> None:
    await draft(operators)
    await activate(operators, 1, "running")
    assert (await operators.call("GET", f"{MODELS}/1", role="foreign")).status_code == 404
    assert (await operators.call("POST", f"{MODELS}/1/activate", {"as": "shadow"}, role="foreign")).status_code == 404
    assert [item["version"] for item in (await operators.call("GET", MODELS, role="foreign")).json()["items"]] == [0]


async def test_who_may_what(operators: Operators) -> None:
    await draft(operators)
    for role, may_read, may_write in (
        ("viewer", False, False),
        ("campaigns", False, False),
        ("analyst", True, False),
        ("fraud", True, True),
    ):
        for path in (MODELS, f"{MODELS}/0", SIGNAL_PATH, POLICY, MONITOR):
            assert ((await operators.call("GET", path, role=role)).status_code == 200) == may_read, (role, path)
        for path, body in (
            (MODELS, {}), (f"{MODELS}/1/activate", {"as": "shadow"}), (f"{SIGNAL_PATH}/burst", {"on": False, "reason": "r"}),
        ):  # fmt: skip
            assert ((await operators.call("POST", path, body, role=role)).status_code in (200, 201)) == may_write, (role, path)
        assert (await operators.call("PUT", POLICY, CHANGED, role=role)).status_code == 403, role


async def test_versions_follow_each_other_however_many_draft_at_once(operators: Operators) -> None:
    answers = await asyncio.gather(*(operators.call("POST", MODELS, {"weights": {"burst": n}}, role="fraud") for n in range(8)))
    assert sorted(answer.json()["version"] for answer in answers) == list(range(1, 9))
    answers = await asyncio.gather(*(activate(operators, n, "running" if n % 2 else "shadow") for n in range(1, 9)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    found = list((await states(operators)).values())
    assert (found.count("running"), found.count("shadow") <= 1) == (1, True)


@pytest.mark.parametrize("state", ["running", "shadow"])
async def test_not_even_the_database_lets_two_have_one_place(operators: Operators, state: str) -> None:
    insert = "INSERT INTO fraud_model (program, version, body, state) VALUES ($1, $2, '{}', $3)"
    await operators.fetch(insert, operators.program, 1, state)
    with pytest.raises(asyncpg.UniqueViolationError):
        await operators.fetch(insert, operators.program, 2, state)


async def test_at_most_so_many_versions(operators: Operators, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.flows.fraud_models.MAX_FRAUD_MODELS", 1)
    await draft(operators)
    for path, body in ((MODELS, {}), (f"{SIGNAL_PATH}/burst", {"on": False, "reason": "too many"})):
        answer = await operators.call("POST", path, body, role="fraud")
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_state")


async def test_a_stored_model_is_read_as_far_as_this_release_knows_it(operators: Operators) -> None:
    body = msgspec.to_builtins(Model(weights={"burst": 1.5})) | {"of_a_later_release": 1, "version": 77}
    body["weights"]["of_a_later_release"] = 4.0
    await operators.fetch(
        "INSERT INTO fraud_model (program, version, body, state) VALUES ($1, 5, $2, 'running')", operators.program,
        msgspec.json.encode(body).decode(),
    )  # fmt: skip
    assert (await active(operators)).running.version == 5
    shown = (await operators.call("GET", f"{MODELS}/5", role="fraud")).json()
    assert (shown["weights"]["burst"], shown["weights"].keys()) == (1.5, {signal.name for signal in SIGNALS})
    assert shown["created_by"] == "command"


# Signals


async def test_a_signal_is_switched_off_and_on_again(operators: Operators) -> None:
    off = await operators.call("POST", f"{SIGNAL_PATH}/burst", {"on": False, "reason": "a campaign day"}, role="fraud")
    assert (off.status_code, off.json()["on"], off.json()["model"]) == (200, False, 1)
    now = (await active(operators)).running
    assert (now.version, now.off) == (1, {"burst"})
    assert (await operators.call("GET", f"{MODELS}/1", role="fraud")).json()["note"] == "a campaign day"
    again = await operators.call("POST", f"{SIGNAL_PATH}/burst", {"on": False, "reason": "once more"}, role="fraud")
    assert again.json()["model"] == 1
    assert len(await audited(operators)) == 1, "a repeat changes nothing"
    on = await operators.call("POST", f"{SIGNAL_PATH}/burst", {"on": True, "reason": "it is over"}, role="fraud")
    assert (on.json()["on"], on.json()["model"]) == (True, 2)
    assert (await active(operators)).running.off == set()
    assert await states(operators) == {2: "running", 1: "retired", 0: "retired"}
    assert await audited(operators) == [
        ("fraud_signal.switch", "fraud_signal:burst", '{"on": true, "model": 0}', '{"on": false, "model": 1}'),
        ("fraud_signal.switch", "fraud_signal:burst", '{"on": false, "model": 1}', '{"on": true, "model": 2}'),
    ]


async def test_a_switch_leaves_the_model_beside_alone(operators: Operators) -> None:
    await draft(operators)
    await activate(operators, 1, "shadow")
    await operators.call("POST", f"{SIGNAL_PATH}/gain", {"on": False, "reason": "r"}, role="fraud")
    assert await states(operators) == {2: "running", 1: "shadow", 0: "retired"}


async def test_all_signals_are_listed(operators: Operators) -> None:
    await operators.call("POST", f"{SIGNAL_PATH}/burst", {"on": False, "reason": "r"}, role="fraud")
    first = (await operators.call("GET", f"{SIGNAL_PATH}?limit=40", role="analyst")).json()
    rest = (await operators.call("GET", f"{SIGNAL_PATH}?cursor={first['next_cursor']}", role="analyst")).json()
    items = first["items"] + rest["items"]
    assert [item["name"] for item in items] == [signal.name for signal in SIGNALS]
    assert [item["name"] for item in items if not item["on"]] == ["burst"]
    assert all(item["says"] and item["softly"] and item["group"] and item["weight"] >= 0 for item in items)


@pytest.mark.parametrize("body", [{"on": False}, {"on": False, "reason": ""}, {"on": 1, "reason": "r"}, {"reason": "r"}])
async def test_a_switch_needs_a_reason(operators: Operators, body: Any) -> None:
    assert (await operators.call("POST", f"{SIGNAL_PATH}/burst", body, role="fraud")).status_code == 422
    assert await states(operators) == {0: "running"}


async def test_no_such_signal(operators: Operators) -> None:
    answer = await operators.call("POST", f"{SIGNAL_PATH}/luck", {"on": False, "reason": "r"}, role="fraud")
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


# Policy


async def test_the_policy_is_replaced_as_a_whole(operators: Operators) -> None:
    first = await operators.call("GET", POLICY, role="analyst")
    assert (first.json(), first.headers["ETag"]) == (DEFAULTS | {"version": 0}, '"0"')
    saved = await operators.call("PUT", POLICY, CHANGED, role="admin", headers={"If-Match": '"0"'})
    assert (saved.status_code, saved.json(), saved.headers["ETag"]) == (200, CHANGED | {"hold_for": "P1DT12H", "version": 1}, '"1"')
    async with operators.pool.acquire() as conn:
        assert (await fraud_policy.policy(conn, operators.program)).hold_for.total_seconds() == 36 * 3_600
        assert await fraud_policy.policy(conn, operators.program + 1) == fraud_policy.Policy()
    late = await operators.call("PUT", POLICY, DEFAULTS, role="admin", headers={"If-Match": '"0"'})
    assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    same = await operators.call("PUT", POLICY, CHANGED, role="admin")
    assert same.json()["version"] == 1, "the same again changes nothing"
    assert (await operators.call("PUT", POLICY, DEFAULTS, role="admin")).json()["version"] == 2
    assert [row[0] for row in await audited(operators)] == ["fraud_policy.change"] * 2


async def test_the_defaults_of_the_code_are_those_of_the_table(operators: Operators) -> None:
    await operators.fetch("INSERT INTO fraud_policy (program) VALUES ($1)", operators.program)
    async with operators.pool.acquire() as conn:
        assert await fraud_policy.policy(conn, operators.program) == msgspec.structs.replace(fraud_policy.Policy(), version=1)


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"hold_for": "P1M"}, "/hold_for"), ({"hold_for": "PT59S"}, "/hold_for"), ({"hold_for": "P91D"}, "/hold_for"),
        ({"at_deadline": "forget"}, "/at_deadline"), ({"alone_points": -1}, "/alone_points"), ({"reviews_a_day": 0}, "/reviews_a_day"),
    ],
)  # fmt: skip
async def test_what_is_no_policy_is_refused(operators: Operators, wrong: Any, pointer: str) -> None:
    answer = await operators.call("PUT", POLICY, CHANGED | wrong, role="admin")
    assert (answer.status_code, [error["pointer"] for error in answer.json()["errors"]]) == (422, [pointer])
    assert (await operators.call("GET", POLICY, role="admin")).json()["version"] == 0


async def test_a_policy_is_not_changed_behind_somebodys_back(operators: Operators) -> None:
    answers = await asyncio.gather(
        *(operators.call("PUT", POLICY, CHANGED | {"reviews_a_day": n}, role="admin", headers={"If-Match": '"0"'}) for n in range(1, 7))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 5


# Monitor


async def test_a_monitor_of_nothing(operators: Operators) -> None:
    answer = await operators.call("GET", MONITOR, role="analyst")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["days"], body["stability"], body["reviews"], body["reviews_a_day"]) == ([], [], [], 50)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("from=2026-03-01&to=2026-02-01", "/to"), ("from=2026-01-01&to=2026-04-04", "/from")],
)
async def test_days_out_of_bounds(operators: Operators, query: str, pointer: str) -> None:
    answer = await operators.call("GET", f"{MONITOR}?{query}", role="analyst")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    assert (await operators.call("GET", f"{MONITOR}?from=2026-01-01&to=2026-04-03", role="analyst")).status_code == 200
