"""The embedded servers as parts: made ready to start, with the URLs under which the rest of the system finds them."""

from collections.abc import Mapping

from msgspec import Struct

from service.local import postgres, valkey
from service.local.data_dir import DataDir, EmbeddedServers
from service.local.identity import server_user
from service.local.logs import rotate
from service.local.parts import PartSpec
from service.settings import PREFIX

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
