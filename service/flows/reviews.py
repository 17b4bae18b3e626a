"""What a person is told about an event that fraud checks held: the state, the deadline, soft reasons, what came of an objection."""

from typing import Final, cast, get_args

import msgspec
from msgspec import UNSET, Struct, UnsetType

from schemas.reviews import ObjectionAnswer, Review, ReviewState
from service.domain.fraud.signals import SIGNALS
from service.store.reviews import StoredReview

TOLD: Final = frozenset(get_args(ReviewState))
"""States of a case's events that a person is told; the others changed nothing, or are over."""


UNUSUAL: Final = "An automatic check found something unusual."
"""For a reason that is no signal of these checks (any more)."""
_SOFTLY: Final = {signal.name: signal.softly for signal in SIGNALS}


class _Reason(Struct, frozen=True):
    """Of a reason in a case, what the person's words follow from: nothing about others, nothing that teaches how to get around it."""

    signal: str


_reasons = msgspec.json.Decoder(list[_Reason])


def review_of(stored: StoredReview | None) -> Review | UnsetType:
    """The review of an event; UNSET where there is none that the person is told of."""
    if stored is None or stored.state not in TOLD:
        return UNSET
    return Review(
        state=cast(ReviewState, stored.state), since=stored.since, until=stored.until, reasons=soft(stored.reasons),
        objection=objection_of(stored),
    )  # fmt: skip


def soft(reasons: str) -> list[str]:
    """The sentences for the person, each once, the heaviest first. `reasons`: JSON of a case's event."""
    return list(dict.fromkeys(_SOFTLY.get(reason.signal, UNUSUAL) for reason in _reasons.decode(reasons)))


def objection_of(stored: StoredReview) -> ObjectionAnswer | None:
    """What the person said against it, and what came of it."""
    if stored.objection is None or stored.made_at is None:
        return None
    return ObjectionAnswer(state=stored.objection, made_at=stored.made_at, answered_at=stored.answered_at, answer=stored.answer)
