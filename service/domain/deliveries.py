"""What is written down of an inbound delivery: nothing about a person, the sender's words cut and printable. Pure."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from schemas.base import PRINTABLE
from schemas.deliveries import DeliveryEvent, Outcome, Verdict
from schemas.events import EventAnswer

MAX_WORD_CHARS: Final = 256
MAX_DETAIL_CHARS: Final = 300
MAX_EVENTS: Final = 1_000
MAX_REFUSED_CODES: Final = 20
KEPT_OUTCOMES: Final[tuple[Outcome, ...]] = ("untranslatable", "failed")
"""What verified and gave no events: kept with its body, and what a replay takes unless told otherwise."""

_TOPICS: Final = ("shopify-topic", "x-shopify-topic", "x-wc-webhook-topic", "saleor-event", "ce-type")
_DELIVERY_IDS: Final = ("webhook-id", "shopify-webhook-id", "x-shopify-webhook-id", "x-wc-webhook-delivery-id", "ce-id")
_UNPRINTABLE: Final = re.compile(PRINTABLE.removesuffix(r"+$(?!\n)").removeprefix("^").replace("[^", "["))
_DROPPED_HEADERS: Final = re.compile(r"authorization|cookie|forwarded|real-ip|client-ip|connecting-ip|signature|hmac|token|secret|^host$")
MAX_KEPT_HEADERS: Final = 64
MAX_KEPT_HEADER_CHARS: Final = 1_024


class Delivery(Struct, frozen=True, kw_only=True):
    """A row of the log. `sealed`: headers and body, sealed, of what verified and failed."""

    program: int
    platform: int
    hook: str
    connector: str
    received_at: datetime
    topic: str | None = None
    delivery_id: str | None = None
    size_bytes: int = 0
    verdict: Verdict = "verified"
    outcome: Outcome
    detail: str = ""
    events: Sequence[DeliveryEvent] = ()
    duration_ms: float | None = None
    request_id: str | None = None
    deliveries: int = 1
    sealed: str | None = None


def topic_in(headers: Mapping[str, str]) -> str | None:
    """The topic that the sender's headers name, as it may be written down; not proved by the signature."""
    return next(filter(None, (word(headers.get(name)) for name in _TOPICS)), None)


def delivery_id_in(headers: Mapping[str, str]) -> str | None:
    """The sender's own id of the delivery, as it may be written down."""
    return next(filter(None, (word(headers.get(name)) for name in _DELIVERY_IDS)), None)


def word(text: str | None, *, max_chars: int = MAX_WORD_CHARS) -> str | None:
    """A text of somebody else's, cut, with a replacement character for each unprintable one; None for no text."""
    if text is not None and text.isprintable():
        return text[:max_chars].strip() or None
    return None if text is None else _UNPRINTABLE.sub("\ufffd", text[:max_chars].strip()) or None


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What of the headers is kept with a body: connectors may read any, but nobody needs a proof or an address again."""
    named = {
        name: value for name, value in headers.items() if not _DROPPED_HEADERS.search(name) and len(value) <= MAX_KEPT_HEADER_CHARS
    }  # fmt: skip
    return dict(list(named.items())[:MAX_KEPT_HEADERS])


def event_of(answer: EventAnswer) -> DeliveryEvent:
    """What is written down of an event: its id, status and points, and codes of what was refused."""
    refused = list(dict.fromkeys(refusal.code for refusal in answer.refused))[:MAX_REFUSED_CODES]
    return DeliveryEvent(id=answer.id, status=answer.status, points=answer.points, refused=refused)


def outcome_of(events: Sequence[DeliveryEvent], *, failed: bool, new: bool) -> tuple[Outcome, str]:
    """What came of a delivery with events, and why in words."""
    if failed:
        return "failed", "an event could not be credited; the defect has been logged"
    if not new:
        return "duplicate", "every event of it was known"
    if all(event.status == "ignored" for event in events):
        return "ignored", "its events earned nothing; `refused` and the events themselves say why"
    return "credited", ""


class Refusals:
    """Forged deliveries: the first few of a hook and minute are written down, the others counted. No clock, no I/O."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._seen: dict[str, _Minute] = {}

    def add(self, row: Delivery) -> list[Delivery]:
        """The rows to write now: this one, or none, and the count of a minute that is over."""
        minute = int(row.received_at.timestamp() // 60)
        seen = self._seen.get(row.hook)
        rows: list[Delivery] = []
        if seen is None or seen.number != minute:
            rows += [] if seen is None else _counted(seen)
            seen = self._seen[row.hook] = _Minute(minute)
        if seen.written < self._per_minute:
            seen.written += 1
            return [*rows, row]
        seen.more += 1
        seen.last = row
        return rows

    def ended(self, now: datetime | None) -> list[Delivery]:
        """The counts of minutes that are over at `now` (None: of all); they are forgotten."""
        over = [hook for hook, seen in self._seen.items() if now is None or seen.number != int(now.timestamp() // 60)]
        return [row for hook in over for row in _counted(self._seen.pop(hook))]


class _Minute(Struct):
    """What came to a hook in one minute."""

    number: int
    written: int = 0
    more: int = 0
    last: Delivery | None = None


def _counted(seen: _Minute) -> list[Delivery]:
    if seen.last is None:
        return []
    last = seen.last
    return [
        Delivery(
            program=last.program, platform=last.platform, hook=last.hook, connector=last.connector, received_at=last.received_at,
            verdict=last.verdict, outcome=last.outcome, deliveries=seen.more,
            detail="as many more in this minute; the last one: " + last.detail,
        )
    ]  # fmt: skip
