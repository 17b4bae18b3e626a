"""What is remembered of one account between its events: a record of fixed size, replaced by each event."""

import hashlib
from itertools import pairwise
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

MAX_PATH: Final = 6
"""Steps of an account's first actions that make its path: enough to tell people apart, few enough to meet soon."""
STEADY_SHARE: Final = 0.01
"""Two gaps are equal within 1 %: people miss that 49 times of 50 (gaps spread over an octave), programs do not."""
EVEN_SHARE: Final = 0.2
"""Two gaps are alike within 20 %: of two random (exponential) ones that happens 1 time of 10, of a timer that trembles always."""
MAX_TIMES: Final = 9
"""Eight gaps: seven pairs that are alike by chance come once in ten million times."""
STEADY_FROM_S: Final = 10
"""Shorter gaps are those of one request with several events, not of habits."""
KINDS: Final = ("plain", "mixed", "pure", "choice", "return", "activity")
"""What a person does: an order that earns nothing; one that earns by some of what was bought; one that earns by all of it; one that earns
by its packaging alone; packaging brought back; an activity."""
_HOP_S: Final = 4 * 3_600
"""Another region or station within so long is a hop: a flight or a long drive, not a habit."""


class Account(Struct, array_like=True, frozen=True, kw_only=True, gc=False):
    """An account as it was before an event. Times are seconds since 1970, UTC; hashes are keyed."""

    opened_at: int
    events: int = 0
    path: str = ""
    """Hash of the shape of its first actions."""
    last_at: int = 0
    last_gap: int = 0
    steady: int = 0
    """How many gaps in a row were equal to the one before."""
    times: tuple[int, ...] = ()
    """When the person did something (no shipments, no refunds), the newest MAX_TIMES, in order: reports arrive in another."""
    region: str = ""
    region_at: int = 0
    home: str = ""
    """The first region."""
    device: str = ""
    ip: str = ""
    moved_at: int = 0
    """When it came into other hands, as far as device and place tell, the last time; 0: never."""
    acts_moved: int = 0
    """How many acts there were before that."""
    station: str = ""
    station_at: int = 0
    hops: int = 0
    """How often it was in another region or at another station within hours."""
    code: int = -1
    """The number at the end of the last asset or serial that it named."""
    run: int = 0
    """How many of those followed the one before by exactly 1, up or down, in a row."""
    acts: tuple[int, ...] = (0,) * len(KINDS)
    """What the person did, by KINDS."""
    full: int = 0
    """Orders that earned nearly the most that one can."""
    full_points: int = 0
    full_money: float = 0
    """What those earned, and what their certified goods cost."""
    reversals: int = 0
    """Refunds and cancellations that took points back."""
    kept: int = 0
    """Orders that were shipped in the packaging that was chosen for them."""
    broken: int = 0
    """Orders that were shipped in another one than was chosen."""


class Step(Struct, frozen=True, kw_only=True, gc=False):
    """What of an event goes into the record."""

    at: int
    shape: str
    """What kind of action, coarsely: its kind, what it earned, what it was about."""
    kind: str = ""
    """What the person did, one of KINDS; empty: nothing, a shop reported something."""
    region: str = ""
    device: str = ""
    ip: str = ""
    station: str = ""
    code: int = -1
    full: bool = False
    points: int = 0
    certified: float = 0
    """What certified goods of the order cost."""
    reversal: bool = False
    as_chosen: bool | None = None
    """Whether an order was shipped in the packaging chosen for it; None: nothing was, or nobody knows."""


