"""Operators: signing in and out, passwords, what administrators do, and the limits on guessing."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from argon2 import PasswordHasher
from litestar import Litestar

from service.domain import secrets
from service.domain.errors import Overloaded
from service.flows import administer, operators, passwords
from service.flows.operators import MAX_FAILURES
from tests.api.operators import Operators

PASSWORD = "correct horse battery"


class Office:
    """The programs of `Operators`, an admin of `p` who signs in with PASSWORD, one of the whole deployment, and a clerk of `p`."""

    def __init__(self, operators: Operators) -> None:
        self.operators = operators
        self.ids: dict[str, int] = {}

    async def sign_in(self, email: str = "ada@example.com", password: str = PASSWORD, **more: Any) -> httpx.Response:
        return await self.operators.client.post("/v1/operators/sign-in", json={"email": email, "password": password, **more})

    async def session(self, email: str = "ada@example.com", password: str = PASSWORD, **more: Any) -> str:
        answer = await self.sign_in(email, password, **more)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["token"]
        return token

    async def call(self, token: str, method: str, path: str, json: Any = None, **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {token}"} | headers
        return await self.operators.client.request(method, path, json=json, headers=sent)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashes that take a millisecond: there are many of them here."""
    monkeypatch.setattr(secrets, "_passwords", PasswordHasher(time_cost=1, memory_cost=1_024, parallelism=1))


@pytest.fixture
async def office(operators: Operators) -> Office:
    made = Office(operators)
    async with operators.pool.acquire() as conn:
        for name, role, program in (("ada", "admin", operators.program), ("clerk", "viewer", operators.program), ("root", "admin", None)):
            email = f"{name}@example.com"
            await administer.create_operator(conn, email=email, role=role, program=program, password=PASSWORD)  # type: ignore[arg-type]
            made.ids[name] = await conn.fetchval("SELECT id FROM operator WHERE email = $1", email)
    return made


# Sessions


async def test_who_signs_in_gets_a_session_that_works_wherever_a_token_does_and_ends(office: Office) -> None:
    answer = await office.sign_in()
    body = answer.json()
    assert (answer.status_code, body["role"]) == (200, "admin")
    assert secrets.is_operator_token(body["token"])
    life = datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=11, minutes=59) < life < timedelta(hours=12, minutes=1)
    for path in ("/v1/campaigns", "/v1/platforms", "/v1/operators", "/v1/audit", "/v1/products", "/v1/certificates"):
        assert (await office.call(body["token"], "GET", path)).status_code == 200, path
    me = (await office.call(body["token"], "GET", "/v1/operators/me")).json()
    assert (me["email"], me["role"], me["program"], me["session"]) == ("ada@example.com", "admin", "p", True)
    assert me["expires_at"] == body["expires_at"]
    await office.operators.pool.execute("UPDATE operator_token SET expires_at = now() WHERE session")
    assert (await office.call(body["token"], "GET", "/v1/operators/me")).status_code == 401


async def test_an_address_is_written_in_any_case(office: Office) -> None:
    assert (await office.sign_in("ADA@Example.COM")).status_code == 200


async def test_signing_out_ends_the_session_and_no_other(office: Office) -> None:
    first, second = await office.session(), await office.session()
    assert (await office.call(first, "POST", "/v1/operators/sign-out")).status_code == 204
    assert (await office.call(first, "GET", "/v1/operators/me")).status_code == 401
    assert (await office.call(second, "GET", "/v1/operators/me")).status_code == 200
    machine = office.operators.tokens["viewer"]
    assert (await office.call(machine, "POST", "/v1/operators/sign-out")).status_code == 409
    assert (await office.call(machine, "GET", "/v1/operators/me")).json()["session"] is False


