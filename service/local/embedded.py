"""The embedded servers as parts: made ready to start, with the URLs under which the rest of the system finds them."""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from service.local import postgres, processes, valkey
from service.local.data_dir import DataDir, EmbeddedServers, read_private, write_private
from service.local.identity import server_user
from service.local.logs import rotate
from service.local.parts import Part, PartSpec
from service.local.processes import ProcessRecord
from service.local.supervisor import STOP_ORDER, Supervisor
from service.settings import PREFIX

POSTGRES_READY_S = 300.0
"""After a crash it reads up to 4 GB of its write-ahead log first."""
VALKEY_READY_S = 20.0
POSTGRES_PATIENCE_S = 30.0
VALKEY_PATIENCE_S = 5.0


class Urls(Struct, frozen=True, kw_only=True):
    """Where the three servers are, and which of them are ours."""

    database_url: str
    balance_redis_url: str
    queue_redis_url: str
    postgres_embedded: bool
    valkey_embedded: bool

    def as_environment(self) -> dict[str, str]:
        """The variables that tell a process."""
        return {
            f"{PREFIX}DATABASE_URL": self.database_url,
            f"{PREFIX}BALANCE_REDIS_URL": self.balance_redis_url,
            f"{PREFIX}QUEUE_REDIS_URL": self.queue_redis_url,
        }


def choose_urls(environ: Mapping[str, str], servers: EmbeddedServers) -> Urls:
    """What the environment names, and embedded servers for the rest. Pure."""
    database = environ.get(f"{PREFIX}DATABASE_URL")
    balance = environ.get(f"{PREFIX}BALANCE_REDIS_URL")
    queue = environ.get(f"{PREFIX}QUEUE_REDIS_URL")
    ours = servers.valkey
    return Urls(
        database_url=database or postgres.url(password=servers.postgres.password, port=servers.postgres.port),
        balance_redis_url=balance or valkey.url(password=ours.password, port=ours.port, db=valkey.BALANCES_DB),
        queue_redis_url=queue or valkey.url(password=ours.password, port=ours.port, db=valkey.QUEUE_DB),
        postgres_embedded=not database,
        valkey_embedded=not (balance and queue),
    )


def postgres_part(data_dir: DataDir, servers: EmbeddedServers) -> PartSpec:
    """PostgreSQL, its cluster made if need be. Raises LocalError."""
    user = postgres.cluster_user(data_dir.cluster)
    postgres.initialise(data_dir.cluster, password=servers.postgres.password, user=user)
    log = data_dir.logs / "postgres.log"
    rotate(log)
    return PartSpec(
        kind="postgres",
        name="postgres",
        command=postgres.command(data_dir.cluster, port=servers.postgres.port, user=user),
        signals=postgres.STOP_SIGNALS,
        patience_s=POSTGRES_PATIENCE_S,
        patience_as_leftover_s=POSTGRES_PATIENCE_S,
        log=log,
        before_start=lambda: postgres.remove_stale_pid_file(data_dir.cluster),
    )


def valkey_part(data_dir: DataDir, servers: EmbeddedServers) -> PartSpec:
    """Valkey. Raises LocalError."""
    log = data_dir.logs / "valkey.log"
    rotate(log)
    return PartSpec(
        kind="valkey",
        name="valkey",
        command=valkey.command(port=servers.valkey.port, password=servers.valkey.password, user=server_user()),
        signals=valkey.STOP_SIGNALS,
        patience_s=VALKEY_PATIENCE_S,
        patience_as_leftover_s=1.0,
        log=log,
    )


async def start_postgres(supervisor: Supervisor, data_dir: DataDir, servers: EmbeddedServers) -> None:
    """Start PostgreSQL and wait until it answers and has our database. Raises LocalError."""
    parts = await supervisor.start(postgres_part(data_dir, servers))
    mine = servers.postgres
    maintenance = postgres.url(password=mine.password, port=mine.port, database="postgres")
    await supervisor.until_ready(postgres.wait_until_ready(maintenance, timeout_s=POSTGRES_READY_S), parts)
    await postgres.create_database(password=mine.password, port=mine.port)


async def start_valkey(supervisor: Supervisor, data_dir: DataDir, servers: EmbeddedServers) -> None:
    """Start Valkey and wait until it answers. Raises LocalError."""
    parts = await supervisor.start(valkey_part(data_dir, servers))
    mine = valkey.url(password=servers.valkey.password, port=servers.valkey.port, db=valkey.BALANCES_DB)
    await supervisor.until_ready(valkey.wait_until_ready(mine, timeout_s=VALKEY_READY_S), parts)


def end_leftovers(data_dir: DataDir, say: Callable[[str], None]) -> None:
    """End what a run that was killed has left behind. Call while holding the data directory."""
    leftovers = read_private(data_dir.parts, list[ProcessRecord]) or []
    for kind in STOP_ORDER:
        for record in processes.end([record for record in leftovers if record.part == kind]):
            say(f"ended {record.part} process {record.pid}, which the last run had left behind")


def remember_parts(data_dir: DataDir, parts: Sequence[Part]) -> None:
    """Write down the processes of this run for `end_leftovers` of the next one. Raises OSError."""
    found = (
        processes.record_of(part.spec.kind, part.pid, signals=part.spec.signals, patience_s=part.spec.patience_as_leftover_s)
        for part in parts
        if part.pid is not None
    )
    write_private(data_dir.parts, [record for record in found if record is not None])
