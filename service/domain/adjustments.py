"""Adjustments: what a sound one is, who decides about it, and what it does to a purse."""

from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from msgspec import UNSET, Struct

from schemas.adjustments import AdjustmentBody, AdjustmentStatus
from schemas.bounds import MAX_BALANCE
from schemas.points_policy import Activity, PointsPolicy
from schemas.problems import FieldError
from service.domain.errors import InsufficientPoints, InvalidRequest, InvalidState
from service.domain.ledger import Book, Kind
from service.domain.points_policy import last_day
from service.domain.purse import NewLot, Purse, Transfer

OPEN_FOR: Final = timedelta(days=7)
"""How long one that needs a second operator waits for a decision."""

Step = Literal["approve", "reject", "withdraw"]

OUTCOMES: Final[dict[Step, AdjustmentStatus]] = {"approve": "done", "reject": "rejected", "withdraw": "withdrawn"}
"""What becomes of a pending adjustment; `expired` is the worker's. None of these ever changes again."""


class Adjustment(Struct, frozen=True, kw_only=True):
    """An adjustment as stored; columns of table `adjustment`."""

    bucket: int
    account: int
    number: int
    program: int
    platform: int
    points: int
    reason: str | None
    note: str | None
    own_last_day: bool
    expires_on: date | None
    may_owe: bool
    alone: bool
    status: AdjustmentStatus
    proposed_by: int
    proposed_at: datetime
    open_until: datetime
    decided_by: int | None = None
    decided_at: datetime | None = None
    decision_note: str | None = None
    transfer: int | None = None


def check(body: AdjustmentBody, *, today: date) -> None:
    """Raises InvalidRequest with all that is wrong. `today`: the program's local day."""
    errors = []
    if body.points == 0:
        errors.append(FieldError(pointer="/points", detail="must not be 0"))
    if body.points < 0 and body.expires_on is not UNSET:
        errors.append(FieldError(pointer="/expires_on", detail="is for points that are given, not for those that are taken"))
    elif isinstance(body.expires_on, date) and body.expires_on < today:
        errors.append(FieldError(pointer="/expires_on", detail="is a day that is over"))
    if body.points > 0 and body.debt != "refuse":
        errors.append(FieldError(pointer="/debt", detail="is for points that are taken, not for those that are given"))
    if errors:
        raise InvalidRequest.of(errors)


def needs_deciding(adjustment: Adjustment, step: Step, *, operator: int, now: datetime) -> bool:
    """Whether the step is still to be taken; False: this operator has taken it before. Raises InvalidState."""
    if adjustment.status == OUTCOMES[step] and adjustment.decided_by == operator:
        return False
    if adjustment.status != "pending":
        raise InvalidState(f"The adjustment is {adjustment.status}.")
    own = adjustment.proposed_by == operator
    if step == "withdraw" and not own:
        raise InvalidState("Only who proposed an adjustment can withdraw it; reject it instead.")
    if step != "withdraw" and own:
        raise InvalidState("An adjustment is decided by another operator than the one who proposed it; withdraw it instead.")
    if now >= adjustment.open_until:
        raise InvalidState(f"The adjustment could be decided until {adjustment.open_until.isoformat()}; propose it again.")
    return True


def carry_out(purse: Purse, adjustment: Adjustment, number: int, *, policy: PointsPolicy, now: datetime, zone: ZoneInfo) -> Transfer:
    """Give or take the points by a transfer with this number.

    Raises InsufficientPoints (and may it owe, the policy has no debt), InvalidState (its last day is over; more than anybody may have).
    """
    transfer = purse.begin(Kind.ADJUST, number, platform=adjustment.platform, reason=adjustment.reason)
    if adjustment.points > 0:
        _give(purse, adjustment, transfer, policy=policy, now=now, zone=zone)
    else:
        _take(purse, -adjustment.points, transfer, may_owe=adjustment.may_owe, policy=policy)
    return transfer


def _give(purse: Purse, adjustment: Adjustment, transfer: Transfer, *, policy: PointsPolicy, now: datetime, zone: ZoneInfo) -> None:
    account, points = purse.account, adjustment.points
    if account.pending + account.available + account.reserved + points > MAX_BALANCE:
        raise InvalidState(f"This would leave more than {MAX_BALANCE:,} points.")
    day = adjustment.expires_on if adjustment.own_last_day else last_day(policy, now, None, zone)
    if day is not None and day < purse.today:
        raise InvalidState(f"The last day of these points would be {day.isoformat()}, which is over.")
    idle = policy.expiry.months if isinstance(policy.expiry, Activity) and not adjustment.own_last_day else None
    lot = NewLot(
        event=transfer.number, n=0, platform=adjustment.platform, campaign=0, origin=Kind.ADJUST, amount=points, remaining=points,
        expires_on=day, idle_months=idle,
    )  # fmt: skip
    purse.give(transfer, [lot], Book.ADJUSTMENT)


def _take(purse: Purse, points: int, transfer: Transfer, *, may_owe: bool, policy: PointsPolicy) -> None:
    there = min(points, purse.spendable)
    missing = points - there
    if missing and not may_owe:
        raise InsufficientPoints(f"{points} points are to be taken, {there} can be.")
    if missing and policy.negative_balance != "debt":
        raise InsufficientPoints(f"{points} points are to be taken, {there} can be; the program lets nobody owe points.")
    if purse.account.debt + missing > MAX_BALANCE:
        raise InvalidState(f"This would leave a debt of more than {MAX_BALANCE:,} points.")
    if there:
        purse.take(transfer, there, Book.ADJUSTMENT)
    if missing:
        purse.owe(transfer, missing, Book.ADJUSTMENT)
