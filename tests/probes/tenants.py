"""Two programs in one deployment, three platforms, and an object of every kind that a request can name.

Everything that belongs to somebody carries a mark of theirs in its name, code or number, so that an answer that holds another's
is seen at once: `pp3` the program p, `aa9` and `bb4` its platforms, `zq7` the program q and its platform.
"""

import itertools
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from secrets import token_bytes
from typing import Any

import httpx
import msgspec
from litestar import Litestar
from standardwebhooks import Webhook

from schemas.activities import ActivityKindBody
from schemas.adjustments import AdjustmentBody
from schemas.assets import AssetBody
from schemas.campaigns import CampaignBody
from schemas.causes import CauseBody
from schemas.fraud_lists import ListEntryBody
from schemas.fraud_models import FraudModelBody
from schemas.impact import FactorBody
from schemas.packaging_classes import PackagingClassBody
from schemas.points_policy import PointsPolicy, TransferPolicy
from schemas.registries import CertificateBody, ProductBody
from schemas.rewards import RewardBody
from schemas.stations import StationBody
from service.domain import secrets
from service.domain.connectors import Demand
from service.domain.fraud.signals import NAMES
from service.domain.intake import Sender
from service.domain.links import new_code
from service.domain.redeeming import new_id
from service.domain.roles import CONSUMER_SCOPES, ROLES, SCOPES, STATION_SCOPES
from service.flows import (
    adjustments,
    administer,
    assets,
    campaigns,
    causes,
    client_credentials,
    erase,
    fraud_lists,
    fraud_models,
    impact,
    passwords,
    privacy_requests,
    registries,
    reward_catalogue,
    stations,
    vocabulary,
    vouchers,
)
from service.flows.administer import Change
from service.store import callers as store
from service.store import operators
from tests.reviewing import hold
from tests.sealer import SEALER
from tests.worlds import World

FOREIGN_NUMBERS = 777_000_000
"""The program q's rows are numbered from here on: a number of theirs is recognised in any answer."""
NUMBERS_GAP = 222_000_000
"""What to subtract from a number of theirs for one that nobody has."""
SHARED_GTINS = ("06901234567892", "04006381333931")

_names = itertools.count(100)


class Tenant:
    """A platform, its program, and ways to make objects that belong to it. `mark` is in every name; `known` holds objects by kind."""

    def __init__(self, mark: str, *, program: int, program_code: str, platform: str, app: Litestar, client: httpx.AsyncClient) -> None:
        self.mark, self.program, self.program_code, self.platform = mark, program, program_code, platform
        self.app, self.client = app, client
        self.key = ""
        self.hook_secrets: dict[str, str] = {}
        """By the hook's id."""
        self.latest_station = ""
        """Whose key the next `station_key` is."""
        self.latest_operator = 0
        """Whose token the next `operator_token` is."""
        self.latest_reviewed = ""
        """Whose event the next `reviewed_event` is."""
        self.objects: dict[str, Any] = {}

    @property
    def hook_secret(self) -> str:
        """Of `objects["hook"]`."""
        return self.hook_secrets[self.objects["hook"]]

    def name(self) -> str:
        return f"{self.mark}-{next(_names)}"

    async def flow(self, work: Callable[..., Awaitable[Any]], *args: Any, **more: Any) -> Any:
        async with self.app.state.resources.pool.acquire() as conn:
            return await work(conn, *args, **more)

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        async with self.app.state.resources.pool.acquire() as conn:
            return list(await conn.fetch(sql, *values))

    async def send(self, method: str, path: str, *, key: str | None = None, **more: Any) -> httpx.Response:
        answer = await self.client.request(method, path, headers={"Authorization": f"Bearer {key or self.key}"}, **more)
        assert answer.status_code < 300, answer.text
        return answer

    async def make(self, kind: str) -> Any:
        """A new object of this kind; what names it in a request."""
        return await MAKERS[kind](self)


async def _campaign(t: Tenant) -> str:
    code = t.name()
    await t.flow(campaigns.create, campaign_body(code, t), program=t.program, change=Change())
    await t.flow(campaigns.step, code, "activate", program=t.program, change=Change())
    return code


def campaign_body(code: str, t: Tenant) -> CampaignBody:
    body = {
        "code": code, "name": f"{t.mark} campaign", "action": "purchase", "starts_at": "2025-01-01T00:00:00Z",
        "ends_at": "2030-01-01T00:00:00Z", "when": "line.certified", "award": {"kind": "per_unit", "points": 10}, "hold": "PT0S",
        "expires_after": "P12M", "platforms": [t.platform],
    }  # fmt: skip
    return msgspec.convert(body, CampaignBody)


async def _certificate(t: Tenant) -> str:
    body = msgspec.convert(
        {"scheme": "own-scheme", "number": t.name(), "holder": f"{t.mark} mill", "valid_from": "2025-01-01", "valid_until": "2029-12-31",
         "gtins": [gtin(t), *SHARED_GTINS]}, CertificateBody, strict=False,
    )  # fmt: skip
    made = await t.flow(registries.register_certificate, body, program=t.program, change=Change())
    return str(made.id)


