"""What is remembered of one account between its events: a record of fixed size, replaced by each event."""

import hashlib
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

MAX_PATH: Final = 6
"""Steps of an account's first actions that make its path: enough to tell people apart, few enough to meet soon."""
STEADY_SHARE: Final = 0.01
"""Two gaps are equal within 1 %: people miss that 49 times of 50 (gaps spread over an octave), programs do not."""
STEADY_FROM_S: Final = 10
"""Shorter gaps are those of one request with several events, not of habits."""


class Account(Struct, frozen=True, kw_only=True, gc=False):
    """An account as it was before an event. Times are seconds since 1970, UTC; hashes are keyed."""

    opened_at: int
    events: int = 0
    path: str = ""
    """Hash of the shape of its first actions."""
    last_at: int = 0
    last_gap: int = 0
    steady: int = 0
    """How many gaps in a row were equal to the one before."""
    region: str = ""
    region_at: int = 0
    device: str = ""
    moved_at: int = 0
    """When its device and its region changed together, the last time; 0: never."""
    station: str = ""
    station_at: int = 0
    code: int = -1
    """The number at the end of the last asset or serial that it named."""
    run: int = 0
    """How many of those followed the one before by exactly 1, up or down, in a row."""


class Step(Struct, frozen=True, kw_only=True, gc=False):
    """What of an event goes into the record."""

    at: int
    shape: str
    """What kind of action, coarsely: its kind, what it earned, what it was about."""
    region: str = ""
    device: str = ""
    station: str = ""
    code: int = -1


def after(account: Account, step: Step) -> Account:
    """The record after an event. Late ones count in place but do not turn the clock back. A repeat is not safe: call it once."""
    gap = step.at - account.last_at if account.events else 0
    if gap < 0:
        return replace(account, events=account.events + 1)
    region, region_at = (step.region, step.at) if step.region else (account.region, account.region_at)
    station, station_at = (step.station, step.at) if step.station else (account.station, account.station_at)
    code, run = account.code, account.run
    if step.code >= 0:
        run = run + 1 if code >= 0 and abs(step.code - code) == 1 else 0
        code = step.code
    return Account(
        opened_at=account.opened_at, events=account.events + 1, path=path_after(account, step), last_at=step.at, last_gap=gap,
        steady=account.steady + 1 if is_steady(account, gap) else 0,
        region=region, region_at=region_at, device=step.device or account.device, moved_at=moved_at(account, step),
        station=station, station_at=station_at, code=code, run=run,
    )  # fmt: skip


def moved_at(account: Account, step: Step) -> int:
    """When the account went into other hands, as far as device and region tell; the last time that it seems so."""
    moves = account.device and step.device and account.region and step.region
    return step.at if moves and account.device != step.device and account.region != step.region else account.moved_at


def is_steady(account: Account, gap: int) -> bool:
    """Whether a gap (seconds) equals the one before."""
    return gap >= STEADY_FROM_S and abs(gap - account.last_gap) <= max(2, gap * STEADY_SHARE)


def path_after(account: Account, step: Step) -> str:
    """Hash of the path with this step; after MAX_PATH steps it stays. The pace is part of it, in powers of four of minutes."""
    if account.events >= MAX_PATH:
        return account.path
    minutes = max(0, step.at - account.last_at) // 60 if account.events else 0
    text = f"{account.path}|{step.shape}|{minutes.bit_length() // 2}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
