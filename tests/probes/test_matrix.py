"""Every route, every kind of caller, every place that names an object: nobody reaches what is not theirs.

The routes come from the application, who may call them from /openapi.json, what a request looks like from `recipes.py`.
"""

import asyncio
import base64
import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from secrets import token_bytes
from typing import Any

import asyncpg
import httpx
import jwt
import pytest
from litestar import Litestar
from standardwebhooks import Webhook

from service.api.access import ACCESS, Access, _kind
from service.api.documentation import document
from service.domain import secrets
from service.store import activity_kinds, callers, packaging_classes, stations
from tests.probes import recipes
from tests.probes.documented import REQUEST_ID, VOLATILE, Documented
from tests.probes.routes import Place, Request, Route, missing_recipes, routes_of
from tests.probes.tenants import FOREIGN_NUMBERS, PASSWORD, Caller, Deployment, Tenant, digests, missing

pytestmark = [pytest.mark.timeout(600), pytest.mark.filterwarnings("default::DeprecationWarning")]

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
SHARE = 8
"""Where not everybody is tried: one in so many."""
TRIES = 10
"""A busy machine answers 503 now and then, and has changed nothing then."""
PROBLEM = "application/problem+json"
JWT = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")
SHOWN_KEY = re.compile(r"gps_live_\w{39}")
MOMENTS = re.compile(r'"\d{4}-\d\d-\d\dT[^"]+"')


@pytest.fixture(autouse=True)
def quiet() -> None:
    """Thousands of requests are not worth a line each."""
    logging.getLogger("httpx").setLevel(logging.WARNING)


async def send(deployment: Deployment, request: Request, caller: Caller) -> httpx.Response:
    content = None if request.body is None else json.dumps(request.body).encode()
    headers = caller.headers | request.headers
    if content is not None:
        headers = {"Content-Type": "application/json"} | headers
    for _ in range(TRIES):
        answer = await deployment.client.request(request.method, request.address, params=request.query, content=content, headers=headers)
        if answer.status_code != 503:
            break
    return answer


def covered(app: Litestar) -> list[Route]:
    return [route for route in routes_of(app) if (route.method, route.path) not in recipes.ELSEWHERE]


# Completeness ------------------------------------------------------------------------------------------


async def test_every_route_says_who_may_call_it_and_nothing_else_does(app: Litestar) -> None:
    there = {(route.method, route.path) for route in routes_of(app)}
    without = "\n".join(f"    {key!r}: …," for key in sorted(there - ACCESS.keys()))
    assert not there - ACCESS.keys(), f"add to ACCESS in service/api/access.py who may call:\n{without}"
    assert not ACCESS.keys() - there, "take out of ACCESS in service/api/access.py: there is no such route"


async def test_every_route_has_its_recipes(app: Litestar) -> None:
    problems = missing_recipes(app)
    assert not problems, "tests/probes/recipes.py:\n" + "\n".join(problems)