_gtins = itertools.count(1)


def gtin(t: Tenant) -> str:
    """A new GTIN with the tenant's mark in digits."""
    return with_check_digit({"aa9": "0991", "bb4": "0992", "zq7": "0777"}[t.mark] + f"{next(_gtins):09d}")


def with_check_digit(digits: str) -> str:
    total = sum(int(digit) * (3, 1)[i % 2] for i, digit in enumerate(reversed(digits)))
    return f"{digits}{-total % 10}"


async def _product(t: Tenant) -> str:
    made = gtin(t)
    body = {"gtin": made, "name": f"{t.mark} soap", "category": "soap", "skus": [{"platform": t.platform, "sku": t.name()}]}
    await t.flow(registries.register_product, msgspec.convert(body, ProductBody), program=t.program, change=Change())
    return made


def factor(id_: str) -> dict[str, Any]:
    """A version of an impact factor."""
    return {
        "id": id_, "what": "box", "unit": "item", "plastic_g": "19.5", "method": "weighed", "region": "CN", "vintage": 2026,
        "usable_for": ["mass_only"], "source": "own scales", "verification": "primary",
    }  # fmt: skip


async def _impact_factor(t: Tenant) -> str:
    made = t.name()
    await t.flow(impact.save_factor, msgspec.convert(factor(made), FactorBody), program=t.program, change=Change())
    return made


async def _asset(t: Tenant) -> str:
    """Its name is its canonical text, so that the tenant's mark is seen in answers."""
    key = t.name().replace("-", "")
    body = msgspec.convert({"asset": key, "class": "circular_box", "max_trips": 20}, AssetBody)
    await t.flow(assets.register_asset, body, program=t.program, change=Change())
    return key


async def _packaging_class(t: Tenant) -> str:
    """The program's, which its platforms share: marked as such."""
    mark = t.program_code[:3]
    body = PackagingClassBody(code=f"{mark}-{next(_names)}", group="baseline", name_en=f"{mark} wrap")
    return str((await t.flow(vocabulary.create_class, body, program=t.program, change=Change())).code)


async def _activity_kind(t: Tenant) -> str:
    mark = t.program_code[:3]
    body = ActivityKindBody(code=f"{mark}-{next(_names)}", name=f"{mark} day", schema={"type": "object"})
    return str((await t.flow(vocabulary.create_kind, body, program=t.program, change=Change())).code)


async def _reward(t: Tenant) -> str:
    """Of the tenant's platform, with a code."""
    body = RewardBody(code=t.name(), name=f"{t.mark} cup", points=100, vouchers=True, platforms=[t.platform])
    await t.flow(reward_catalogue.create_reward, body, sealer=SEALER, program=t.program)
    await t.flow(vouchers.load, [t.name()], sealer=SEALER, program=t.program, code=body.code)
    return body.code


async def _cause(t: Tenant) -> str:
    """The program's, which its platforms share: marked as such."""
    mark = t.program_code[:3]
    body = CauseBody(code=f"{mark}-{next(_names)}", name=f"{mark} trees")
    return str((await t.flow(causes.create_cause, body, program=t.program)).code)


async def _api_key(t: Tenant) -> int:
    return int((await t.flow(administer.create_key, program=t.program, platform=t.platform)).id)


async def _signing_key(t: Tenant) -> int:
    made = await t.flow(
        administer.add_signing_key, program=t.program, platform=t.platform, algorithm="EdDSA", kid=t.name(), public_pem=new_pem()
    )
    return int(made.id)


def new_pem() -> str:
    from service.domain import tokens  # noqa: PLC0415 - only here

    return tokens.development_key(token_bytes(32))[1]


async def _hook(t: Tenant) -> str:
    made = await t.flow(administer.create_hook, sealer=SEALER, program=t.program, platform=t.platform, connector="standard")
    t.hook_secrets[made.id] = made.secrets[0]
    return str(made.id)


def order(t: Tenant, consumer: str, *, event: str | None = None) -> dict[str, Any]:
    name = t.name()
    return {
        "id": event or f"{name}:paid", "type": "order.paid", "occurred_at": datetime.now(UTC).isoformat(), "consumer": consumer,
        "order": {"id": name, "currency": "CNY", "total": "40.00"},
        "lines": [{"id": "1", "sku": name, "gtin": SHARED_GTINS[0], "quantity": "2", "unit_price": "20.00"}],
    }  # fmt: skip


async def _event(t: Tenant) -> str:
    body = order(t, t.name())
    await t.send("POST", "/v1/events", json=body)
    return str(body["id"])


async def _consumer(t: Tenant) -> str:
    consumer = t.name()
    await t.send("POST", "/v1/events", json=order(t, consumer))
    # What can be spent at once, too.
    await t.send("POST", "/v1/consumers/import", json=[{"id": t.name(), "consumer": consumer, "points": 1_000, "expires_on": None}])
    return consumer


