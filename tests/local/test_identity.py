"""Embedded servers started by root: another user, and as little privilege as the way to them needs."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from service.local import identity, postgres, valkey
from service.local.identity import CAPABILITY, LocalError, ServerUser, launcher, server_user
from service.local.ports import choose_port
from tests.servers import running

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts servers as somebody else")


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that only its owner can enter, as root's home."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@root_only
def test_an_open_way_needs_no_capability() -> None:
    assert not set(CAPABILITY) & set(launcher(server_user(), reaches=[Path("/usr/bin/env")], death_signal="INT"))


@root_only
def test_a_closed_way_needs_one(closed: Path) -> None:
    assert set(CAPABILITY) <= set(launcher(server_user(), reaches=[closed / "postgres"], death_signal="INT"))


@root_only
async def test_postgres_and_its_binaries_may_lie_behind_a_closed_directory(closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = postgres.binaries()
    for folder in (installed.parent, installed.parents[1].with_suffix(".libs")):
        shutil.copytree(folder, closed / folder.relative_to(installed.parents[2]))
    monkeypatch.setattr(postgres, "binaries", lambda: closed / installed.relative_to(installed.parents[2]))
    user, cluster, port = server_user(), closed / "data", choose_port()
    assert user is not None
    assert postgres.initialise(cluster, password="secret", user=user, durable=False)
    assert not postgres.initialise(cluster, password="secret", user=user, durable=False)
    with running(postgres.command(cluster, port=port, user=user, durable=False), closed / "log") as process:
        await postgres.wait_until_ready(postgres.url(password="secret", port=port, database="postgres"), timeout_s=20)
        await postgres.create_database(password="secret", port=port)
        await postgres.create_database(password="secret", port=port)
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{user.uid}\t{user.uid}" in status
        assert "CapEff:\t0000000000000002" in status, "nothing but CAP_DAC_OVERRIDE"
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    assert postgres.cluster_user(cluster) == user


def test_root_without_setpriv_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity.shutil, "which", lambda _: None)
    with pytest.raises(LocalError, match="install setpriv"):
        launcher(ServerUser(uid=65534, gid=65534), reaches=[], death_signal="INT")
    assert launcher(None, reaches=[], death_signal="INT") == []


def test_a_killed_server_s_pid_file_is_forgotten_when_its_number_is_another_process(tmp_path: Path) -> None:
    file = tmp_path / "postmaster.pid"
    file.write_text(f"{os.getpid()}\n{tmp_path}\n")
    postgres.remove_stale_pid_file(tmp_path)
    assert not file.exists()
    postgres.remove_stale_pid_file(tmp_path)


def test_a_running_server_s_pid_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "postmaster.pid"
    file.write_text(f"{os.getpid()}\n{tmp_path}\n")
    postgres.remove_stale_pid_file(tmp_path)
    assert file.exists()


def test_missing_wheels_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, find in ((postgres, postgres.binaries), (valkey, valkey.binary)):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
        with pytest.raises(LocalError, match="run `make setup`, or set GREENPOINTS_"):
            find()