async def test_what_the_framework_adds_is_not_there(client: httpx.AsyncClient) -> None:
    for path in ("/_schema", "/_schema/openapi.json", "/_schema/openapi.yaml", "/_schema/swagger", "/_schema/elements"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.json() == (await client.get("/nothing")).json()


async def test_the_document_says_who_may_call(app: Litestar) -> None:
    paths = document(app)["paths"]
    assert paths["/v1/events"]["post"]["security"] == [{"platform": ["events:write"]}]
    assert "operators with the role campaigns or admin" in paths["/v1/campaigns"]["post"]["description"]
    assert "security" not in paths["/healthz"]["get"]


@pytest.mark.parametrize(
    ("access", "authorization", "kind"),
    [
        (Access(platform="events:read", operator="audit:read"), None, "operator"),
        (Access(platform="events:read", operator="audit:read"), "Bearer gpo_" + "x" * 32, "operator"),
        (Access(platform="events:read", operator="audit:read"), "Bearer gpk_live_" + "x" * 32, "platform"),
        (Access(platform="events:read", operator="audit:read"), "Bearer a.b.c", "platform"),
        (Access(platform="events:read", consumer="redeem"), "Bearer a.b.c", "consumer"),
        (Access(platform="events:read", consumer="redeem"), None, "platform"),
        (Access(consumer="redeem"), "Bearer gpk_live_" + "x" * 32, "consumer"),
        (Access(operator="audit:read"), "Bearer a.b.c", "operator"),
        (Access(station="tokens:issue"), None, "station"),
        (Access(station="tokens:issue"), "Bearer gpo_" + "x" * 32, "station"),
        (Access(station="tokens:issue", operator="audit:read"), "Bearer " + secrets.station_key(bytes(24)), "station"),
        (Access(station="tokens:issue", operator="audit:read"), None, "operator"),
        (Access(platform="events:read", operator="audit:read"), "Bearer " + secrets.station_key(bytes(24)), "platform"),
    ],
)
def test_where_several_may_call_the_token_tells_whom_to_look_for(access: Access, authorization: str | None, kind: str) -> None:
    assert _kind(access, authorization) == kind


@pytest.mark.parametrize(
    ("mark", "text", "there"),
    [
        ("zq7", '"code":"zq7-12"', True),
        ("zq7", "admin@zq7.example", True),
        ("aa9 ", "the aa9 campaign", True),
        ("zq7", '"id":"wwzq7VTmuLVUYuhWFw1raN7S6QmPdOob"', False),
        ("zq7", '"id":"zq7VTmuLVUYuhWFw1raN7S6QmPdOob"', False),
        ("aa9-shop", "iss=aa9-shop", True),
    ],
)
def test_a_mark_is_seen_as_a_word(mark: str, text: str, *, there: bool) -> None:
    assert (_as_a_word(mark, text) is not None) is there


# Who may call ------------------------------------------------------------------------------------------


async def test_only_those_whom_the_table_names_may_call(deployment: Deployment) -> None:
    """Each route with each caller, all names being those of the caller's own objects or, for nobody, those of platform a.

    Who is refused follows from a route's entry in ACCESS: the first route of each entry is tried by everybody, the others in turn by a few.
    """
    problems, made = [], 0
    documented = Documented(deployment.app)
    turns = Counter[Access]()
    for route in covered(deployment.app):
        worked = route.public or (route.method, route.path) in recipes.FOR_SESSIONS
        before = await digests(deployment)
        refused = [caller for caller in deployment.callers if not _is_in(route, caller)]
        entry = ACCESS[route.method, route.path]
        for caller in refused if LONG or not turns[entry] else refused[turns[entry] % SHARE :: SHARE]:
            answer = await send(deployment, await route.request(deployment.tenant(caller.tenant), caller, fresh=False), caller)
            made += 1
            problems += [*_wrong_refusal(route, caller, answer), *_leaks(route, caller, answer), *documented.wrong(route, answer)]
        if (after := await digests(deployment)) != before:
            problems.append(f"{route.name}: a refused call changed {_differing(before, after)}")
        for caller in deployment.callers:
            if caller.session and (route.method, route.path) in recipes.FOR_SESSIONS:
                continue  # it is needed for the next routes
            if _is_in(route, caller):
                request = await route.request(deployment.tenant(caller.tenant), caller, fresh=True)
                answer = await send(deployment, request, caller)
                problems += documented.wrong(route, await send(deployment, request, caller))  # a repeat may answer something else
                made += 2
                worked = worked or answer.status_code < 300
                problems += [*_wrong_admission(route, caller, answer), *_leaks(route, caller, answer), *documented.wrong(route, answer)]
        turns[entry] += 1
        if not worked:
            problems.append(f"{route.name}: nobody could call it; is its recipe sound?")
    assert not problems, "\n".join(problems)
    assert made > 500


def _is_in(route: Route, caller: Caller) -> bool:
    """Whether it may call: those who are only to be signed in act in no program, and what they choose makes no difference."""
    return route.admits(caller) and (caller.chooses == "own" or route.security.get("operator") == "signed-in")


def _wrong_admission(route: Route, caller: Caller, answer: httpx.Response) -> Iterator[str]:
    if answer.status_code in (401, 403, 404) or answer.status_code >= 500:
        yield f"{route.name} for {caller.name}: {answer.status_code} {answer.text[:200]}"


def _wrong_refusal(route: Route, caller: Caller, answer: httpx.Response) -> Iterator[str]:
    if route.public:
        if answer.status_code >= 400:
            yield f"{route.name} for {caller.name}: {answer.status_code}, though it is for anybody"
        return
    if caller.kind is None:
        expected = 401
    elif not route.admits(caller):
        expected = 403
    else:
        expected = {"foreign": 404, "none": 422}[caller.chooses]
    if answer.status_code != expected or answer.headers["content-type"] != PROBLEM:
        yield f"{route.name} for {caller.name}: {answer.status_code}, not {expected}: {answer.text[:200]}"


def _leaks(route: Route, caller: Caller, answer: httpx.Response) -> Iterator[str]:
    """Marks of whoever is neither the caller's platform nor, for operators, in its program; numbers of q; in cursors, too."""
    mark = caller.tenant
    if mark == "zq7":  # its twins have the codes and numbers of the others' objects, but not what those say in words
        others = {"aa9 ", "bb4 ", "aa9-shop", "bb4-shop", "pp3"}
    else:
        others = {"zq7"} | (set() if caller.kind == "operator" else {"aa9", "bb4"} - {mark})
    sent = str(answer.request.url) + answer.request.content.decode() + str(caller.headers)
    text = _opened(REQUEST_ID.sub("", answer.text)) + str(_headers(answer)) + _cursors(answer)
    for other in others:
        if (found := _as_a_word(other, text)) and not _as_a_word(other, sent):
            yield f"{route.name} for {caller.name}: the answer has {other}: {_around(text, found)}"
    if mark != "zq7" and (found := re.search(rf"\b{FOREIGN_NUMBERS // 10**6}\d{{6}}\b", text)) and found[0] not in sent:
        yield f"{route.name} for {caller.name}: the answer has a number of q: {_around(text, found)}"


def _as_a_word(mark: str, text: str) -> re.Match[str] | None:
    """Where a name begins with it: random keys and ids have any three letters now and then, in their middle."""
    end = "" if mark.endswith(" ") else "(?![A-Za-z_])"
    return re.search(f"(?<![0-9A-Za-z_]){mark}{end}", text)


def _opened(text: str) -> str:
    """With the claims of tokens in place of these, whose letters are random."""
    return JWT.sub(lambda token: str(jwt.decode(token[0], options={"verify_signature": False}) | {"jti": ""}), text)


def _cursors(answer: httpx.Response) -> str:
    if "json" not in answer.headers.get("content-type", "") or not answer.content:
        return ""
    body = answer.json()
    cursor = body.get("next_cursor") if isinstance(body, dict) else None
    return "" if cursor is None else " " + base64.urlsafe_b64decode(cursor + "==").decode("latin-1")


def _around(text: str, found: re.Match[str]) -> str:
    return text[max(0, found.start() - 60) : found.start() + 60]


def _differing(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return sorted(name for name in after if after[name] != before.get(name))


# Whose is it -------------------------------------------------------------------------------------------


REMEMBERED = {
    callers.PLATFORM_BY_KEY, callers.ISSUER, callers.SIGNING_KEYS, stations.STATION_BY_KEY,
    # What a program's events may name: read again when one names what nobody knows, and something was declared.
    callers.VERSION, packaging_classes.OF_PROGRAM, activity_kinds.OF_PROGRAM,
}  # fmt: skip


class Spy:
    """The statements that requests send to PostgreSQL, without those whose answer a process remembers."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.task = asyncio.current_task()

    def saw(self, statement: str) -> None:
        if asyncio.current_task() is self.task and statement not in REMEMBERED:
            self.statements.append(statement)


@pytest.fixture
async def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    watched = Spy()
    original = asyncpg.Connection._execute

    async def execute(self: Any, query: str, *args: Any, **more: Any) -> Any:
        watched.saw(query)
        return await original(self, query, *args, **more)

    monkeypatch.setattr(asyncpg.Connection, "_execute", execute)
    return watched


OF_A_PLATFORM = {"consumer", "held_consumer", "single_consumer", "linked_consumer", "reviewed_consumer"}
"""What an operator names together with its platform, in a query."""
OF_THE_PROGRAM = {"packaging_class", "activity_kind", "link_code"}
"""What the platforms of a program share, or give each other."""


def variations(
    route: Route, own: Tenant, sibling: Tenant, foreign: Tenant, caller: Caller
) -> Iterator[tuple[str, list[tuple[Place, Any]]]]:
    """Names of others, one place at a time and all of the path at once; what an operator of the program may touch is left out."""
    for place, kind in route.places().items():
        yield "of another program", [(place, foreign.objects[kind])]
        inner = place[0] == "path" and (place[1][0] != 0 or kind in OF_A_PLATFORM)
        if (caller.kind != "operator" or inner) and kind not in OF_THE_PROGRAM:
            yield "of another platform", [(place, sibling.objects[kind])]
    if len(route.kinds) > 1:
        yield "of another program, all", [(("path", (i,)), foreign.objects[kind]) for i, kind in enumerate(route.kinds)]


async def test_what_is_somebody_elses_is_as_if_it_did_not_exist(deployment: Deployment, spy: Spy) -> None:
    """Same status, same bytes, same statements, nothing changed."""
    problems, made = [], 0
    spy.task = asyncio.current_task()
    names = ["platform a", "consumer of aa9", "station of aa9", "operator: admin", "admin of all choosing p"]
    a, b, x = deployment.a, deployment.b, deployment.x
    for route, name in itertools.product(covered(deployment.app), names):
        caller = deployment.caller(name)
        if not _is_in(route, caller):
            continue
        before = await digests(deployment)
        for whose, changes in variations(route, a, b, x, caller):
            pair = []
            for values in ([value for _, value in changes], [missing(value) for _, value in changes]):
                request = await route.request(a, caller, fresh=False)
                for (place, _), value in zip(changes, values, strict=True):
                    request = request.at(place, value)
                deployment.app.state.callers._unknown.clear()
                spy.statements.clear()
                answer = await send(deployment, request, caller)
                made += 1
                pair.append((answer.status_code, _headers(answer), _without(answer.text, values), list(spy.statements)))
                problems += _leaks(route, caller, answer)
                if answer.status_code < 300 and not route.is_filter(changes[0][0]) and (route.method, route.path) not in recipes.PER_ROW:
                    problems.append(f"{route.name} for {name} with {values} {whose}: {answer.status_code}")
                if changes[0][0][0] == "path" and answer.status_code != 404:
                    problems.append(f"{route.name} for {name} with {values} {whose}: {answer.status_code}, not 404: {answer.text[:200]}")
            if pair[0] != pair[1]:
                problems.append(f"{route.name} for {name} with {changes} {whose}, then missing:\n  {pair[0]}\n  {pair[1]}")
        changed = set(_differing(before, await digests(deployment)))
        if route.body is not None and route.body.filters:
            changed -= {"audit"}  # what selects nothing is no refusal: that it was asked for is written down
        if changed:
            problems.append(f"{route.name} for {name}: a refused call changed {sorted(changed)}")
    assert not problems, "\n".join(problems)
    assert made > 100


def _headers(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in VOLATILE}


def _without(text: str, values: list[Any]) -> str:
    """The answer without the names that were asked for, moments, and what was made up for this request alone."""
    for value in values:
        text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(str(value))}(?![0-9A-Za-z])", "‹name›", text)
    text = SHOWN_KEY.sub("‹key›", text)
    return MOMENTS.sub('"‹moment›"', re.sub(r"(aa9)-\d+|\b0991\d{10}\b", r"‹own›", text))


async def test_a_name_that_another_uses_is_free(deployment: Deployment) -> None:
    """Ids, references, orders, numbers: the same name of another platform or program changes neither answer nor their data."""
    problems, made = [], 0
    a, b, x = deployment.a, deployment.b, deployment.x
    for route in covered(deployment.app):
        for place, kind in (route.body.names if route.body else {}).items():
            for name, owner in itertools.product(("platform a", "operator: admin"), (x, b)):
                caller = deployment.caller(name)
                if not _is_in(route, caller) or (owner is b and name != "platform a"):
                    continue
                theirs = owner.objects[kind]
                answers = []
                for value in (theirs, missing(theirs)):
                    request = (await route.request(a, caller, fresh=True)).at(("body", place), value)
                    before = await _rows_of(deployment, owner)
                    answer = await send(deployment, request, caller)
                    made += 1
                    answers.append((answer.status_code, re.sub(r'"id":"\d+"', '"id":"‹id›"', _without(answer.text, [value]))))
                    if await _rows_of(deployment, owner) != before:
                        problems.append(f"{route.name} with {value!r} at {place}: rows of {owner.mark} changed")
                    problems += _leaks(route, caller, answer)
                if answers[0] != answers[1] or answers[0][0] >= 300:
                    problems.append(f"{route.name} with {theirs!r} of {owner.mark} at {place}:\n  {answers[0]}\n  {answers[1]}")
    assert not problems, "\n".join(problems)
    assert made > 20


OWNED = {
    "event": "platform", "award": "platform", "parked": "platform", "entry": "platform", "lot": "platform", "delivery": "platform",
    "consumer_reference": "platform", "api_key": "platform", "signing_key": "platform", "hook": "platform", "product_sku": "platform",
}  # fmt: skip
"""Tables whose rows belong to a platform; others with a column `program` belong to that."""


async def _rows_of(deployment: Deployment, owner: Tenant) -> list[Any]:
    """A hash of all rows of an owner's."""
    (platform,) = await deployment.fetch("SELECT id FROM platform WHERE code = $1", owner.platform)
    columns = await deployment.fetch(
        "SELECT table_name, array_agg(column_name::text) AS columns FROM information_schema.columns"
        " WHERE table_schema = 'public' AND column_name IN ('program', 'platform') GROUP BY 1 ORDER BY 1"
    )
    found = []
    for row in columns:
        column = "platform" if "platform" in row["columns"] else "program"
        if column == "program" and owner is not deployment.x:
            continue  # a and b share their program
        number = platform["id"] if column == "platform" else owner.program
        found += await deployment.fetch(
            f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {row['table_name']} t WHERE {column}::bigint = $1",
            number,
        )
    return found


async def test_a_name_that_is_unique_in_the_deployment_does_not_tell_who_has_it(deployment: Deployment) -> None:
    problems, made = [], 0
    caller = deployment.caller("operator: admin")
    for route in covered(deployment.app):
        for place, kind in (route.body.unique if route.body else {}).items():
            answers = []
            before = await digests(deployment)
            for owner in (deployment.x, deployment.a):
                value = owner.objects[kind]
                answer = await send(deployment, (await route.request(deployment.a, caller, fresh=True)).at(("body", place), value), caller)
                made += 1
                answers.append((answer.status_code, _headers(answer), answer.text.replace(value, "‹name›")))
            if answers[0] != answers[1] or answers[0][0] != 409:
                problems.append(f"{route.name} at {place}:\n  {answers[0]}\n  {answers[1]}")
            if await digests(deployment) != before:
                problems.append(f"{route.name} at {place}: a refused call changed something")
    assert not problems, "\n".join(problems)
    assert made >= 4


# Lists and counts --------------------------------------------------------------------------------------

OF_THE_PROCESS = {"/metrics"}
"""What counts for the whole process, for whoever runs it; docs/operations.md says to keep it inside."""


async def _everything(deployment: Deployment) -> dict[str, str]:
    """The answers to all GETs of a's and p's callers about their own objects, page by page."""
    found = {}
    for route in covered(deployment.app):
        if route.method != "GET" or route.path in OF_THE_PROCESS:
            continue
        for name in ("platform a", "consumer of aa9", "operator: admin"):
            caller = deployment.caller(name)
            if not _is_in(route, caller):
                continue
            request = await route.request(deployment.a, caller, fresh=False)
            if route.path == "/v1/audit":  # on one page: what reading adds to it must not move what stands on which
                request.query["limit"] = 200
            for n in range(50):
                answer = await send(deployment, request, caller)
                assert answer.status_code == 200, f"{route.name} for {name}: {answer.text}"
                found[f"{route.name} for {name}, page {n}"] = _as_before(route, answer)
                cursor = answer.json().get("next_cursor") if "json" in answer.headers["content-type"] else None
                if cursor is None:
                    break
                request.query |= {"cursor": cursor}
    return found


def _as_before(route: Route, answer: httpx.Response) -> str:
    """Without what reading itself adds: the moment, and the audit's rows of exports."""
    text = answer.text
    if route.path == "/v1/audit":
        body = answer.json()
        text = json.dumps([item for item in body["items"] if item["action"] != "consumer.export"])
    return re.sub(r'"as_of":"[^"]+"', "", text)


async def test_another_program_changes_no_answer(app: Litestar, client: httpx.AsyncClient) -> None:
    """Lists, sums, statistics and balances before there is another program with the same names, and after."""
    deployment = await Deployment(app, client).found()
    await deployment.introduce_without_q()
    before = await _everything(deployment)
    await deployment.found_another()
    after = await _everything(deployment)
    assert len(before) > 20
    assert {name: text for name, text in after.items() if before.get(name) != text} == {}
    assert before.keys() == after.keys()


async def test_a_cursor_does_not_tell_how_much_others_write(deployment: Deployment) -> None:
    """Events are numbered for the whole deployment: a platform that could read its cursors would see how many there were in between."""
    for _ in range(3):
        await deployment.a.make("event")
    first = await deployment.a.send("GET", "/v1/events?limit=1")
    (event,) = first.json()["items"]
    (row,) = await deployment.fetch("SELECT number FROM event WHERE id = $1", event["id"])
    cursor = first.json()["next_cursor"]
    assert str(row["number"]) not in _cursors(first)
    assert (await deployment.a.send("GET", f"/v1/events?limit=1&cursor={cursor}")).json()["items"][0]["id"] != event["id"]
    forged = base64.urlsafe_b64encode(str(row["number"]).encode()).decode().rstrip("=")
    answer = await deployment.client.get(f"/v1/events?cursor={forged}", headers={"Authorization": f"Bearer {deployment.a.key}"})
    assert answer.status_code == 422


# Hooks -------------------------------------------------------------------------------------------------


async def test_a_hook_takes_only_what_its_own_secret_signed(deployment: Deployment) -> None:
    """What is refused leaves a line in the log of the hook that was called, nothing else."""
    x, a, log = deployment.x, deployment.a, deployment.app.state.deliveries
    now = datetime.now(UTC)
    body = json.dumps({"type": "order.paid", "timestamp": now.isoformat(), "data": {}})
    hooks = (a.objects["hook"], x.objects["hook"], missing(x.objects["hook"]))
    answers = []
    for secret, hook in itertools.product((x.hook_secret, a.hook_secret), hooks):
        signature = Webhook(secret).sign("m-1", now, body)
        headers = {"webhook-id": "m-1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        before, rows = await digests(deployment), await _log_rows(deployment, hook)
        answer = await deployment.client.post(f"/v1/hooks/{hook}", content=body, headers=headers)
        await log.flush()
        changed = _differing(before, await digests(deployment))
        answers.append((answer.status_code, changed, await _log_rows(deployment, hook) - rows))
    signed, refused, nowhere = (200, ["delivery"], 1), (401, ["delivery"], 1), (404, [], 0)
    assert answers == [refused, signed, nowhere, signed, refused, nowhere]


async def _log_rows(deployment: Deployment, hook: str) -> int:
    (row,) = await deployment.fetch("SELECT count(*) FROM delivery WHERE hook = $1", hook)
    return int(row["count"])


# Where the handler proves who calls ----------------------------------------------------------------------


async def _asked(deployment: Deployment, spy: Spy, path: str, **more: Any) -> tuple[int, dict[str, str], str, list[str], list[str]]:
    """The answer to a POST without any proof in its headers, the statements for it, and the tables that it changed."""
    before = await digests(deployment)
    spy.task = asyncio.current_task()
    spy.statements.clear()
    answer = await deployment.client.post(path, **more)
    statements = list(spy.statements)
    return answer.status_code, _headers(answer), answer.text, statements, _differing(before, await digests(deployment))


async def test_signing_in_tells_nothing_and_leads_into_no_other_program(deployment: Deployment, spy: Spy) -> None:
    """An address that nobody has is like a wrong password; another program is like one that is not there."""
    here, there = deployment.a.objects["operator_email"], deployment.x.objects["operator_email"]

    async def sign_in(email: str, password: str, **more: Any) -> tuple[int, dict[str, str], str, list[str], list[str]]:
        return await _asked(deployment, spy, "/v1/operators/sign-in", json={"email": email, "password": password} | more)

    refused = [await sign_in(email, "a wrong password of mine") for email in (here, there, missing(there))]
    assert refused[0] == refused[1] == refused[2]
    assert refused[0][0] == 401
    assert refused[0][4] == ["sign_in_attempt"]
    foreign = await sign_in(here, PASSWORD, program=deployment.x.program_code)
    nowhere = await sign_in(here, PASSWORD, program=missing(deployment.x.program_code))
    assert foreign[0] == nowhere[0] == 404
    assert foreign[2].replace(deployment.x.program_code, "") == nowhere[2].replace(missing(deployment.x.program_code), "")
    assert foreign[1] == nowhere[1]
    assert foreign[4] == nowhere[4] == ["sign_in_attempt"]
    own = await sign_in(here, PASSWORD, program=deployment.a.program_code)
    assert own[0] == 200
    answer = await deployment.client.get("/v1/platforms", headers={"Authorization": f"Bearer {json.loads(own[2])['token']}"})
    assert {item["code"] for item in answer.json()["items"]} == {deployment.a.platform, deployment.b.platform}


async def test_signing_out_ends_this_session_only(deployment: Deployment) -> None:
    email = deployment.a.objects["operator_email"]
    sessions = []
    for _ in range(2):
        answer = await deployment.client.post("/v1/operators/sign-in", json={"email": email, "password": PASSWORD})
        sessions.append({"Authorization": f"Bearer {answer.json()['token']}"})
    before = await digests(deployment)
    assert (await deployment.client.post("/v1/operators/sign-out", headers=sessions[0])).status_code == 204
    assert _differing(before, await digests(deployment)) == ["audit", "operator_token"]
    answers = [(await deployment.client.get("/v1/operators/me", headers=session)).status_code for session in sessions]
    assert answers == [401, 200]


async def test_a_client_gets_tokens_for_its_own_key_only(deployment: Deployment, spy: Spy) -> None:
    """Another's key under one's own name, one's own key under another's, and a key that nobody has are all the same."""
    a, b, x = deployment.a, deployment.b, deployment.x

    async def ask(client: str, secret: str) -> tuple[int, dict[str, str], str, list[str], list[str]]:
        form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret}
        return await _asked(deployment, spy, "/v1/oauth/token", data=form)

    nobodys = secrets.platform_key(token_bytes(secrets.RANDOM_BYTES))
    pairs = [(a, b.key), (a, x.key), (b, a.key), (x, a.key), (a, nobodys)]
    refused = [await ask(platform.platform, key) for platform, key in pairs]
    refused.append(await ask(missing(x.platform), a.key))
    assert all(each == refused[0] for each in refused)
    assert refused[0][0] == 401
    assert refused[0][4] == []
    status, _, text, _, changed = await ask(a.platform, a.key)
    assert (status, changed) == (200, ["access_token"])
    token = {"Authorization": f"Bearer {json.loads(text)['access_token']}"}
    own = await deployment.client.get(f"/v1/consumers/{a.objects['consumer']}/balance", headers=token)
    theirs = await deployment.client.get(f"/v1/consumers/{b.objects['consumer']}/balance", headers=token)
    assert (own.status_code, theirs.status_code) == (200, 404)
