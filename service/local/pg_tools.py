"""PostgreSQL's own client programs: which of those on this machine fit a server, and how they find it without showing its password."""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from service.local.identity import LocalError
from service.local.postgres import binaries

NAMES: Final = ("pg_dump", "pg_restore", "psql")
VERSION: Final = re.compile(r"\(PostgreSQL\) (\d+)")
ASK_TIMEOUT_S: Final = 10.0

BY_KEYWORD: Final[Mapping[str, str]] = {
    "host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "database": "PGDATABASE", "user": "PGUSER",
    "password": "PGPASSWORD", "passfile": "PGPASSFILE", "sslmode": "PGSSLMODE", "sslcert": "PGSSLCERT", "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL", "gssencmode": "PGGSSENCMODE", "krbsrvname": "PGKRBSRVNAME",
    "target_session_attrs": "PGTARGETSESSIONATTRS", "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
}  # fmt: skip
"""Words of an address, and the variables by which libpq knows them
(https://www.postgresql.org/docs/current/libpq-envars.html)."""


class Tools(Struct, frozen=True, kw_only=True):
    """A directory with pg_dump, pg_restore and psql, and their major version."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        """The program of this name."""
        return str(self.folder / name)


def choose_tools(*, at_least: int) -> Tools:
    """The oldest programs on this machine that are not older than `at_least`: those of the wheel, or those on PATH.

    pg_dump refuses a newer server, pg_restore a file of a newer pg_dump. Raises LocalError, saying what to install.
    """
    found = sorted(_found(), key=lambda tools: tools.major)
    for tools in found:
        if tools.major >= at_least:
            return tools
    have = f"; here is only version {found[-1].major} in {found[-1].folder}" if found else ""
    raise LocalError(f"pg_dump, pg_restore and psql of PostgreSQL {at_least} or later are needed: put them on the PATH{have}")


def _found() -> Iterator[Tools]:
    folders = []
    with contextlib.suppress(LocalError):
        folders.append(binaries())
    if (on_path := shutil.which("pg_dump")) is not None:
        folders.append(Path(on_path).parent)
    for folder in folders:
        versions = {_major(folder / name) for name in NAMES}
        if len(versions) == 1 and (major := versions.pop()) is not None:
            yield Tools(folder=folder, major=major)


def _major(program: Path) -> int | None:
    """Its major version; None when it is not there or does not say."""
    try:
        said = subprocess.run(
            [str(program), "--version"], env={"PATH": os.defpath, "LC_ALL": "C"}, capture_output=True, text=True, timeout=ASK_TIMEOUT_S,
            check=False,
        ).stdout  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = VERSION.search(said)
    return int(match[1]) if match else None


def connection_environment(url: str, *, name: str) -> dict[str, str]:
    """Variables that lead libpq to the server of a URL: an environment is its owner's to read, a command line is everybody's.

    What libpq has no word for is a server's setting, as asyncpg takes it. Nothing of the user's own PG* variables is kept. `name`: how
    PostgreSQL lists us. Pure.
    """
    parts = urlsplit(url)
    login, _, places = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    hosts, ports = [], []
    for place in places.split(","):
        host, colon, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
        hosts.append(unquote(host if colon else place).strip("[]"))
        ports.append(port)
    given = {"host": ",".join(hosts), "port": ",".join(ports).strip(","), "user": unquote(user), "password": unquote(password)}
    given["dbname"] = unquote(parts.path.lstrip("/"))
    options = []
    for keyword, value in parse_qsl(parts.query):
        if keyword in BY_KEYWORD:
            given[keyword] = value
        else:
            options.append(f"-c {keyword}={_escaped(value)}")
    found = {BY_KEYWORD[keyword]: value for keyword, value in given.items() if value}
    if options:
        found["PGOPTIONS"] = " ".join(options)
    return {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(Path.home()), "PGAPPNAME": name, "PGCONNECT_TIMEOUT": "10"} | found


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