async def test_a_session_may_be_for_one_program(office: Office) -> None:
    anywhere = await office.session("root@example.com")
    assert (await office.call(anywhere, "GET", "/v1/platforms")).status_code == 422  # there are several: none was chosen
    only = await office.session("root@example.com", program="q")
    listed = await office.call(only, "GET", "/v1/platforms")
    assert [platform["code"] for platform in listed.json()["items"]] == ["foreign"]
    assert (await office.call(only, "GET", "/v1/platforms", **{"X-Greenpoints-Program": "p"})).status_code == 404
    assert (await office.call(only, "GET", "/v1/operators/me")).json()["program"] == "q"
    for email, program in (("ada@example.com", "q"), ("root@example.com", "nowhere")):
        assert (await office.sign_in(email, program=program)).status_code == 404


async def test_wrong_words_get_one_answer_whoever_they_are_about(office: Office) -> None:
    await office.operators.pool.execute("UPDATE operator SET active = false WHERE email = 'clerk@example.com'")
    refused = [
        await office.sign_in("ada@example.com", "wrong horse battery"),
        await office.sign_in("nobody@example.com", PASSWORD),
        await office.sign_in("clerk@example.com", PASSWORD),
        await office.sign_in("nobody@example.com", PASSWORD, program="p"),
        await office.sign_in("nobody@example.com", PASSWORD, program="nowhere"),
        await office.sign_in("ada@example.com", ""),
    ]
    assert {answer.status_code for answer in refused} == {401}
    assert len({answer.text for answer in refused}) == 1
    for body in ({"email": "x", "password": PASSWORD}, {"email": "a@b\x00", "password": "x"}, {"email": "a@b"}, [], "x"):
        answer = await office.operators.client.post("/v1/operators/sign-in", json=body)
        assert answer.status_code == 422, body


