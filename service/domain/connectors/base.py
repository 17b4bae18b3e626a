"""What every connector takes and gives."""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from schemas.base import PRINTABLE
from schemas.connectors import HookSettings
from schemas.events import Event
from service.domain.errors import Unauthenticated

MAX_HEADER_CHARS = 256
_MAX_DETAIL_CHARS = 300
_PRINTABLE = re.compile(PRINTABLE)

_T = TypeVar("_T")


class Hook(Struct, frozen=True, kw_only=True):
    """An inbound hook. Any of its secrets may have signed: several while one is rotated."""

    id: str
    connector: str
    secrets: tuple[str, ...]
    settings: HookSettings = HookSettings()


class Demand(Struct, frozen=True, kw_only=True):
    """What a platform is asked for by a person, or asks for itself: to erase them, to hand out what is known, to erase everybody."""

    kind: Literal["erase", "export", "erase_all"]
    consumer: str | None = None
    orders: tuple[str, ...] = ()
    """Orders of which nothing personal may stay, whoever's they are."""


class Association(Struct, frozen=True, kw_only=True):
    """A tag was put on a reusable asset, or taken off (`joined` false); without `tag`, all tags were taken off.

    `event` is the id of what reported it; `void`: that was declared wrong. Both names are canonical (`service.domain.identifiers`).
    """

    event: str
    asset: str
    tag: str | None
    at: datetime
    joined: bool
    void: bool = False


class Translated(Struct, frozen=True, kw_only=True):
    """What a delivery says: its events in the order to apply them, or a demand, or in words why there is neither.

    `unread`: what in it could not be read, beside something that could; it is kept for a replay. `separate`: its events have nothing to do
    with each other, so one that breaks a rule stops no other. `tagged`: they may name an asset by its tag.
    """

    topic: str
    delivery_id: str | None
    events: list[Event]
    ignored: str | None = None
    demand: Demand | None = None
    associations: tuple[Association, ...] = ()
    unread: tuple[str, ...] = ()
    separate: bool = False
    tagged: bool = False


class BadSignature(Unauthenticated):
    """The delivery does not prove that its sender knows the hook's secret, or proves it for another time."""


class StaleSignature(BadSignature):
    """The delivery names another time than now: too old, too far ahead, or delivered again by somebody who copied it."""


class Untranslatable(Exception):
    """A genuine delivery that cannot be read. `detail` says where and why; it quotes nothing of the body."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail[:_MAX_DETAIL_CHARS]


Headers = Mapping[str, str]
"""Request headers by lower-case name."""


class Connector(NamedTuple):
    """One sender's conventions: how it signs, and what its bodies mean."""

    verify: Callable[[Hook, Headers, bytes, datetime], None]
    translate: Callable[[Hook, Headers, bytes], Translated]


def decode(body: bytes | msgspec.Raw, decoder: "msgspec.json.Decoder[_T]") -> _T:
    """The body as the decoder's type. Raises Untranslatable, whatever the bytes are.

    msgspec's messages name types and places; they would quote a value only for an unknown tag or choice of words, so
    callers must have checked tags before.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise Untranslatable(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Untranslatable("the body is not JSON in UTF-8") from None
    except RecursionError:
        raise Untranslatable("the body is nested too deeply") from None


def header(headers: Headers, *names: str, max_chars: int = MAX_HEADER_CHARS) -> str | None:
    """The first of these headers that says something, without outer spaces; None when all are absent, too long or unprintable."""
    return next((value for value in (printable(headers.get(name), max_chars=max_chars) for name in names) if value), None)


def printable(value: object, *, max_chars: int) -> str | None:
    """A text that may be kept as it is, without outer spaces; None for no text, an empty, too long or unprintable one.

    It is never cut: that would make two different names one.
    """
    if not isinstance(value, str):
        return None
    text = value.strip()
    return text if 0 < len(text) <= max_chars and _PRINTABLE.fullmatch(text) else None
