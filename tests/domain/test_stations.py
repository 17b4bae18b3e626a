"""One-time tokens of stations, and what a return at a station is refused for. Nothing here asks whether a token was used."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas.bounds import MAX_PROOF_CHARS
from schemas.events import Return
from schemas.stations import OpeningHours
from service.domain import tokens
from service.domain.claims import Claim, Kind
from service.domain.stations import (
    LEEWAY,
    ProofError,
    Refused,
    Station,
    Token,
    Used,
    allowed,
    judge,
    nonce_of,
    sign_row,
    sign_token,
    signing_key,
    token_claim,
    verify_proof,
)

AT = datetime(2026, 3, 2, 2, 0, tzinfo=UTC)  # a Monday, 10:00 in Shanghai
PRIVATE, PUBLIC = tokens.development_key(b"s" * 32)
KEY = signing_key(PRIVATE)
OTHER_PRIVATE, OTHER_PUBLIC = tokens.development_key(b"o" * 32)
NONCE = nonce_of(bytes(range(16)))


def station(**changes: Any) -> Station:
    return Station(
        **{
            "id": 7, "code": "corner", "platform": None, "time_zone": "Asia/Shanghai", "hours": None, "classes": None, "max_units": None,
            "max_mass_g": None, "needs_proof": True, "late_h": 72, "active": True, "public_pem": PUBLIC,
        }
        | changes
    )  # fmt: skip


def token(**changes: Any) -> str:
    given = {"station": "corner", "nonce": NONCE, "valid_from": AT, "valid_until": AT + timedelta(seconds=120)} | changes
    return sign_token(given.pop("key", KEY), **given)


def code_of(text: str, *, at: datetime = AT, now: datetime = AT, **changes: Any) -> str:
    try:
        verify_proof(text, station(**changes), at=at, now=now)
    except ProofError as error:
        return error.code
    return "proved"


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def made(header: Any, claims: Any, *, sign: Any = None) -> str:
    text = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64((sign or KEY.sign)(text.encode()))}"


HEADER = {"alg": "EdDSA", "typ": "station+jwt"}
CLAIMS = {"iss": "corner", "nbf": int(AT.timestamp()), "exp": int(AT.timestamp()) + 120, "jti": "n"}


def test_a_token_proves_its_station_and_its_window_and_fits_into_a_qr_code() -> None:
    text = token()
    proved = verify_proof(text, station(), at=AT, now=AT)
    assert proved == Token(station="corner", nonce=NONCE, valid_from=AT, valid_until=AT + timedelta(seconds=120))
    assert token_claim(proved) == Claim(Kind.TOKEN, f"corner:{NONCE}")
    assert len(text) < 300
    assert len(token(station="c" * 64)) < MAX_PROOF_CHARS


def test_a_token_is_good_from_the_first_second_to_the_last_and_reported_hours_later() -> None:
    text, end = token(), AT + timedelta(seconds=120)
    assert code_of(text, at=AT - LEEWAY) == "proved"
    assert code_of(text, at=AT - LEEWAY - timedelta(seconds=1)) == "proof_not_yet_valid"
    assert code_of(text, at=end + LEEWAY - timedelta(seconds=1)) == "proved"
    assert code_of(text, at=end + LEEWAY) == "proof_expired"
    assert code_of(text, now=end + timedelta(hours=72)) == "proved"
    assert code_of(text, now=end + timedelta(hours=72, seconds=1)) == "proof_expired"
    assert code_of(text, now=end + timedelta(hours=2), late_h=1) == "proof_expired"


def test_another_stations_token_is_told_apart_and_a_forged_one_proves_nothing() -> None:
    assert code_of(token(station="other")) == "proof_wrong_station"
    assert code_of(token(key=signing_key(OTHER_PRIVATE))) == "proof_invalid"
    assert code_of(token(), public_pem=OTHER_PUBLIC) == "proof_invalid"  # a station of the same code in another program
    assert code_of(token()) == code_of(made(HEADER, CLAIMS)) == "proved"


def test_no_part_of_a_token_can_be_changed() -> None:
    text = token()
    for at in range(text.rindex(".")):
        for other in "A_":
            if other != text[at]:
                assert code_of(text[:at] + other + text[at + 1 :]) in ("proof_invalid", "proof_wrong_station")


@pytest.mark.parametrize(
    "text",
    [
        made({"alg": "none", "typ": "station+jwt"}, CLAIMS, sign=lambda _: b""),
        made({"alg": "None", "typ": "station+jwt"}, CLAIMS),
        made({"alg": "HS256", "typ": "station+jwt"}, CLAIMS, sign=lambda raw: hmac.digest(PUBLIC.encode(), raw, hashlib.sha256)),
        made(HEADER, CLAIMS, sign=lambda raw: hmac.digest(PUBLIC.encode(), raw, hashlib.sha256)),
        made({"alg": "EdDSA"}, CLAIMS),
        made({"alg": "EdDSA", "typ": "JWT"}, CLAIMS),
        made(HEADER | {"crit": ["b64"], "b64": False}, CLAIMS),
        made(HEADER, CLAIMS | {"exp": 1e300}),
        made(HEADER, CLAIMS | {"exp": "2030"}),
        made(HEADER, CLAIMS | {"nbf": -1}),
        made(HEADER, CLAIMS | {"exp": 10**12}),
        made(HEADER, CLAIMS | {"jti": ""}),
        made(HEADER, CLAIMS | {"jti": "a\u0000b"}),
        made(HEADER, {k: v for k, v in CLAIMS.items() if k != "jti"}),
        made(HEADER, [CLAIMS]),
        made([HEADER], CLAIMS),
        f"{b64(b'[' * 50_000)}.{b64(b'{}')}.",
        "",
        "..",
        "a.b.c",
        "corner",
        "é.é.é",
        "\ud800..",
        token() + ".x",
        "A" * (MAX_PROOF_CHARS + 1),
        "https://greenpoints.example/s/corner",
    ],
    ids=lambda text: f"{len(text)} characters",
)  # fmt: skip
def test_what_the_station_did_not_sign_as_a_token_is_invalid(text: str) -> None:
    assert code_of(text) == "proof_invalid"


def test_a_consumer_token_is_no_proof_though_the_key_were_the_same() -> None:
    consumer = tokens.sign(
        private_pem=PRIVATE, algorithm="EdDSA", kid="k", issuer="corner", reference="c", scopes=(), now=AT.timestamp(), ttl_s=60
    )
    assert code_of(consumer) == "proof_invalid"


def test_what_the_station_reports_has_the_same_proof_every_time_and_no_other_row_has_it() -> None:
    at = AT + timedelta(milliseconds=999)
    first, again = (sign_row(KEY, station="corner", row="row-1", occurred_at=at) for _ in range(2))
    assert first == again
    assert token_claim(verify_proof(first, station(), at=at, now=at)).text == "corner:r:row-1"
    assert first != sign_row(KEY, station="corner", row="row-2", occurred_at=at)
    assert ":" not in NONCE


def test_a_nonce_needs_its_randomness() -> None:
    with pytest.raises(ValueError, match="16 random bytes"):
        nonce_of(b"short")


# Judging


def judged(item: dict[str, Any] | None = None, *, at: datetime = AT, now: datetime | None = None, by: int = 1, **changes: Any) -> Any:
    made_ = msgspec.convert({"class": "circular_box", "station": "corner", "proof": token()} | (item or {}), Return)
    return judge(made_, station(**changes), platform=by, class_=made_.class_, occurred_at=at, now=now or at)


def test_a_return_with_a_good_token_gives_the_token_and_one_without_a_station_is_nobodys() -> None:
    found = judged()
    assert isinstance(found, Token)
    assert found.nonce == NONCE
    assert judged({"station": None}, active=False) is None


HOURS = OpeningHours(mon=[("08:00", "20:00")])


@pytest.mark.parametrize(
    ("code", "item", "changes"),
    [
        ("station_unknown", {}, {"platform": 2}),
        ("station_inactive", {}, {"active": False}),
        ("station_class", {}, {"classes": frozenset({"deposit_container"})}),
        ("station_class", {"class": None, "asset": "a"}, {"classes": frozenset({"circular_box"})}),
        ("station_closed", {}, {"hours": OpeningHours(tue=[("08:00", "20:00")])}),
        ("proof_missing", {"proof": None}, {}),
        ("proof_invalid", {"proof": "corner"}, {}),
        ("proof_invalid", {"proof": "corner"}, {"needs_proof": False}),
        ("proof_wrong_station", {"proof": token(station="other")}, {}),
        ("proof_expired", {"proof": token(valid_from=AT - timedelta(hours=1), valid_until=AT - timedelta(minutes=58))}, {}),
        ("proof_not_yet_valid", {"proof": token(valid_from=AT + timedelta(hours=1), valid_until=AT + timedelta(hours=2))}, {}),
    ],
)
def test_what_is_wrong_has_a_code_of_its_own(code: str, item: dict[str, Any], changes: dict[str, Any]) -> None:
    found = judged(item, **changes)
    assert isinstance(found, Refused)
    assert found.code == code
    assert found.detail.endswith(".")


def test_an_unknown_station_and_another_platforms_are_refused_in_the_same_words() -> None:
    item = msgspec.convert({"class": "circular_box", "station": "corner"}, Return)
    unknown = judge(item, None, platform=1, class_="circular_box", occurred_at=AT, now=AT)
    assert isinstance(unknown, Refused)
    assert unknown == judged(platform=2)


def test_it_counts_where_the_station_is_open_takes_it_and_needs_no_proof() -> None:
    assert isinstance(judged(hours=HOURS, classes=frozenset({"circular_box"}), platform=1), Token)
    assert judged({"proof": None}, needs_proof=False) is None


def test_what_comes_hours_later_is_judged_by_the_hours_of_when_it_happened() -> None:
    night = AT + timedelta(hours=16)  # 02:00 in Shanghai
    assert isinstance(judged(hours=HOURS, now=night), Token)
    proof = sign_row(KEY, station="corner", row="r", occurred_at=AT)
    assert isinstance(judged({"proof": proof}, hours=HOURS, now=AT + timedelta(hours=72)), Token)
    late = judged({"proof": proof}, hours=HOURS, now=AT + timedelta(hours=72, seconds=1))
    assert isinstance(late, Refused)
    assert late.code == "station_late"


# Limits


def test_a_limit_is_reached_exactly_and_what_is_taken_back_always_fits() -> None:
    limited, used = station(max_units=Decimal(10), max_mass_g=Decimal(500)), Used(units=Decimal(9), mass_g=Decimal("499.5"))
    assert allowed(limited, used, units=Decimal(1), mass_g=Decimal("0.5"))
    assert not allowed(limited, used, units=Decimal("1.000001"), mass_g=Decimal(0))
    assert not allowed(limited, used, units=Decimal(1), mass_g=Decimal("0.500001"))
    full = Used(units=Decimal(11), mass_g=Decimal(900))  # the limit was lowered
    assert allowed(limited, full, units=Decimal(-1), mass_g=Decimal(-1))
    assert allowed(station(), full, units=Decimal(10**12), mass_g=Decimal(10**12))


def test_a_day_is_the_stations_own() -> None:
    assert station().day_of(datetime(2026, 3, 1, 16, 0, tzinfo=UTC)) == date(2026, 3, 2)
    assert station(time_zone="America/New_York").day_of(datetime(2026, 3, 2, 4, 59, tzinfo=UTC)) == date(2026, 3, 1)