async def test_an_unknown_address_costs_a_hash_like_a_known_one(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    verify = secrets.verify_password

    def counted(plain: str, *, hashed: str) -> bool:
        verified.append(hashed.split("$")[:4])
        return verify(plain, hashed=hashed)

    monkeypatch.setattr(secrets, "verify_password", counted)
    await office.operators.pool.execute("UPDATE operator SET active = false WHERE email = 'clerk@example.com'")
    for email in ("ada@example.com", "nobody@example.com", "clerk@example.com"):
        assert (await office.sign_in(email, "wrong horse battery")).status_code == 401
    assert len(verified) == 3
    assert verified[0] == verified[1] == verified[2]


# Guessing


@pytest.mark.parametrize("email", ["ada@example.com", "nobody@example.com"])
async def test_after_ten_failures_an_account_answers_429_until_the_quarter_is_over(office: Office, email: str) -> None:
    for _ in range(MAX_FAILURES):
        assert (await office.sign_in(email, "wrong horse battery")).status_code == 401
    answer = await office.sign_in(email)
    assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
    assert 1 <= int(answer.headers["retry-after"]) <= 900
    assert (await office.sign_in("root@example.com")).status_code == 200
    await office.operators.pool.execute("UPDATE sign_in_attempt SET began_at = began_at - interval '15 minutes'")
    assert (await office.sign_in(email)).status_code == (200 if email == "ada@example.com" else 401)


async def test_guesses_at_the_same_time_are_no_more_than_guesses_one_after_the_other(office: Office) -> None:
    async def guess(i: int) -> int:
        return (await office.sign_in("Ada@example.com" if i % 2 else "ada@example.com", f"wrong horse battery {i}")).status_code

    statuses = await asyncio.gather(*(guess(i) for i in range(3 * MAX_FAILURES)))
    assert statuses.count(401) == MAX_FAILURES
    assert statuses.count(429) == 2 * MAX_FAILURES


async def test_a_success_forgets_the_failures_before_it(office: Office) -> None:
    for _ in range(2):
        for _ in range(MAX_FAILURES - 1):
            assert (await office.sign_in(password="wrong horse battery")).status_code == 401
        assert (await office.sign_in()).status_code == 200


async def test_guessing_the_current_password_with_a_stolen_session_is_limited_too(office: Office) -> None:
    token = await office.session()
    body = {"current": "wrong horse battery", "new": "another horse battery"}
    for _ in range(MAX_FAILURES):
        assert (await office.call(token, "POST", "/v1/operators/me/password", body)).status_code == 401
    assert (await office.call(token, "POST", "/v1/operators/me/password", body)).status_code == 429
    assert (await office.call(token, "GET", "/v1/platforms")).status_code == 200  # the session goes on


async def test_attempts_of_long_ago_are_forgotten(office: Office) -> None:
    await office.sign_in("nobody@example.com")
    await office.operators.pool.execute("UPDATE sign_in_attempt SET began_at = began_at - interval '1 hour'")
    await office.sign_in("ada@example.com")
    assert await office.operators.pool.fetchval("SELECT count(*) FROM sign_in_attempt") == 0


async def test_hashing_has_a_bound(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MAX_WAITING", 0)
    with pytest.raises(Overloaded):
        await passwords.is_password("x", hashed=None)
    assert (await office.sign_in()).status_code == 503


# Passwords


async def test_changing_ones_password_ends_the_other_sessions(office: Office) -> None:
    own, other = await office.session(), await office.session()
    new = "another horse battery"
    answer = await office.call(own, "POST", "/v1/operators/me/password", {"current": PASSWORD, "new": new})
    assert answer.status_code == 204, answer.text
    assert (await office.call(own, "GET", "/v1/operators/me")).status_code == 200
    assert (await office.call(other, "GET", "/v1/operators/me")).status_code == 401
    assert (await office.sign_in()).status_code == 401
    assert (await office.sign_in(password=new)).status_code == 200


@pytest.mark.parametrize("weak", ["short", "ada@example.com", "aaaaaaaaaaaaaaaa"])
async def test_weak_passwords_are_refused_wherever_one_is_set(office: Office, weak: str) -> None:
    token = await office.session()
    clerk = office.ids["clerk"]
    if weak == "ada@example.com":
        await office.operators.pool.execute("UPDATE operator SET email = 'ada2@example.com' WHERE id = $1", clerk)
    for path, body, pointer in (
        ("/v1/operators/me/password", {"current": PASSWORD, "new": weak}, "/new"),
        (f"/v1/operators/{clerk}/password", {"password": weak.replace("ada@", "ada2@")}, "/password"),
        ("/v1/operators", {"email": "new@example.com", "role": "viewer", "password": weak.replace("ada@", "new@")}, "/password"),
    ):
        answer = await office.call(token, "POST", path, body)
        assert answer.status_code == 422, path
        assert answer.json()["errors"][0]["pointer"] == pointer
    assert (await office.sign_in()).status_code == 200


async def test_a_hash_of_weaker_parameters_is_replaced_at_the_next_sign_in(office: Office) -> None:
    weaker = PasswordHasher(time_cost=1, memory_cost=512, parallelism=1).hash(PASSWORD)
    await office.operators.pool.execute("UPDATE operator SET password_hash = $1 WHERE email = 'ada@example.com'", weaker)
    assert (await office.sign_in()).status_code == 200
    stored = await office.operators.pool.fetchval("SELECT password_hash FROM operator WHERE email = 'ada@example.com'")
    assert stored != weaker
    assert not secrets.needs_rehash(stored)
    assert (await office.sign_in()).status_code == 200


async def test_a_password_that_is_changed_while_somebody_signs_in_gives_no_session(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    verify = operators._verified

    async def and_then_it_is_changed(*arguments: Any) -> Any:
        verified = await verify(*arguments)
        await office.operators.pool.execute("UPDATE operator SET password_hash = 'other' WHERE email = 'ada@example.com'")
        return verified

    monkeypatch.setattr(operators, "_verified", and_then_it_is_changed)
    assert (await office.sign_in()).status_code == 401
    assert await office.operators.pool.fetchval("SELECT count(*) FROM operator_token WHERE session") == 0


# What administrators do


async def test_an_inactive_operator_loses_every_session_and_token_for_good(office: Office) -> None:
    admin, clerk = await office.session(), await office.session("clerk@example.com")
    path = f"/v1/operators/{office.ids['clerk']}"
    named = (await office.call(admin, "POST", f"{path}/tokens", {"name": "reports"})).json()["token"]
    assert (await office.call(named, "GET", "/v1/campaigns")).status_code == 200
    assert (await office.call(admin, "PATCH", path, {"active": False})).json()["active"] is False
    assert (await office.call(admin, "PATCH", path, {"active": True})).json()["active"] is True
    for token in (clerk, named):
        assert (await office.call(token, "GET", "/v1/campaigns")).status_code == 401
    assert (await office.sign_in("clerk@example.com")).status_code == 200
    audit = (await office.call(admin, "GET", f"/v1/audit?subject=operator:{office.ids['clerk']}")).json()["items"]
    assert [row["action"] for row in audit][1:4] == ["operator.change", "operator.change", "operator.token_create"]


async def test_a_role_counts_at_once(office: Office) -> None:
    admin, clerk = await office.session(), await office.session("clerk@example.com")
    assert (await office.call(clerk, "GET", "/v1/operators")).status_code == 403
    assert (await office.call(admin, "PATCH", f"/v1/operators/{office.ids['clerk']}", {"role": "admin"})).status_code == 200
    assert (await office.call(clerk, "GET", "/v1/operators")).status_code == 200


async def test_nobody_changes_their_own_role_or_state(office: Office) -> None:
    admin = await office.session()
    for patch in ({"active": False}, {"role": "viewer"}):
        assert (await office.call(admin, "PATCH", f"/v1/operators/{office.ids['ada']}", patch)).status_code == 409
    assert (await office.call(admin, "GET", "/v1/operators")).status_code == 200


async def test_two_administrators_cannot_shut_each_other_out(office: Office) -> None:
    """Both are let in as administrators; whoever comes second finds that it is one no more."""
    await office.operators.pool.execute("UPDATE operator SET role = 'admin' WHERE email = 'clerk@example.com'")
    pairs = (("ada", "clerk"), ("clerk", "ada"))
    sessions = {name: await office.session(f"{name}@example.com") for name in office.ids}
    async with office.operators.pool.acquire() as conn, conn.transaction():
        await conn.execute("SELECT id FROM operator FOR UPDATE")
        changes = [
            asyncio.create_task(office.call(sessions[by], "PATCH", f"/v1/operators/{office.ids[whom]}", {"active": False}))
            for by, whom in pairs
        ]
        async with asyncio.timeout(10):
            while await conn.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") < 2:
                await asyncio.sleep(0.01)
    assert sorted([(await change).status_code for change in changes]) == [200, 403]


async def test_a_reset_password_is_shown_once_and_ends_the_sessions(office: Office) -> None:
    admin, clerk = await office.session(), await office.session("clerk@example.com")
    answer = await office.call(admin, "POST", f"/v1/operators/{office.ids['clerk']}/password", {})
    assert answer.status_code == 200, answer.text
    assert (await office.call(clerk, "GET", "/v1/operators/me")).status_code == 401
    assert (await office.sign_in("clerk@example.com")).status_code == 401
    assert (await office.sign_in("clerk@example.com", answer.json()["password"])).status_code == 200
    assert answer.json()["password"] not in (await office.call(admin, "GET", "/v1/audit")).text


async def test_a_named_token_is_shown_once_listed_used_and_revoked(office: Office, app: Litestar) -> None:
    admin = await office.session()
    path = f"/v1/operators/{office.ids['clerk']}/tokens"
    ends = (datetime.now(UTC) + timedelta(days=90)).isoformat()
    made = (await office.call(admin, "POST", path, {"name": "reports", "expires_at": ends})).json()
    assert (await office.call(made["token"], "GET", "/v1/campaigns")).status_code == 200
    await app.state.callers.write_used()
    listed = await office.call(admin, "GET", path)
    assert made["token"] not in listed.text
    (row,) = [row for row in listed.json()["items"] if row["id"] == made["id"]]
    assert (row["name"], row["session"], row["revoked_at"]) == ("reports", False, None)
    assert row["last_used_at"]
    assert row["created_at"]
    assert datetime.fromisoformat(row["expires_at"]) == datetime.fromisoformat(ends)
    for _ in range(2):
        assert (await office.call(admin, "POST", f"{path}/{made['id']}/revoke")).status_code == 200
    assert (await office.call(made["token"], "GET", "/v1/campaigns")).status_code == 401
    past = await office.call(admin, "POST", path, {"name": "x", "expires_at": "2020-01-01T00:00:00Z"})
    assert (past.status_code, past.json()["errors"][0]["pointer"]) == (422, "/expires_at")
    await office.operators.pool.execute("UPDATE operator_token SET revoked_at = NULL, expires_at = now() WHERE id = $1", made["id"])
    assert (await office.call(made["token"], "GET", "/v1/campaigns")).status_code == 401


async def test_tokens_and_sessions_have_a_bound(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = await office.session()
    monkeypatch.setattr("service.store.operators.MAX_TOKENS", 2)  # the first is the one that was made with the operator
    path = f"/v1/operators/{office.ids['clerk']}/tokens"
    assert (await office.call(admin, "POST", path, {"name": "one"})).status_code == 201
    assert (await office.call(admin, "POST", path, {"name": "two"})).status_code == 409
    monkeypatch.setattr("service.store.operators.MAX_SESSIONS", 2)
    sessions = [await office.session("clerk@example.com") for _ in range(3)]
    alive = [(await office.call(token, "GET", "/v1/operators/me")).status_code for token in sessions]
    assert alive == [401, 200, 200]


async def test_another_program_s_operators_do_not_exist(office: Office) -> None:
    admin = await office.session()
    foreign = await office.operators.pool.fetchval("SELECT id FROM operator WHERE email = 'foreign@example.com'")
    token = await office.operators.pool.fetchval("SELECT id FROM operator_token WHERE operator = $1", foreign)
    for number in (foreign, office.ids["root"], 999_999, 2**63):
        for method, path, body in (
            ("PATCH", "", {"active": False}),
            ("POST", "/password", {}),
            ("GET", "/tokens", None),
            ("POST", "/tokens", {"name": "x"}),
            ("POST", f"/tokens/{token}/revoke", None),
        ):
            answer = await office.call(admin, method, f"/v1/operators/{number}{path}", body)
            assert answer.status_code == 404, (number, method, path)
    own = f"/v1/operators/{office.ids['clerk']}/tokens/{token}/revoke"
    assert (await office.call(admin, "POST", own)).status_code == 404
    assert (await office.operators.call("GET", "/v1/platforms", role="foreign")).status_code == 200


async def test_only_administrators_touch_other_operators(office: Office) -> None:
    path = f"/v1/operators/{office.ids['ada']}"
    for role in ("viewer", "campaigns", "fraud", "shop"):
        for method, more, body in (
            ("PATCH", "", {"active": False}),
            ("POST", "/password", {}),
            ("GET", "/tokens", None),
            ("POST", "/tokens", {"name": "x"}),
            ("POST", "/tokens/1/revoke", None),
        ):
            assert (await office.operators.call(method, path + more, body, role=role)).status_code == 403, (role, method, more)


async def test_the_command_line_mends_a_lost_password(office: Office, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    session = await office.session("root@example.com")
    answer = await operators.reset_password(connection, "root@example.com", program=None)
    assert (await office.call(session, "GET", "/v1/operators/me")).status_code == 401
    again = await office.session("root@example.com", answer.password)
    await operators.deactivate(connection, "root@example.com")
    assert (await office.call(again, "GET", "/v1/operators/me")).status_code == 401
    assert (await office.sign_in("root@example.com", answer.password)).status_code == 401