def after(account: Account, step: Step) -> Account:
    """The record after an event. Late ones count in place but do not turn the clock back. A repeat is not safe: call it once."""
    acts, times = with_act(account, step.kind), with_time(account, step.at) if step.kind else account.times
    full, full_points, full_money = with_full(account, step)
    reversals = account.reversals + step.reversal
    kept, broken = account.kept + (step.as_chosen is True), account.broken + (step.as_chosen is False)
    gap = step.at - account.last_at if account.events else 0
    if gap < 0:
        return replace(
            account, events=account.events + 1, acts=acts, times=times, full=full, full_points=full_points, full_money=full_money,
            reversals=reversals, kept=kept, broken=broken,
        )  # fmt: skip
    home, moved = account.home or step.region, moved_at(account, step)
    region, region_at = (step.region, step.at) if step.region else (account.region, account.region_at)
    station, station_at = (step.station, step.at) if step.station else (account.station, account.station_at)
    code, run = account.code, account.run
    if step.code >= 0:
        run = run + 1 if code >= 0 and abs(step.code - code) == 1 else 0
        code = step.code
    return Account(
        opened_at=account.opened_at, events=account.events + 1, path=path_after(account, step), last_at=step.at, last_gap=gap,
        steady=account.steady + 1 if is_steady(account, gap) else 0, times=times,
        region=region, region_at=region_at, device=step.device or account.device, ip=step.ip or account.ip,
        moved_at=moved, acts_moved=account.acts_moved if moved == account.moved_at else sum(account.acts),
        station=station, station_at=station_at, hops=hops(account, step), code=code, run=run,
        acts=acts, full=full, full_points=full_points, full_money=full_money, reversals=reversals, kept=kept, broken=broken, home=home,
    )  # fmt: skip


def with_act(account: Account, kind: str) -> tuple[int, ...]:
    """What the person did, by KINDS, with one more of this kind; empty: none."""
    if not kind:
        return account.acts
    i = KINDS.index(kind)
    return (*account.acts[:i], account.acts[i] + 1, *account.acts[i + 1 :])


def with_full(account: Account, step: Step) -> tuple[int, int, float]:
    """Full orders, what they earned and what their certified goods cost, with this step."""
    if not step.full:
        return account.full, account.full_points, account.full_money
    return account.full + 1, account.full_points + step.points, account.full_money + step.certified


def moved_at(account: Account, step: Step) -> int:
    """When the account went into other hands, the last time that it seems so: another device at another place, all as far as is said."""
    if not (account.ip and step.ip != account.ip) and not (account.region and step.region != account.region):
        return account.moved_at
    if account.device and step.device:
        moves = account.device != step.device
    else:
        moves = bool(account.region and step.region and account.region != step.region and step.ip != account.ip)
    return step.at if moves else account.moved_at


def hops(account: Account, step: Step) -> int:
    """How often so far, this event included, the account was too soon in another region (home again aside) or at another station."""
    region = account.region and step.region not in {"", account.region, account.home} and step.at - account.region_at < _HOP_S
    station = account.station and step.station and step.station != account.station and step.at - account.station_at < _HOP_S
    return account.hops + bool(region or station)


def is_steady(account: Account, gap: int) -> bool:
    """Whether a gap (seconds) equals the one before."""
    return gap >= STEADY_FROM_S and abs(gap - account.last_gap) <= max(2, gap * STEADY_SHARE)


def with_time(account: Account, at: int) -> tuple[int, ...]:
    """When the person did something, with one more time."""
    times = account.times
    return (*times, at)[-MAX_TIMES:] if not times or at >= times[-1] else tuple(sorted((*times, at)))[-MAX_TIMES:]


def evenness(account: Account, at: int) -> int:
    """How many gaps in a row are about equal to the one before, at most, among the last times and this one: up to MAX_TIMES − 2."""
    times = with_time(account, at)
    longest = run = last = 0
    for before, after_ in pairwise(times):
        gap = after_ - before
        alike = gap >= STEADY_FROM_S <= last and abs(gap - last) <= EVEN_SHARE * max(gap, last)
        run, last = run + 1 if alike else 0, gap
        longest = max(longest, run)
    return longest


def path_after(account: Account, step: Step) -> str:
    """Hash of the path with this step; after MAX_PATH steps it stays. The pace is part of it, in powers of four of minutes."""
    if account.events >= MAX_PATH:
        return account.path
    minutes = max(0, step.at - account.last_at) // 60 if account.events else 0
    text = f"{account.path}|{step.shape}|{minutes.bit_length() // 2}"
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
