"""Collection stations: their one-time tokens, and whether a return at one of them counts.

A token is a JSON Web Token (RFC 7519, compact, some 240 characters: a QR code can hold it) that the station's own Ed25519 key signed:
`iss` the station's code, `nbf` and `exp` the window in which the return has to occur, `jti` what counts once in the program. After RFC
8725: one algorithm, which the header can only agree with; a `typ` of its own; length before anything is parsed; claims of exact types.
A code that is printed on the station proves nothing.

What a station reports itself carries a token, too, which is made for that row: the proof stays with the event, nobody else can make it,
and a repeat has the same one.
"""

import base64
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt import PyJWS
from msgspec import Meta, Struct

from schemas.base import Key
from schemas.bounds import MAX_PROOF_CHARS
from schemas.events import Return
from schemas.stations import OpeningHours
from service.domain.claims import Claim, Kind
from service.domain.opening_hours import is_open
from service.domain.tokens import key_from_pem

ALGORITHM: Final = "EdDSA"
TYPE: Final = "station+jwt"
LEEWAY: Final = timedelta(seconds=30)
"""Between the clocks of a platform and ours."""
NONCE_BYTES: Final = 16
ROW: Final = "r:"
"""Begins the `jti` of a token that is made for a row of the station's own; a nonce has no colon."""
MAX_AHEAD: Final = timedelta(hours=24)
"""No token is good for later than this."""
RESERVED_CODES: Final = frozenset({"me", "import"})
"""Would be other addresses."""

STATION_LIMIT: Final = "station_limit"
"""The refusal of what `allowed` does not allow."""

# Seconds since 1970; the bound keeps arithmetic finite.
_Instant = Annotated[int, Meta(ge=0, le=10**11)]

# A signature only: no claim, no time.
_jws = PyJWS(algorithms=[ALGORITHM])


class ProofError(Exception):
    """The text proves no return at this station then; `code` for machines, the text never repeats the proof."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Station(Struct, frozen=True, kw_only=True):
    """A registered station, as a return is judged by it. `platform` None: of the whole program; `classes` None: takes all."""

    id: int
    code: str
    platform: int | None
    time_zone: str
    hours: OpeningHours | None
    classes: frozenset[str] | None
    max_units: Decimal | None
    max_mass_g: Decimal | None
    needs_proof: bool
    late_h: int
    active: bool
    public_pem: str

    def day_of(self, at: datetime) -> date:
        """The station's day that a moment belongs to: what its limits count by."""
        return at.astimezone(ZoneInfo(self.time_zone)).date()


class Token(Struct, frozen=True, kw_only=True):
    """A one-time token that verified."""

    station: str
    nonce: str
    valid_from: datetime
    valid_until: datetime


class Refused(Struct, frozen=True):
    """Why a return at a station counts for nothing: a stable code, and a detail for people."""

    code: str
    detail: str


_UNKNOWN: Final = Refused("station_unknown", "The station is not one of this platform's.")


class Used(Struct, frozen=True, kw_only=True):
    """What counted at a station on one of its days."""

    units: Decimal = Decimal(0)
    mass_g: Decimal = Decimal(0)


class _Header(Struct, frozen=True, kw_only=True):
    alg: str
    typ: str


class _Claims(Struct, frozen=True, kw_only=True):
    iss: Key
    nbf: _Instant
    exp: _Instant
    jti: Key


# Judging ----------------------------------------------------------------------------------------------


def judge(
    item: Return, station: Station | None, *, platform: int, class_: str | None, occurred_at: datetime, now: datetime
) -> Token | Refused | None:
    """Whether a returned item counts at the station that it names: None or the token that it uses up, or why not.

    `station` is the program's station of that code, None if it has none; `platform` who reports; `class_` the item's own class or that of
    its asset; `now` when the event came in, also where it is judged again later. An item that names no station is nobody's to judge: None.
    """
    if item.station is None:
        return None
    if station is None:
        return _UNKNOWN
    refused = _refused(station, platform=platform, class_=class_, occurred_at=occurred_at, now=now)
    if refused is not None:
        return refused
    if item.proof is None:
        return Refused("proof_missing", "The station's one-time token is missing.") if station.needs_proof else None
    try:
        return verify_proof(item.proof, station, at=occurred_at, now=now)
    except ProofError as error:
        return Refused(error.code, error.detail)


def _refused(station: Station, *, platform: int, class_: str | None, occurred_at: datetime, now: datetime) -> Refused | None:
    """What the station itself has against it, whatever its proof."""
    if station.platform not in (None, platform):
        return _UNKNOWN
    if not station.active:
        return Refused("station_inactive", "The station is closed down.")
    if station.classes is not None and class_ not in station.classes:
        return Refused("station_class", "The station does not take this packaging.")
    if not is_open(station.hours, occurred_at, ZoneInfo(station.time_zone)):
        return Refused("station_closed", "The station was closed at that time.")
    if is_late(station, occurred_at, now):
        return Refused("station_late", f"It was reported more than {station.late_h} hours after it happened.")
    return None


