"""Collection stations: as operators register them, and what a station itself asks for and reports."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType, field

from schemas.base import Body, Code, Instant, Key, Text
from schemas.bounds import (
    MAX_OPENINGS,
    MAX_PROOF_LIFE_S,
    MAX_SPECIAL_DAYS,
    MAX_STATION_CLASSES,
    MAX_STATION_LATE_H,
    MAX_STATION_ROW_ID_CHARS,
    MAX_STATION_TOKENS,
    MAX_TOKEN_CHARS,
)
from schemas.callers import Name
from schemas.events import DecimalInput, Refusal
from schemas.problems import Problem

MIN_PROOF_LIFE_S = 10

TimeOfDay = Annotated[str, Meta(max_length=5, pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$(?!\n)")]
"""`08:00`; `24:00` is the end of the day."""
Day = Annotated[str, Meta(max_length=10, pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)")]
Openings = Annotated[list[tuple[TimeOfDay, TimeOfDay]], Meta(max_length=MAX_OPENINGS)]
"""From, until. Until is before from where the door closes after midnight: that belongs to the day on which it opened."""
ZoneName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$(?!\n)", description="IANA, `Asia/Shanghai`.")]
Classes = Annotated[list[Code], Meta(max_length=MAX_STATION_CLASSES)]
ProofLife = Annotated[int, Meta(ge=MIN_PROOF_LIFE_S, le=MAX_PROOF_LIFE_S)]
LateHours = Annotated[int, Meta(ge=1, le=MAX_STATION_LATE_H)]
RowId = Annotated[str, Meta(min_length=1, max_length=MAX_STATION_ROW_ID_CHARS, pattern=r"^[A-Za-z0-9._~:-]+$(?!\n)")]


class OpeningHours(Body, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """When a station is open, by its own clock; a day without entry is closed. `exceptions` stand in place of a date's weekday."""

    mon: Openings = []
    tue: Openings = []
    wed: Openings = []
    thu: Openings = []
    fri: Openings = []
    sat: Openings = []
    sun: Openings = []
    exceptions: Annotated[dict[Day, Openings], Meta(max_length=MAX_SPECIAL_DAYS)] = {}


class StationBody(Body, frozen=True, kw_only=True):
    """A new collection station.

    Without `platform` it serves the whole program, without `opening_hours` it is always open, without `classes` it takes all packaging.
    `max_units` and `max_mass_g` (grams) count per day of its time zone, by default the program's. `proof_life_s` is the life of a token
    that it shows, `late_h` how many hours after it a return may still be reported.
    """

    code: Code
    name: Name
    platform: Code | None = None
    time_zone: ZoneName | None = None
    location: Text | None = None
    opening_hours: OpeningHours | None = None
    classes: Classes | None = None
    max_units: DecimalInput | None = None
    max_mass_g: DecimalInput | None = None
    needs_proof: bool = True
    proof_life_s: ProofLife = 120
    late_h: LateHours = 72


class StationPatch(Body, frozen=True, kw_only=True):
    """What to change of a station; absent fields stay, null lifts. Its code and its platform stay as they are."""

    name: Name | UnsetType = UNSET
    time_zone: ZoneName | UnsetType = UNSET
    location: Text | UnsetType | None = UNSET
    opening_hours: OpeningHours | UnsetType | None = UNSET
    classes: Classes | UnsetType | None = UNSET
    max_units: DecimalInput | UnsetType | None = UNSET
    max_mass_g: DecimalInput | UnsetType | None = UNSET
    needs_proof: bool | UnsetType = UNSET
    proof_life_s: ProofLife | UnsetType = UNSET
    late_h: LateHours | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class StationAnswer(Body, frozen=True, kw_only=True):
    """A station. `api_key` is there once, when it was made."""

    code: str
    name: str
    platform: str | None
    time_zone: str
    location: str | None
    opening_hours: OpeningHours | None
    classes: list[str] | None
    max_units: str | None
    max_mass_g: str | None
    needs_proof: bool
    proof_life_s: int
    late_h: int
    active: bool
    created_at: datetime
    api_key: str | UnsetType = UNSET


class StationKeyBody(Body, frozen=True, kw_only=True):
    """A new key of a station; without `expires_at` it never expires."""

    expires_at: Instant | None = None


class StationKeyAnswer(Body, frozen=True, kw_only=True):
    """A station's key without the key; `hint` is its last four characters. `key` is there once, when it was made.

    `last_used_at` is written in the background, at most once a minute.
    """

    id: int
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    key: str | UnsetType = UNSET


# The station's own ------------------------------------------------------------------------------------


class TokensBody(Body, frozen=True, kw_only=True):
    """One-time tokens to show as QR codes: `count` of them, all good from `starts_at` (now) for `life_s` (the station's `proof_life_s`).

    Nothing is good for later than 24 hours from now: what is shown offline has a window that was fixed before.
    """

    count: Annotated[int, Meta(ge=1, le=MAX_STATION_TOKENS)] = 1
    starts_at: Instant | None = None
    life_s: ProofLife | None = None


class TokensAnswer(Body, frozen=True, kw_only=True):
    """Each token counts once, for a return that occurs in this window."""

    station: str
    valid_from: datetime
    valid_until: datetime
    tokens: list[str]


class StationReturn(Body, frozen=True, kw_only=True):
    """A return that the station took, under an id of its own.

    Whose it is: `consumer_token`, that the consumer's app showed the station, or `consumer` of `platform`. A station of one platform need
    not name it. Without any consumer it is for whom the asset was shipped to. `attendant` is kept as a keyed hash.
    """

    id: RowId
    occurred_at: Instant
    class_: Code | None = field(name="class", default=None)
    asset: Key | None = None
    quantity: DecimalInput = 1
    mass_g: DecimalInput | None = None
    waybill: Key | None = None
    platform: Code | None = None
    consumer: Key | None = None
    consumer_token: Annotated[str, Meta(max_length=MAX_TOKEN_CHARS)] | None = None
    attendant: Key | None = None


class StationReturnResult(Body, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one row: the event's id, status, points and refusals, or the problem that stopped it; nothing of the consumer."""

    id: str | None
    outcome: Literal["accepted", "duplicate", "rejected"]
    event: str | None = None
    status: str | None = None
    points: int = 0
    refused: list[Refusal] = []
    problem: Problem | None = None


class StationReturnsAnswer(Body, frozen=True, kw_only=True):
    """The results in the order of the request; a rejected row stops no other."""

    accepted: int
    duplicates: int
    rejected: int
    results: list[StationReturnResult]
