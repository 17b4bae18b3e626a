"""Points that one consumer gives to another: within the program's limits, lot by lot, with the last day that they have."""

from collections.abc import Iterable
from typing import Final

from schemas.bounds import MAX_BALANCE
from schemas.points_policy import TransferPolicy
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.ledger import Book, Kind
from service.domain.purse import NewLot, Part, Purse, Transfer

MAX_LOTS: Final = 1_000
"""Lots that one transfer makes: parts with the same last day and origin become one."""


def check_points(policy: TransferPolicy, points: int) -> None:
    """Raises InvalidState where consumers may not give points at all, InvalidRequest for more than one transfer may move."""
    if not policy.enabled:
        raise InvalidState("In this program consumers cannot give points to each other.")
    if points > policy.per_transfer:
        raise InvalidRequest.at("/points", f"is more than the {policy.per_transfer:,} points that one transfer may move")


def check_day(policy: TransferPolicy, points: int, *, given: int) -> None:
    """Raises InvalidState for more than a consumer may give on one local day; `given`: what it has given on it so far."""
    if given + points > policy.per_day:
        raise InvalidState(f"{given:,} of the {policy.per_day:,} points that a consumer may give on one day are given already.")


def take(sender: Purse, number: int, points: int, *, platform: int, message: str | None) -> list[Part]:
    """Take the points off the giver's lots, those first that expire first. Raises InsufficientPoints."""
    transfer = sender.begin(Kind.TRANSFER, number, platform=platform, reason=message)
    return sender.take(transfer, points, Book.TRANSFER)


def give(receiver: Purse, number: int, parts: Iterable[Part], *, platform: int, message: str | None) -> Transfer:
    """Give these parts to the receiver, as lots of its own. Raises InvalidState (too many lots, more points than anybody may have)."""
    lots = lots_of(parts, number)
    if len(lots) > MAX_LOTS:
        raise InvalidState("These points have too many different last days; give fewer at a time.")
    account = receiver.account
    if account.pending + account.available + account.reserved + sum(lot.amount for lot in lots) > MAX_BALANCE:
        raise InvalidState("The receiver cannot have so many points.")
    transfer = receiver.begin(Kind.TRANSFER, number, platform=platform, reason=message)
    receiver.give(transfer, lots, Book.TRANSFER)
    return transfer


def lots_of(parts: Iterable[Part], number: int) -> list[NewLot]:
    """Parts of another's lots as new ones, in their order: last day, campaign, platform and what activity keeps alive stay as they are."""
    sums: dict[tuple[object, ...], NewLot] = {}
    for lot, points in parts:
        key = (lot.expires_on, lot.campaign, lot.platform, lot.idle_months)
        if (new := sums.get(key)) is None:
            sums[key] = NewLot(
                event=number, n=len(sums), platform=lot.platform, campaign=lot.campaign, origin=Kind.TRANSFER, amount=points,
                remaining=points, expires_on=lot.expires_on, idle_months=lot.idle_months,
            )  # fmt: skip
        else:
            new.amount += points
            new.remaining += points
    return list(sums.values())
