"""The data directory of `greenpoints up`: who may use it, and the small files in it that outlive a run."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from service.local.identity import LocalError, server_user
from service.local.ports import choose_port
from service.sealing import new_master_key
from service.settings import PREFIX

T = TypeVar("T")

MASTER_KEY_FILE = "master.key"


class EmbeddedServer(Struct, frozen=True, kw_only=True):
    """What an embedded server keeps over restarts."""

    port: int
    password: str


class EmbeddedServers(Struct, frozen=True, kw_only=True):
    """servers.json."""

    postgres: EmbeddedServer
    valkey: EmbeddedServer


class DataDir(Struct, frozen=True, kw_only=True):
    """The paths below one data directory."""

    root: Path

    @property
    def cluster(self) -> Path:
        """PostgreSQL's files."""
        return self.root / "postgres"

    @property
    def logs(self) -> Path:
        """A log per part."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """What is only true while it runs."""
        return self.root / "run"

    @property
    def parts(self) -> Path:
        """The processes of this run, so that the next one can end what a crash left behind."""
        return self.run / "parts.json"

    @property
    def metrics(self) -> Path:
        """What the processes of this run count, together."""
        return self.run / "metrics"

    @property
    def up(self) -> Path:
        """Addresses, credentials and pids; exists while the system is up."""
        return self.root / "up.json"

    @property
    def credentials(self) -> Path:
        """The secrets of the first start; the database holds only their hashes."""
        return self.root / "credentials.json"

    @property
    def pending_credentials(self) -> Path:
        """The same while it is not known whether the database has them."""
        return self.root / "credentials.pending.json"

    @property
    def master_key(self) -> Path:
        """What seals the secrets in the database; lost, they must be made anew. A line of text."""
        return self.root / MASTER_KEY_FILE

    @property
    def servers(self) -> Path:
        """Ports and passwords of the embedded servers."""
        return self.root / "servers.json"


@contextlib.contextmanager
def open_data_dir(path: Path) -> Iterator[DataDir]:
    """Make the directory where needed and keep every other `up` out of it until the end.

    Raises LocalError when another `up` uses it or it cannot be written.
    """
    data_dir = DataDir(root=path.absolute())
    # Root's servers run as another user, who must be able to pass through; the files with secrets are 0600 either way.
    mode = 0o700 if server_user() is None else 0o711
    try:
        for folder in (data_dir.root, data_dir.run, data_dir.logs):
            if not folder.is_dir():
                folder.mkdir(mode=mode, parents=True)
                folder.chmod(mode)
        lock = (data_dir.run / "up.lock").open("a")
    except OSError as error:
        raise LocalError(f"{error.filename}: {error.strerror}; choose another --data-dir") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError(f"another `greenpoints up` is using {data_dir.root}: stop it, or choose another --data-dir") from None
        yield data_dir


def is_used(path: Path) -> bool:
    """Whether an `up`, or another command that holds the data directory, is using it."""
    try:
        lock = (path / "run" / "up.lock").open("r")
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def embedded_servers(data_dir: DataDir) -> EmbeddedServers:
    """Ports and passwords, chosen at the first start and kept from then on. Raises LocalError when no port is free."""
    kept = read_private(data_dir.servers, EmbeddedServers)
    if kept is not None:
        return kept
    first = choose_port()
    second = choose_port()
    while second == first:
        second = choose_port()
    chosen = EmbeddedServers(
        postgres=EmbeddedServer(port=first, password=secrets.token_hex(16)),
        valkey=EmbeddedServer(port=second, password=secrets.token_hex(16)),
    )
    write_private(data_dir.servers, chosen)
    return chosen


def master_key(data_dir: DataDir, environ: Mapping[str, str]) -> str:
    """The one that the environment sets, else the one kept here, made at the first start."""
    if given := environ.get(f"{PREFIX}MASTER_KEY"):
        return given
    if not data_dir.master_key.exists():
        _write(data_dir.master_key, new_master_key().encode() + b"\n")
    return data_dir.master_key.read_text().strip()


def write_private(path: Path, content: Struct | list[Struct]) -> None:
    """Write JSON that only its owner can read; a reader sees the old or the new content, never half of it."""
    _write(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600, exist_ok=False)
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_private(path: Path, kind: type[T]) -> T | None:
    """What `write_private` wrote; None when the file does not exist. Raises LocalError when it is not what we wrote."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LocalError(f"{path} is damaged ({error}): restore it, or choose another --data-dir") from None