def is_late(station: Station, occurred_at: datetime, now: datetime) -> bool:
    """Whether a return that occurred then can no longer be reported."""
    return now - occurred_at > timedelta(hours=station.late_h)


def token_claim(token: Token) -> Claim:
    """What counts once in the program."""
    return Claim(Kind.TOKEN, f"{token.station}:{token.nonce}")


def claimed_by(text: str) -> Claim | None:
    """What a text would claim if it were a token; nothing of it is verified. None: it is none."""
    if len(text) > MAX_PROOF_CHARS or not text.isascii() or text.count(".") != 2:
        return None
    try:
        claims = msgspec.json.decode(_decoded(text.split(".")[1]), type=_Claims)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    return Claim(Kind.TOKEN, f"{claims.iss}:{claims.jti}")


def allowed(station: Station, used: Used, *, units: Decimal, mass_g: Decimal) -> bool:
    """Whether so much more fits into the station's day; a mass that nobody knows is 0. What is taken back always fits."""
    return _fits(station.max_units, used.units, units) and _fits(station.max_mass_g, used.mass_g, mass_g)


def _fits(limit: Decimal | None, used: Decimal, more: Decimal) -> bool:
    return limit is None or more <= 0 or used + more <= limit


# Tokens -----------------------------------------------------------------------------------------------


def signing_key(private_pem: str) -> Ed25519PrivateKey:
    """A station's private key, as it was made."""
    key = load_pem_private_key(private_pem.encode(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def sign_token(key: Ed25519PrivateKey, *, station: str, nonce: str, valid_from: datetime, valid_until: datetime) -> str:
    """A token that `verify_proof` accepts for a return between these moments, in whole seconds. The same input gives the same text."""
    claims = {"iss": station, "nbf": int(valid_from.timestamp()), "exp": int(valid_until.timestamp()), "jti": nonce}
    return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"typ": TYPE})


def nonce_of(random: bytes) -> str:
    """The `jti` of a token to show, from random bytes. Raises ValueError for too few."""
    if len(random) < NONCE_BYTES:
        raise ValueError(f"a nonce needs {NONCE_BYTES} random bytes, not {len(random)}")
    return base64.urlsafe_b64encode(random).decode().rstrip("=")


def sign_row(key: Ed25519PrivateKey, *, station: str, row: str, occurred_at: datetime) -> str:
    """The proof of a return that the station itself reports under this id."""
    moment = occurred_at.replace(microsecond=0)
    return sign_token(key, station=station, nonce=ROW + row, valid_from=moment, valid_until=moment + timedelta(seconds=1))


def verify_proof(text: str, station: Station, *, at: datetime, now: datetime) -> Token:
    """The token behind a proof: of this station, for a return that occurred `at`, reported `now`. Whether it was used is not asked here.

    Raises ProofError: `proof_invalid`, `proof_wrong_station`, `proof_not_yet_valid`, `proof_expired` (also when it comes too late).
    """
    claims = _claims_of(text, station)
    valid_from, valid_until = (datetime.fromtimestamp(instant, UTC) for instant in (claims.nbf, claims.exp))
    if at < valid_from - LEEWAY:
        raise ProofError("proof_not_yet_valid", "The token was not yet valid at that time.")
    if at >= valid_until + LEEWAY:
        raise ProofError("proof_expired", "The token had expired at that time.")
    if now - valid_until > timedelta(hours=station.late_h):
        raise ProofError("proof_expired", f"The token expired more than {station.late_h} hours ago.")
    return Token(station=station.code, nonce=claims.jti, valid_from=valid_from, valid_until=valid_until)


def _claims_of(text: str, station: Station) -> _Claims:
    """What the station signed. Raises ProofError."""
    invalid = ProofError("proof_invalid", "The proof is not a token of a collection station.")
    if len(text) > MAX_PROOF_CHARS or not text.isascii() or text.count(".") != 2:
        raise invalid
    head, body, _ = text.split(".")
    try:
        header = msgspec.json.decode(_decoded(head), type=_Header)
        claims = msgspec.json.decode(_decoded(body), type=_Claims)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise invalid from None
    if header.alg != ALGORITHM or header.typ != TYPE:
        raise invalid
    if claims.iss != station.code:
        raise ProofError("proof_wrong_station", "The token is another station's.")
    try:
        signed = _jws.decode(text, key_from_pem(station.public_pem, ALGORITHM).public, algorithms=[ALGORITHM])
    except (jwt.PyJWTError, ValueError, TypeError):
        raise ProofError("proof_invalid", "The station has not signed this token.") from None
    return msgspec.json.decode(signed, type=_Claims)


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
