"""Under which user embedded servers run, and how they are tied to the process that started them.

PostgreSQL refuses to run as root, so root starts the servers as `nobody` through setpriv(1). Where a directory on the way (a home with mode
0700, say) keeps `nobody` out, the server keeps the one capability that lets it pass (CAP_DAC_OVERRIDE): permissions outside of the data
directory are never changed.
"""

import os
import pwd
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

UNPRIVILEGED_USER = "nobody"

# access(2), by which PostgreSQL's programs look for each other, ignores capabilities unless `no_setuid_fixup` is set.
CAPABILITY = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override", "--securebits", "+no_setuid_fixup")
"""Pass through closed directories, and nothing else."""


class LocalError(Exception):
    """Something on this machine is in the way; the message is one line that says what to do."""


class ServerUser(Struct, frozen=True, kw_only=True):
    """The user that root's embedded servers run as."""

    uid: int
    gid: int


def server_user() -> ServerUser | None:
    """Whom to run servers as; None means as ourselves (we are not root).

    Raises LocalError when root has nobody to run them as.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        raise LocalError(f"PostgreSQL does not run as root and there is no user {UNPRIVILEGED_USER!r}: run as an ordinary user") from None
    return ServerUser(uid=entry.pw_uid, gid=entry.pw_gid)


def own(path: Path, user: ServerUser | None) -> None:
    """Make `path`, which we have just created, belong to the servers' user."""
    if user is not None:
        os.chown(path, user.uid, user.gid)


def launcher(user: ServerUser | None, *, reaches: Sequence[Path], death_signal: str | None) -> list[str]:
    """The words that go before a server's own command line.

    The server runs as `user`, can reach the paths `reaches`, and gets `death_signal` (`"INT"`) when the thread that started it
    ends, however that happens. Without setpriv(1) a user other than root still gets a server, only without the death signal.

    Raises LocalError when root cannot start a server that reaches the paths.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if user is None:
            return []
        raise LocalError("PostgreSQL does not run as root: install setpriv (package util-linux), or run as an ordinary user")
    words = [setpriv]
    if death_signal is not None:
        words += ["--pdeathsig", death_signal]
    if user is not None:
        words += ["--reuid", str(user.uid), "--regid", str(user.gid), "--clear-groups"]
        if not all(_reachable(path, user) for path in reaches):
            words += CAPABILITY
    return [*words, "--"] if len(words) > 1 else []


def _reachable(path: Path, user: ServerUser) -> bool:
    """Whether `user` may pass through every directory above `path`."""
    return all(_passable(parent.stat(), user) for parent in path.resolve().parents)


def _passable(status: os.stat_result, user: ServerUser) -> bool:
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
