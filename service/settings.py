"""Settings: the environment, prefix `GREENPOINTS_`, as one frozen Struct. docs/settings.md lists them for operators."""

import os
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.bounds import MAX_BODY_BYTES, MAX_BULK_BODY_BYTES, MAX_HOOK_BODY_BYTES
from service import failpoints
from service.domain.addresses import read_networks
from service.sealing import Sealer, UnusableMasterKey

PREFIX = "GREENPOINTS_"


class SettingsError(ValueError):
    """A setting is missing, malformed or contradicts another; the text says which and what to do."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field is the variable of the same name in capitals; units are part of the name."""

    database_url: str
    """PostgreSQL 15 or later, `postgresql://user:password@host:port/name`."""
    balance_redis_url: str
    """Redis or Valkey that holds balances; may be lost at any time."""
    queue_redis_url: str
    """Redis or Valkey of the doorbells (arq); a single server or Sentinel."""
    master_key: str = ""
    """Seals secrets at rest: 32 random bytes as URL-safe base64; several separated by commas while one is rotated, newest first."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """Port to listen on."""
    log_format: Literal["json", "console"] = "console"
    """`json` for machines."""
    fraud_mode: Literal["enforce", "shadow", "off"] = "enforce"
    """What verdicts do: `enforce` holds what is suspicious for a person, `shadow` only notes it, `off` asks nobody."""
    fraud_door_consumer_events: Annotated[int, Meta(ge=0, le=1_000)] = 60
    """Events of one consumer within an hour that an API process takes for no burst; more are held at the door. 0: it does not look."""
    fraud_door_device_events: Annotated[int, Meta(ge=0, le=10_000)] = 200
    """The same of one device."""
    batch_events: Annotated[int, Meta(ge=1, le=1_000)] = 256
    """Most events in one transaction of the single lane."""
    batch_wait_ms: Annotated[float, Meta(ge=0, le=100)] = 1.0
    """How long a batch waits for company once its first event is there. More is slower when idle, not faster when busy."""
    single_writers: Annotated[int, Meta(ge=1, le=50)] = 2
    """Connections that commit single events. A second batch begins beside the first only when many wait; more make smaller batches."""
    queue_events: Annotated[int, Meta(ge=1, le=100_000)] = 2_048
    """Single events that may wait; beyond that 503 `overloaded`."""
    bulk_batch_events: Annotated[int, Meta(ge=1, le=1_000)] = 500
    """Events of a bulk body in one transaction."""
    bulk_writers: Annotated[int, Meta(ge=1, le=50)] = 3
    """Connections that commit bulk bodies."""
    bulk_queue_bodies: Annotated[int, Meta(ge=1, le=1_000)] = 16
    """Bulk bodies that may wait or run; beyond that 503 `overloaded`."""
    answer_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 0.9
    """How long a single event waits for its commit before it is answered 503 (outcome unknown: repeat with the same id)."""
    database_pool: Annotated[int, Meta(ge=4, le=100)] = 10
    """Connections of one process."""
    statement_timeout_s: Annotated[float, Meta(gt=0, le=600)] = 10.0
    """No statement of a request runs longer."""
    redis_wait_ms: Annotated[float, Meta(gt=0, le=5_000)] = 100.0
    """How long an answer waits for the balance Redis; then it goes on without it."""
    balance_ttl_s: Annotated[int, Meta(ge=10, le=86_400)] = 600
    """Life of a balance in Redis (a fifth of jitter): the last resort against a stale one."""
    sweep_interval_s: Annotated[float, Meta(gt=0, le=60)] = 1.0
    """How often a worker looks for what is due, doorbell or not."""
    settle_batch_events: Annotated[int, Meta(ge=1, le=20_000)] = 2_000
    """Events settled in one transaction."""
    settle_buckets: Annotated[int, Meta(ge=1, le=1_024)] = 64
    """Buckets of one settling transaction; 1 on a Citus cluster, so that each stays on its shard."""
    expiry_batch_lots: Annotated[int, Meta(ge=1, le=20_000)] = 1_000
    """Lots that expire in one transaction."""
    idle_transaction_timeout_s: Annotated[float, Meta(ge=1, le=600)] = 5.0
    """A worker that stops in the middle of a transaction keeps its locks no longer: PostgreSQL ends its connection."""
    max_body_bytes: Annotated[int, Meta(ge=1_024, le=64 * 2**20)] = MAX_BODY_BYTES
    """Largest body of a route that takes one thing."""
    max_bulk_body_bytes: Annotated[int, Meta(ge=1_024, le=64 * 2**20)] = MAX_BULK_BODY_BYTES
    """Largest body of `/v1/events/batch` and of imports."""
    max_hook_body_bytes: Annotated[int, Meta(ge=1_024, le=64 * 2**20)] = MAX_HOOK_BODY_BYTES
    """Largest body of an inbound hook; shops with very long orders send more than a plain call does."""
    operator_session_s: Annotated[int, Meta(ge=300, le=2_592_000)] = 43_200
    """Life of a session that an operator gets by signing in."""
    retain_deliveries_days: Annotated[int, Meta(ge=1, le=3_650)] = 90
    """Life of a row of the delivery log."""
    retain_delivery_bodies_days: Annotated[int, Meta(ge=1, le=3_650)] = 30
    """Life of the body of a delivery that verified and failed; until then it can be replayed."""
    retain_attributes_days: Annotated[int, Meta(ge=0, le=36_500)] = 730
    """How long events keep their free attributes, evidence, waybills, stations and proofs; 0: for ever."""
    retain_fraud_attributes_days: Annotated[int, Meta(ge=0, le=36_500)] = 400
    """How long events keep the hashes of device, address, payment, ip, region and attendant; 0: for ever."""
    retain_fraud_verdicts_days: Annotated[int, Meta(ge=120, le=36_500)] = 400
    """How long verdicts of fraud checks are kept, and after a decision its reasons and what was said against it."""
    retain_parked_days: Annotated[int, Meta(ge=0, le=36_500)] = 365
    """How long what was parked and ignored keeps anything free; 0: for ever."""
    retain_exports_days: Annotated[int, Meta(ge=0, le=36_500)] = 30
    """How long the export of a privacy request can be fetched; 0: for ever."""
    retain_requests_days: Annotated[int, Meta(ge=0, le=36_500)] = 1_095
    """How long privacy requests that are done are listed; 0: for ever."""
    shop_redact_grace_h: Annotated[int, Meta(ge=0, le=720)] = 48
    """How long after `shop/redact` everybody of that platform is erased; an administrator may cancel it until then."""
    trusted_proxies: str = ""
    """Networks of the proxies in front, whose X-Forwarded-For is believed: `10.0.0.0/8,::1`."""
    limit_consumer_per_min: Annotated[int, Meta(ge=0, le=10**9)] = 3_000
    """Requests a minute of one consumer, whatever tokens he shows; 0: no limit."""
    limit_operator_per_min: Annotated[int, Meta(ge=0, le=10**9)] = 6_000
    """Requests a minute of one operator, reading and writing each; 0: no limit."""
    limit_station_per_min: Annotated[int, Meta(ge=0, le=10**9)] = 600
    """Requests a minute of one collection station, with all its keys; 0: no limit."""
    limit_sign_in_per_min: Annotated[int, Meta(ge=0, le=10**9)] = 30
    """Attempts a minute to sign in from one address; 0: no limit."""
    limit_anonymous_per_min: Annotated[int, Meta(ge=0, le=10**9)] = 600
    """Requests a minute from one address that prove nobody; 0: no limit."""
    worker_metrics_port: Annotated[int, Meta(ge=0, le=65535)] = 0
    """Port on the loopback interface where a worker shows its metrics; 0: none, an API process of the machine shows them."""
    check_interval_s: Annotated[float, Meta(ge=0, le=7 * 86_400)] = 3_600.0
    """How often one of the workers checks every invariant; 0: never."""
    check_recent_interval_s: Annotated[float, Meta(ge=1, le=3_600)] = 60.0
    """How often a worker checks the accounts that changed since it last did."""
    seal_interval_s: Annotated[float, Meta(ge=1, le=3_600)] = 60.0
    """How often a worker seals what was written to the ledger."""
    stop_delay_s: Annotated[float, Meta(ge=0, le=5)] = 1.0
    """How long an API process that was told to stop still takes requests while `/readyz` says that it is stopping."""
    environment: Literal["production", "test"] = "production"
    """`test` allows what must never happen anywhere else: failpoints."""
    failpoints: str = ""
    """Where a test ends the process (docs/faults.md); refused unless `environment` says `test`."""


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the environment.

    Raises SettingsError for an unknown `GREENPOINTS_` name's value out of range, a missing URL or a contradiction.
    """
    environ = os.environ if environ is None else environ
    names = {field.encode_name for field in msgspec.structs.fields(Settings)}
    given = {k.removeprefix(PREFIX).lower(): v for k, v in environ.items() if k.startswith(PREFIX)}
    try:
        settings = msgspec.convert({k: v for k, v in given.items() if k in names}, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_explain(str(error))) from None
    for name in ("database_url", "balance_redis_url", "queue_redis_url"):
        schemes = ("postgresql://", "postgres://") if name == "database_url" else ("redis://", "rediss://", "valkey://")
        if not getattr(settings, name).startswith(schemes):
            raise SettingsError(f"{PREFIX}{name.upper()} must begin with {' or '.join(schemes)}")
    if settings.max_bulk_body_bytes < settings.max_body_bytes:
        raise SettingsError(f"{PREFIX}MAX_BULK_BODY_BYTES must not be below {PREFIX}MAX_BODY_BYTES")
    if settings.single_writers + settings.bulk_writers + 2 > settings.database_pool:
        raise SettingsError(f"{PREFIX}DATABASE_POOL must hold all writers and two connections more")
    if settings.queue_events < settings.batch_events:
        raise SettingsError(f"{PREFIX}QUEUE_EVENTS must not be below {PREFIX}BATCH_EVENTS")
    if settings.retain_delivery_bodies_days > settings.retain_deliveries_days:
        raise SettingsError(f"{PREFIX}RETAIN_DELIVERY_BODIES_DAYS must not be above {PREFIX}RETAIN_DELIVERIES_DAYS: the row holds the body")
    _check_failpoints(settings)
    try:
        read_networks(settings.trusted_proxies)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}TRUSTED_PROXIES: {error}") from None
    if settings.master_key:
        try:
            Sealer.of_setting(settings.master_key)
        except UnusableMasterKey as error:
            raise SettingsError(f"{PREFIX}MASTER_KEY: {error}") from None
    return settings


def _check_failpoints(settings: Settings) -> None:
    if settings.failpoints and settings.environment != "test":
        raise SettingsError(f"{PREFIX}FAILPOINTS ends the process on purpose and is for tests only: unset it")
    try:
        failpoints.read(settings.failpoints)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}FAILPOINTS: {error}") from None


def sealer_of(settings: Settings) -> Sealer:
    """What seals secrets at rest. Raises SettingsError when there is no master key."""
    if not settings.master_key:
        raise SettingsError(
            f"{PREFIX}MASTER_KEY is not set; `greenpoints up` makes one and keeps it in its data directory, "
            "a deployment of its own sets what `greenpoints keys new-master` prints"
        )
    return Sealer.of_setting(settings.master_key)


def _explain(message: str) -> str:
    """Turn msgspec's words into the name of the variable."""
    if "missing required field" in message:
        name = message.split("`")[1]
        return f"{PREFIX}{name.upper()} is not set; `greenpoints up` sets it for you, a deployment of its own must name the server"
    reason, _, path = message.partition(" - at `$.")
    return f"{PREFIX}{path.rstrip('`').upper()}: {reason}" if path else message
