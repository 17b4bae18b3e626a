"""What a reward is and who may have it now; what a voucher code is. Pure."""

import hmac
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import Struct

from schemas.problems import FieldError
from schemas.rewards import VoucherCode
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.pointers import field_error

KEY_BYTES: Final = 32
"""Of the key of a reward's hashes."""
UNKNOWN: Final = "There is no such reward"


class RewardValues(Struct, frozen=True, kw_only=True):
    """What an operator says of a reward, as columns of its table. `platforms` holds numbers."""

    name: str
    description: str
    points: int
    stock: int | None
    per_consumer: int | None
    valid_from: datetime | None
    valid_until: datetime | None
    platforms: list[int] | None
    active: bool


class Reward(RewardValues, frozen=True, kw_only=True):
    """A reward. `taken`: how often it is reserved or given out, where the stock has an end. `has_codes`: each redemption gets one."""

    id: int
    code: str
    taken: int | None
    has_codes: bool


def price(reward: Reward | None, *, platform: int, points: int | None, now: datetime) -> int:
    """What a redemption through this platform costs. `points`: what the request says that it does, None: nothing.

    Raises InvalidRequest (there is none, not on this platform, another price), InvalidState (not offered now, sold out).
    """
    if reward is None or (reward.platforms is not None and platform not in reward.platforms):
        raise InvalidRequest.at("/reward", UNKNOWN)
    if points is not None and points != reward.points:
        raise InvalidRequest.at("/points", f"The reward costs {reward.points} points; leave points out, or send this")
    if not reward.active:
        raise InvalidState("The reward is not offered at present.")
    if reward.valid_from is not None and now < reward.valid_from:
        raise InvalidState(f"The reward is offered from {_said(reward.valid_from)} on.")
    if reward.valid_until is not None and now >= reward.valid_until:
        raise InvalidState(f"The reward was offered until {_said(reward.valid_until)}.")
    if reward.stock is not None and reward.taken is not None and reward.taken >= reward.stock:
        raise sold_out()
    return reward.points


def check_limit(reward: Reward, used: int) -> None:
    """Raises InvalidState for a consumer who has the reward `used` times already and may not have it again."""
    if reward.per_consumer is not None and used >= reward.per_consumer:
        times = "once" if reward.per_consumer == 1 else f"{reward.per_consumer} times"
        raise InvalidState(f"The limit is reached: a consumer can have the reward {times}.")


def sold_out() -> InvalidState:
    """The refusal where there is none left."""
    return InvalidState("The reward is sold out.")


def check_values(values: RewardValues, *, taken: int) -> None:
    """What types cannot say. `taken`: how often it is reserved or given out. Raises InvalidRequest with all its errors."""
    errors = [
        FieldError(pointer=f"/{name}", detail="is outside of the years 1 to 9999 in UTC")
        for name in ("valid_from", "valid_until")
        if not _is_storable(getattr(values, name))
    ]
    if not errors and values.valid_from is not None and values.valid_until is not None and values.valid_until <= values.valid_from:
        errors.append(FieldError(pointer="/valid_until", detail="must be after valid_from"))
    if values.stock is not None and values.stock < taken:
        errors.append(FieldError(pointer="/stock", detail=f"must not be less than the {taken} that are reserved or given out"))
    if errors:
        raise InvalidRequest.of(errors)


def _is_storable(at: datetime | None) -> bool:
    """Whether it is a time in UTC, too."""
    try:
        return at is None or at.astimezone(UTC).year > 0
    except OverflowError:
        return False


def _said(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


# Voucher codes -------------------------------------------------------------------------------------------


def check_voucher(text: str) -> str | FieldError:
    """A code without the blanks around it, or what is wrong with it, which does not quote it."""
    try:
        return msgspec.convert(text.strip(), VoucherCode)
    except msgspec.ValidationError as error:
        return field_error(error)


def voucher_hash(key: bytes, code: str) -> bytes:
    """What tells codes of a reward apart; without the reward's key nobody can try codes on it."""
    return hmac.digest(key, code.encode(), "sha256")