async def _redemption(t: Tenant) -> str:
    """A reservation of the consumer's."""
    return await _redeem(t, capture=False)


async def _captured_redemption(t: Tenant) -> str:
    return await _redeem(t, capture=True)


async def _redeem(t: Tenant, **more: Any) -> str:
    body = {"consumer": t.objects["consumer"], "points": 1, "reference": t.name(), "ttl": "P1D"} | more
    headers = {"Authorization": f"Bearer {t.key}", "Idempotency-Key": t.name()}
    answer = await t.client.post("/v1/redemptions", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def _link_code(t: Tenant) -> str:
    """That somebody else of the platform was given."""
    return await _code_of(t, await _consumer(t))


async def _code_of(t: Tenant, consumer: str) -> str:
    return str((await t.send("POST", f"/v1/consumers/{consumer}/link-codes")).json()["code"])


async def _linked_consumer(t: Tenant) -> str:
    consumer = await _consumer(t)
    await t.send("POST", f"/v1/consumers/{consumer}/link", json={"code": await _link_code(t)})
    return consumer


async def _reviewed_consumer(t: Tenant) -> str:
    t.latest_reviewed = await _consumer(t)
    return t.latest_reviewed


async def _reviewed_event(t: Tenant) -> str:
    """Held, of the `reviewed_consumer` who was made last."""
    return await _held_event(t, t.latest_reviewed)


async def _own_reviewed_event(t: Tenant) -> str:
    """Held, of the consumer whose token the probes have."""
    return await _held_event(t, t.objects["consumer"])


async def _held_event(t: Tenant, consumer: str) -> str:
    body = order(t, consumer)
    await t.send("POST", "/v1/events", json=body)
    world = World(t.app.state.resources.pool)
    world.program, world.platforms = (
        t.program,
        {"shop": Sender(program=t.program, platform=await _platform_id(t), platform_code=t.platform)},
    )
    await hold(world, body["id"])
    return str(body["id"])


async def _objection(t: Tenant) -> str:
    """That waits for its answer."""
    event = await _own_reviewed_event(t)
    await t.send("POST", f"/v1/consumers/{t.objects['consumer']}/events/{event}/objection", json={"text": f"{t.mark} says no"})
    (row,) = await t.fetch("SELECT max(event) AS event FROM fraud_objection WHERE program = $1", t.program)
    return str(row["event"])


async def _order(t: Tenant) -> str:
    body = order(t, t.name())
    await t.send("POST", "/v1/events", json=body)
    return str(body["order"]["id"])


async def _platform(t: Tenant) -> str:
    return t.platform


async def _platform_subject(t: Tenant) -> str:
    return f"platform:{t.platform}"


async def _email(t: Tenant) -> str:
    email = f"{t.name()}@example.com"
    await insert_operator(t, email, "viewer", t.program)
    return email


async def _operator(t: Tenant) -> int:
    await insert_operator(t, f"{t.name()}@example.com", "viewer", t.program)
    (row,) = await t.fetch("SELECT max(id) AS id FROM operator WHERE program = $1", t.program)
    t.latest_operator = int(row["id"])
    return t.latest_operator


async def _operator_token(t: Tenant) -> int:
    """Of the operator that was made last."""
    digest = secrets.token_hash(secrets.operator_token(token_bytes(secrets.RANDOM_BYTES)))
    made = await t.flow(operators.insert_token, token_hash=digest, operator=t.latest_operator, name=t.name(), expires_at=None)
    return int(made.id)


async def _station(t: Tenant) -> str:
    """Of the tenant's platform."""
    t.latest_station = t.name()
    await make_station(t, t.latest_station, platform=t.platform)
    return t.latest_station


async def make_station(t: Tenant, code: str, *, platform: str | None) -> str:
    """The key of a new station; without a platform it is of the tenant's whole program."""
    body = StationBody(code=code, name=f"{t.mark} station", platform=platform)
    return str((await t.flow(stations.create_station, body, sealer=SEALER, program=t.program)).api_key)


async def _station_key(t: Tenant) -> int:
    """Of the station that was made last."""
    return int((await t.flow(stations.create_key, program=t.program, station=t.latest_station)).id)


async def _delivery(t: Tenant) -> str:
    """Kept because it verifies and cannot be read."""
    hook = t.objects["hook"]
    await _deliver(t, hook, {"type": "order.paid", "data": {}})
    (row,) = await t.fetch("SELECT max(id) AS id FROM delivery WHERE hook = $1", hook)
    return str(row["id"])


async def _deliver(t: Tenant, hook: str, body: Any) -> None:
    content, now = json.dumps(body), datetime.now(UTC)
    headers = {"webhook-id": t.name(), "webhook-timestamp": str(int(now.timestamp()))}
    headers["webhook-signature"] = Webhook(t.hook_secrets[hook]).sign(headers["webhook-id"], now, content)
    answer = await t.client.post(f"/v1/hooks/{hook}", content=content, headers=headers)
    assert answer.status_code == 200, answer.text


async def _reported_event(t: Tenant) -> str:
    """An event that a delivery reported, and the log tells of."""
    event = order(t, t.name())
    await _deliver(t, t.objects["hook"], {"type": event["type"], "timestamp": event["occurred_at"], "data": event})
    await t.app.state.deliveries.flush()
    return str(event["id"])


async def _adjustment(t: Tenant) -> str:
    """One that waits for another operator; by the operator who was made last."""
    return await _propose(t, t.latest_operator)


async def _admins_adjustment(t: Tenant) -> str:
    """The same by the admin who calls, if there is one already."""
    found = await t.fetch("SELECT id FROM operator WHERE email = 'admin@example.com' AND program = $1", t.program)
    return await _propose(t, int(found[0]["id"]) if found else t.latest_operator)


async def _propose(t: Tenant, operator: int) -> str:
    body = AdjustmentBody(platform=t.platform, consumer=t.objects["consumer"], points=5_000, reason=f"{t.mark} reason")
    made = await t.flow(adjustments.propose, body, program=t.program, operator=operator, key=t.name(), request_hash=b"", change=Change())
    return str(made.answer.id)


async def _fraud_list_entry(t: Tenant) -> str:
    """Of an address that nobody has."""
    body = msgspec.convert({"list": "allow", "kind": "address", "value": t.name(), "reason": f"{t.mark} parcel shop"}, ListEntryBody)
    made = await t.flow(
        fraud_lists.add, body, program=t.program, operator=t.latest_operator, hash_key=t.app.state.resources.hash_key, change=Change()
    )
    return str(made.id)


async def _fraud_case(t: Tenant) -> str:
    """One with an event of the tenant's consumer that had settled."""
    (case,) = await t.fetch(
        """INSERT INTO fraud_case (number, program, ring, status, score, opened_at, updated_at)
           VALUES (nextval('number'), $1, 1, 'open', 9000, now(), now()) RETURNING number""",
        t.program,
    )  # fmt: skip
    id_ = await _event(t)
    await t.fetch(
        """INSERT INTO fraud_case_event (bucket, account, event, program, fraud_case, points, score, reasons, found, state, held_at)
           SELECT bucket, account, number, program, $2, points, 9000, '[]', 'look_back', 'settled', now() FROM event WHERE id = $1 AND program = $3""",
        id_, case["number"], t.program,
    )  # fmt: skip
    return str(case["number"])


async def _admins_fraud_case(t: Tenant) -> str:
    """The same with a proposal by the admin who calls, if there is one already."""
    case = await _fraud_case(t)
    found = await t.fetch("SELECT id FROM operator WHERE email = 'admin@example.com' AND program = $1", t.program)
    await t.fetch(
        """INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at)
           SELECT nextval('number'), program, fraud_case, 'reject', ARRAY[event], points, false, 'pending', $2, now()
           FROM fraud_case_event WHERE fraud_case = $1""",
        int(case), int(found[0]["id"]) if found else t.latest_operator,
    )  # fmt: skip
    await t.fetch("UPDATE fraud_case SET status = 'proposed' WHERE number = $1", int(case))
    return case


async def _opening(t: Tenant) -> str:
    row = {"id": t.name(), "consumer": t.name(), "points": 10, "expires_on": None}
    await t.send("POST", "/v1/consumers/import", json=[row])
    return str(row["id"])


_halves = itertools.cycle(f"{year}H{half}" for year in range(2005, 2025) for half in (1, 2))
"""More than a deployment of the probes has tenants; the next deployment is another database."""


async def _plastic_period(t: Tenant) -> str:
    """A half-year that this tenant alone has reported of."""
    half = next(_halves)
    row = {"id": t.name(), "period": half, "class": "plastic_mailer", "kind": "used", "mass_g": "12.5"}
    await t.send("POST", "/v1/plastics/reports", json=[row])
    return half


async def _plastic_row(t: Tenant) -> str:
    row = {"id": t.name(), "period": "2026H1", "class": "plastic_mailer", "kind": "collected", "mass_g": "1"}
    await t.send("POST", "/v1/plastics/reports", json=[row])
    return str(row["id"])


async def _held_consumer(t: Tenant) -> str:
    consumer = await _consumer(t)
    await t.flow(
        erase.place_hold, program=t.program, platform=await _platform_id(t), code=t.platform, reference=consumer,
        reason=f"{t.mark} case", change=Change(),
    )  # fmt: skip
    return consumer


async def _privacy_request(t: Tenant) -> int:
    """An export of somebody who is known."""
    return await _ask(t, Demand(kind="export", consumer=await _consumer(t)))


async def _shop_erasure(t: Tenant) -> int:
    """A request to erase everybody that waits; the one that is open already, if there is one."""
    return await _ask(t, Demand(kind="erase_all"))


async def _ask(t: Tenant, demand: Demand) -> int:
    platform = await _platform_id(t)
    await t.flow(
        privacy_requests.ask, program=t.program, platform=platform, demand=demand, source_key=None, grace=timedelta(hours=48)
    )  # fmt: skip
    (row,) = await t.fetch("SELECT max(id) AS id FROM privacy_request WHERE platform = $1 AND kind = $2", platform, demand.kind)
    return int(row["id"])


async def _platform_id(t: Tenant) -> int:
    (row,) = await t.fetch("SELECT id FROM platform WHERE code = $1", t.platform)
    return int(row["id"])


async def _audit_actor(t: Tenant) -> str:
    actor = f"operator:{t.objects['operator']}"
    await t.flow(administer.create_key, program=t.program, platform=t.platform, change=Change(actor=actor))
    return actor


async def _audit_request(t: Tenant) -> str:
    request = t.name()
    await t.flow(administer.create_key, program=t.program, platform=t.platform, change=Change(request_id=request))
    return request


_versions = itertools.cycle(range(1_000, 9_000, 500))
"""Where the versions of a program's fraud model begin: each program of a deployment has numbers of its own."""


async def _fraud_model(t: Tenant) -> int:
    if not await t.fetch("SELECT FROM fraud_model WHERE program = $1 LIMIT 1", t.program):
        await t.fetch(
            "INSERT INTO fraud_model (program, version, body, state) VALUES ($1, $2, '{}', 'retired')", t.program, next(_versions)
        )
    body = FraudModelBody(note=f"{t.mark} note")
    made = await t.flow(fraud_models.draft, body, program=t.program, operator=t.latest_operator, change=Change())
    return int(made.version)


_signals = itertools.cycle(NAMES)


async def _signal(t: Tenant) -> str:
    """Everybody has the same ones."""
    return next(_signals)


MAKERS: dict[str, Callable[[Tenant], Awaitable[Any]]] = {
    "platform": _platform, "api_key": _api_key, "signing_key": _signing_key, "hook": _hook, "campaign": _campaign,
    "certificate": _certificate, "product": _product, "asset": _asset, "event": _event, "consumer": _consumer, "order": _order,
    "packaging_class": _packaging_class, "activity_kind": _activity_kind,
    "reward": _reward, "cause": _cause,
    "audit_subject": _platform_subject, "operator_email": _email,
    "station": _station, "station_key": _station_key, "operator": _operator, "operator_token": _operator_token, "delivery": _delivery, "opening": _opening, "reported_event": _reported_event,
    "held_consumer": _held_consumer, "privacy_request": _privacy_request, "shop_erasure": _shop_erasure, "audit_actor": _audit_actor,
    "impact_factor": _impact_factor, "audit_request": _audit_request, "plastic_period": _plastic_period, "plastic_row": _plastic_row,
    "fraud_list_entry": _fraud_list_entry, "receiver": _consumer, "adjustment": _adjustment, "admins_adjustment": _admins_adjustment,
    "fraud_case": _fraud_case, "admins_fraud_case": _admins_fraud_case,
    "redemption": _redemption, "captured_redemption": _captured_redemption,
    "reviewed_consumer": _reviewed_consumer, "reviewed_event": _reviewed_event, "own_reviewed_event": _own_reviewed_event,
    "objection": _objection,
    "single_consumer": _consumer, "linked_consumer": _linked_consumer, "link_code": _link_code,
    "fraud_model": _fraud_model, "signal": _signal,
}  # fmt: skip
"""One for every kind of object that a path, a query or a body can name."""


def missing(value: Any) -> Any:
    """A name as much like this one of q's or b's as can be, that nobody has."""
    if isinstance(value, int):
        return value - NUMBERS_GAP if value > FOREIGN_NUMBERS else value + NUMBERS_GAP
    for mark in ("zq7", "bb4"):
        if mark in value:
            return str(value).replace(mark, "yy0")
    if re.fullmatch(r"[0-9]{4}H[12]", value):
        return "2001H1"
    if value.startswith("rdm_"):
        return new_id()
    if re.fullmatch(r"[0-9A-Z]{4}(-[0-9A-Z]{4}){2}", value):
        return new_code()
    if value.isdigit() and len(value) == 14:
        return with_check_digit("0555" + value[4:13])
    if value.isdigit():
        return str(missing(int(value)))
    return secrets.hook_id(token_bytes(secrets.RANDOM_BYTES))


class Caller:
    """One way to call: the headers that prove it, and what it is. `kind` is None for whoever proves nothing."""

    def __init__(
        self, name: str, headers: dict[str, str], kind: str | None = None, *, holds: frozenset[str] = frozenset(), tenant: str = "aa9",
        chooses: str = "own", session: bool = False,
    ) -> None:  # fmt: skip
        self.session = session
        self.name, self.headers, self.kind, self.holds, self.tenant, self.chooses = name, headers, kind, holds, tenant, chooses
        """`holds`: scopes, or the role. `chooses` a program: its `own`, `foreign` (it may not) or `none` where it must choose."""


class Deployment:
    """The world: tenants a and b of the program p, x of the program q."""

    def __init__(self, app: Litestar, client: httpx.AsyncClient) -> None:
        self.app, self.client = app, client
        self.callers: list[Caller] = []
        self.seen: tuple[Any, dict[str, tuple[int, int]]] | None = None
        """How far the server's log went when `digests` last looked, and what it found."""
        self.a: Tenant
        self.b: Tenant
        self.x: Tenant

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        async with self.app.state.resources.pool.acquire() as conn:
            return list(await conn.fetch(sql, *values))

    async def found(self) -> "Deployment":
        """The program p with its platforms and all that is theirs."""
        program = await self._program("pp3-program")
        self.a, self.b = await self._tenant("aa9", program), await self._tenant("bb4", program)
        for tenant in (self.a, self.b):
            await self._furnish(tenant)
        return self

    async def found_another(self) -> "Deployment":
        """The program q, numbered from FOREIGN_NUMBERS on, with the same things under the same names, and things of its own."""
        sequences = await self.fetch("SELECT sequencename AS name, coalesce(last_value, 1) AS last FROM pg_sequences")
        for sequence in sequences:
            await self.fetch("SELECT setval($1::regclass, $2::bigint)", f'"{sequence["name"]}"', FOREIGN_NUMBERS)
        self.x = await self._tenant("zq7", await self._program("zq7-program"))
        await self._furnish(self.x)
        await self._twins()
        for sequence in sequences:
            await self.fetch("SELECT setval($1::regclass, $2::bigint)", f'"{sequence["name"]}"', sequence["last"] + 1_000)
        self.app.state.callers.forget()
        return self

    async def _program(self, code: str) -> Any:
        async with self.app.state.resources.pool.acquire() as conn:
            made = await administer.create_program(conn, code=code, name=code, currency=f"{code[:3]} leaves", time_zone="UTC")
            policy = msgspec.json.encode(PointsPolicy(transfers=TransferPolicy(enabled=True))).decode()
            await conn.execute("INSERT INTO points_policy VALUES ($1, 1, now(), $2, 'command')", made.id, policy)
            return made

    async def _tenant(self, mark: str, program: Any) -> Tenant:
        t = Tenant(
            mark, program=program.id, program_code=program.code, platform=f"{mark}-shop", app=self.app, client=self.client
        )  # fmt: skip
        t.key = (await t.flow(administer.create_platform, sealer=SEALER, program=program.id, code=t.platform, name=f"{mark} shop")).api_key
        return t

    async def _furnish(self, t: Tenant) -> None:
        for kind in ("campaign", "certificate", "product"):  # before the events, which earn by them
            t.objects[kind] = await t.make(kind)
        for kind in MAKERS:
            if kind not in t.objects:
                t.objects[kind] = await t.make(kind)

    async def _twins(self) -> None:
        """Things of q that are called the same as those of a and b."""
        for t in (self.a, self.b):
            twin = Tenant("zq7", program=self.x.program, program_code=self.x.program_code, platform=self.x.platform, app=self.app,
                          client=self.client)  # fmt: skip
            await self.x.flow(campaigns.create, campaign_body(t.objects["campaign"], self.x), program=self.x.program, change=Change())
            body = {"gtin": t.objects["product"], "name": "zq7 twin", "skus": [{"platform": twin.platform, "sku": t.name()}]}
            await self.x.flow(registries.register_product, msgspec.convert(body, ProductBody), program=self.x.program, change=Change())
            (certificate,) = await self.fetch("SELECT scheme, number FROM certificate WHERE id = $1", int(t.objects["certificate"]))
            copy = msgspec.convert(
                {"scheme": certificate["scheme"], "number": certificate["number"], "holder": "zq7 mill", "valid_from": "2025-01-01",
                 "valid_until": "2029-12-31", "gtins": [t.objects["product"], *SHARED_GTINS]}, CertificateBody, strict=False,
            )  # fmt: skip
            await self.x.flow(registries.register_certificate, copy, program=self.x.program, change=Change())
            await make_station(self.x, t.objects["station"], platform=self.x.platform)
            same = order(self.x, t.objects["consumer"], event=t.objects["event"])
            same["order"]["id"] = t.objects["order"]
            await self.x.send("POST", "/v1/events", json=same)

    async def introduce(self) -> None:
        """Every kind of caller."""
        a, b, x = self.a, self.b, self.x
        add = self._add
        add("nobody", None)
        add("no bearer", "Basic Z3Jl")
        add("garbage", "Bearer x")
        add("an unknown key", "Bearer " + secrets.platform_key(token_bytes(24)))
        add("an unknown operator's token", "Bearer " + secrets.operator_token(token_bytes(24)))
        add("a forged token", "Bearer " + (await self._token(a, "c-1"))[:-8] + "AAAAAAAA")
        revoked = await a.flow(administer.create_key, program=a.program, platform=a.platform)
        await a.flow(administer.revoke_key, program=a.program, platform=a.platform, key=revoked.id)
        add("a revoked key", f"Bearer {revoked.key}")
        expired = await a.flow(administer.create_key, program=a.program, platform=a.platform)
        await self.fetch("UPDATE api_key SET expires_at = now() - interval '1 s' WHERE id = $1", expired.id)
        add("an expired key", f"Bearer {expired.key}")
        add("platform a", f"Bearer {a.key}", "platform", holds=frozenset(SCOPES))
        add("platform b", f"Bearer {b.key}", "platform", holds=frozenset(SCOPES), tenant="bb4")
        add("platform of q", f"Bearer {x.key}", "platform", holds=frozenset(SCOPES), tenant="zq7")
        for scope in SCOPES:
            for held in ({scope}, set(SCOPES) - {scope}):
                made = await a.flow(administer.create_key, program=a.program, platform=a.platform, scopes=tuple(held))
                add(f"a key with {' '.join(sorted(held))}", f"Bearer {made.key}", "platform", holds=frozenset(held))
        await self._introduce_access_tokens()
        await self._introduce_stations()
        for t in (a, b, x):
            token = await self._token(t, t.objects["consumer"], *CONSUMER_SCOPES)
            add(f"consumer of {t.mark}", f"Bearer {token}", "consumer", holds=CONSUMER_SCOPES, tenant=t.mark)
        for scope in sorted(CONSUMER_SCOPES):
            token = await self._token(a, a.objects["consumer"], scope)
            add(f"consumer with {scope}", f"Bearer {token}", "consumer", holds=frozenset({scope}))
        for role in ROLES:
            token = await insert_operator(a, f"{role}@example.com", role, a.program)
            add(f"operator: {role}", f"Bearer {token}", "operator", holds=frozenset({role}))
        of_p = token
        add("admin of p choosing q", f"Bearer {of_p}", "operator", holds=frozenset({"admin"}), program=x.program_code, chooses="foreign")
        add("admin of p choosing p", f"Bearer {of_p}", "operator", holds=frozenset({"admin"}), program=a.program_code)
        of_q = await insert_operator(x, "zq7@example.com", "admin", x.program)
        add("admin of q", f"Bearer {of_q}", "operator", holds=frozenset({"admin"}), tenant="zq7")
        of_all = await insert_operator(a, "all@example.com", "admin", None)
        add("admin of all choosing p", f"Bearer {of_all}", "operator", holds=frozenset({"admin"}), program=a.program_code)
        add("admin of all, no choice", f"Bearer {of_all}", "operator", holds=frozenset({"admin"}), chooses="none")
        add("admin of all choosing nothing there is", f"Bearer {of_all}", "operator", holds=frozenset({"admin"}), program="no-program",
            chooses="foreign")  # fmt: skip
        await self._introduce_sessions()
        signed = {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
        self.callers.append(Caller("a hook's signature", signed))

    async def _introduce_access_tokens(self) -> None:
        a = self.a

        async def issue(key: str, *scopes: str) -> str:
            return "Bearer " + (await a.flow(client_credentials.issue, client=a.platform, secret=key, scopes=scopes)).token

        self._add("an access token", await issue(a.key), "platform", holds=frozenset(SCOPES))
        self._add("an access token to read events", await issue(a.key, "events:read"), "platform", holds=frozenset({"events:read"}))
        ended = await a.flow(administer.create_key, program=a.program, platform=a.platform)
        self._add("an access token of a revoked key", await issue(ended.key))
        await a.flow(administer.revoke_key, program=a.program, platform=a.platform, key=ended.id)

    async def _introduce_stations(self) -> None:
        a = self.a
        self._add("an unknown station's key", "Bearer " + secrets.station_key(token_bytes(24)))
        for t in (a, self.b, self.x):
            key = await make_station(t, t.name(), platform=t.platform)
            self._add(f"station of {t.mark}", f"Bearer {key}", "station", holds=STATION_SCOPES, tenant=t.mark)
        key = await make_station(a, a.name(), platform=None)
        self._add("station of p", f"Bearer {key}", "station", holds=STATION_SCOPES)
        code = a.name()
        await make_station(a, code, platform=a.platform)
        for end in ("revoked_at = now()", "expires_at = now() - interval '1 s'"):
            made = await a.flow(stations.create_key, program=a.program, station=code)
            await self.fetch(f"UPDATE station_key SET {end} WHERE id = $1", made.id)
            self._add(f"a station's key with {end.partition(' ')[0]}", f"Bearer {made.key}")
        code = a.name()
        key = await make_station(a, code, platform=a.platform)
        await self.fetch("UPDATE station SET active = false WHERE code = $1", code)
        self._add("a station that was closed down", f"Bearer {key}")

    async def _introduce_sessions(self) -> None:
        a = self.a

        async def sign_in(email: str, of: int | None, **more: str) -> str:
            await insert_operator(a, email, "admin", of)
            answer = await self.client.post("/v1/operators/sign-in", json={"email": email, "password": PASSWORD} | more)
            assert answer.status_code == 200, answer.text
            return f"Bearer {answer.json()['token']}"

        session = await sign_in("session@example.com", a.program)
        self._add("a session", session, "operator", holds=frozenset({"admin"}), session=True)
        in_p = await sign_in("all-in-p@example.com", None, program=a.program_code)
        self._add("a session of all, in p", in_p, "operator", holds=frozenset({"admin"}), session=True)
        self._add("a session of all, in p, choosing q", in_p, "operator", holds=frozenset({"admin"}), program=self.x.program_code,
            chooses="foreign", session=True)  # fmt: skip
        ended = await sign_in("ended@example.com", a.program)
        await self.fetch("UPDATE operator_token t SET expires_at = now() FROM operator o WHERE o.id = t.operator AND o.email = $1"
            " AND t.session", "ended@example.com")  # fmt: skip
        self._add("a session that has ended", ended)
        inactive = await insert_operator(a, "inactive@example.com", "admin", a.program)
        await self.fetch("UPDATE operator SET active = false WHERE email = 'inactive@example.com'")
        self._add("an inactive operator", f"Bearer {inactive}")

    async def introduce_without_q(self) -> None:
        """Those who call before there is a program q."""
        a = self.a
        self._add("platform a", f"Bearer {a.key}", "platform", holds=frozenset(SCOPES))
        token = await self._token(a, a.objects["consumer"], *CONSUMER_SCOPES)
        self._add("consumer of aa9", f"Bearer {token}", "consumer", holds=CONSUMER_SCOPES)
        token = await insert_operator(a, "first@example.com", "admin", a.program)
        self._add("operator: admin", f"Bearer {token}", "operator", holds=frozenset({"admin"}))

    def _add(self, name: str, authorization: str | None, kind: str | None = None, *, program: str | None = None, **more: Any) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        if program is not None:
            headers["X-Greenpoints-Program"] = program
        self.callers.append(Caller(name, headers, kind, **more))

    async def _token(self, t: Tenant, consumer: str, *scopes: str) -> str:
        made: str = await t.flow(
            administer.consumer_token, sealer=SEALER, platform=t.platform, consumer=consumer, scope=" ".join(scopes) or "balance:read",
            ttl=timedelta(hours=1),
        )  # fmt: skip
        return made

    def caller(self, name: str) -> Caller:
        return next(caller for caller in self.callers if caller.name == name)

    def tenant(self, mark: str) -> Tenant:
        return next(t for t in (self.a, self.b, self.x) if t.mark == mark)


PASSWORD = "correct horse battery"
_password_hash: list[str] = []
"""Made once: hashing takes long on purpose."""


async def insert_operator(t: Tenant, email: str, role: Any, program: int | None) -> str:
    """The token of a new operator, whose password is PASSWORD."""
    if not _password_hash:
        _password_hash.append(await passwords.hash_password(PASSWORD))
    token = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
    made = await t.flow(store.insert_operator, program=program, email=email, password_hash=_password_hash[0], role=role)
    await t.flow(store.insert_operator_token, token_hash=secrets.token_hash(token), operator=made.id, expires_at=None)
    return token


async def found_deployment(app: Litestar, client: httpx.AsyncClient) -> Deployment:
    """Both programs, and every kind of caller."""
    made = await Deployment(app, client).found()
    await made.found_another()
    await made.introduce()
    return made


BOOKKEEPING: dict[str, set[str]] = {
    "operator_token": {"last_used_at"},
    "api_key": {"last_used_at"},
    "station_key": {"last_used_at"},
}
"""Columns that a refused call may change."""


async def digests(deployment: Deployment) -> dict[str, tuple[int, int]]:
    """Rows and a hash of every table, without bookkeeping: the same as long as nothing was changed.

    Where nothing at all was written to the log since, they are not computed again: each change of a table is written there first.
    """
    (row,) = await deployment.fetch("SELECT pg_current_wal_insert_lsn() AS written")
    if deployment.seen is not None and deployment.seen[0] == row["written"]:
        return deployment.seen[1]
    found = await _digests(deployment)
    deployment.seen = (row["written"], found)
    return found


async def _digests(deployment: Deployment) -> dict[str, tuple[int, int]]:
    tables = await deployment.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1"
    )
    parts = []
    for table in (row["name"] for row in tables):
        left_out = "".join(f" - '{column}'" for column in sorted(BOOKKEEPING.get(table.strip('"'), ())))
        parts.append(
            f"SELECT '{table}' AS name, count(*) AS rows, coalesce(sum(hashtextextended((to_jsonb(t){left_out})::text, 0)), 0) AS hash FROM {table} t"
        )
    return {row["name"]: (row["rows"], row["hash"]) for row in await deployment.fetch(" UNION ALL ".join(parts))}
