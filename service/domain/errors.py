"""What can go wrong, as classes; `service.api.problems` maps each code to its HTTP answer."""

from collections.abc import Sequence
from typing import ClassVar, Self

from schemas.problems import FieldError


class GreenpointsError(Exception):
    """A refusal that the caller may see: a stable `code`, a `detail` for people, pointers into the request."""

    code: ClassVar[str] = "internal"
    retry_after_s: int = 1
    """When to come back, where coming back can help."""

    def __init__(self, detail: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors = list(errors)


class InvalidRequest(GreenpointsError):
    """The request is well-formed but wrong; `errors` say where."""

    code = "invalid_request"

    @classmethod
    def of(cls, errors: list[FieldError]) -> "InvalidRequest":
        """Several things are wrong; the first is told in words."""
        return cls(f"{errors[0].detail} (at {errors[0].pointer})", errors)

    @classmethod
    def at(cls, pointer: str, detail: str) -> "InvalidRequest":
        """One thing is wrong, at this JSON pointer."""
        return cls(f"{detail} (at {pointer or 'the whole body'})", [FieldError(pointer=pointer, detail=detail)])


class Undeclared(InvalidRequest):
    """An event that names something of its program's own, and is wrong as far as this process knows: another may have declared it since."""


class ConsumerErased(InvalidRequest):
    """The event's consumer was erased, and the program takes no more events of an erased reference."""

    code = "consumer_erased"


class MalformedJson(GreenpointsError):
    """The body is not JSON in UTF-8, or is nested too deeply to be read."""

    code = "malformed_json"


class CallerRefused(GreenpointsError):
    """Who calls is not let in. It is logged, with what is known of the caller; `detail` never quotes what the caller sent as proof."""

    caller: str | None = None
    """The kind of caller that was expected or found: platform, consumer, station, operator, hook, client, sign-in."""
    platform: str | None = None
    """The code of the platform that it is about, as far as it is known."""

    def about(self, caller: str, platform: str | None = None) -> Self:
        """Itself, with what is known of the caller; what was known before stays."""
        self.caller = self.caller or caller
        self.platform = self.platform or platform
        return self


class Unauthenticated(CallerRefused):
    """Nobody we know: no, unknown, expired, revoked or forged proof."""

    code = "unauthenticated"


class Forbidden(CallerRefused):
    """A known caller without the role or scope."""

    code = "forbidden"


class RateLimited(CallerRefused):
    """Too much in too short a time; come back after `retry_after_s`."""

    code = "rate_limited"

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class NotFound(GreenpointsError):
    """It does not exist, or belongs to somebody else: the caller cannot tell which."""

    code = "not_found"


class IdReused(GreenpointsError):
    """The same id came before with different content."""

    code = "id_reused"


class InvalidState(GreenpointsError):
    """The thing exists, but its state does not allow this."""

    code = "invalid_state"


class InsufficientPoints(GreenpointsError):
    """Fewer points can be spent than were asked for; nothing was taken."""

    code = "insufficient_points"


class IdempotencyKeyMissing(GreenpointsError):
    """The request needs an `Idempotency-Key`."""

    code = "idempotency_key_missing"


class IdempotencyKeyReused(GreenpointsError):
    """The key came before with another request."""

    code = "idempotency_key_reused"


class IdempotencyKeyInUse(GreenpointsError):
    """The first request with this key is still running; come back for its answer."""

    code = "idempotency_key_in_use"


class PreconditionFailed(GreenpointsError):
    """`If-Match` names a state that the thing is not in any more; nothing was changed."""

    code = "precondition_failed"


class PayloadTooLarge(GreenpointsError):
    """The body exceeds its bound; nothing of it was parsed."""

    code = "payload_too_large"


class UnsupportedMediaType(GreenpointsError):
    """The body's type or encoding is not one that this route reads."""

    code = "unsupported_media_type"


class Overloaded(GreenpointsError):
    """More is waiting than can be committed in time; come back after `Retry-After`."""

    code = "overloaded"


class Unavailable(GreenpointsError):
    """A service that is needed is not there. The outcome may be unknown: repeat with the same id."""

    code = "unavailable"


class Internal(GreenpointsError):
    """A defect of ours, isolated to this one event."""

    code = "internal"
