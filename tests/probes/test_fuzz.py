"""Every decoder and verifier, fed with damaged input: an answer or a refusal, never another exception; and what is signed stays signed.

Seeded and short by default; with HYPOTHESIS_PROFILE=long at random and for minutes.
"""

import base64
import io
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings

from schemas.campaigns import CampaignBody
from schemas.connectors import HookSettings
from schemas.events import Event
from schemas.redemptions import CaptureBody, OwnRedemptionBody, RedemptionBody, RefundBody
from service.api import bodies as http
from service.api import events as events_api
from service.api.callers import _bearer
from service.api.consumers import Freshness
from service.api.cursors import Name, Position, encode_cursor, read_cursor
from service.api.events import TryOut
from service.api.exchange import Exchange
from service.api.paths import reference
from service.api.redemptions import _ttl
from service.domain import idempotency, imports, links, station_returns, stations, tokens
from service.domain.campaigns import check_campaign, compile_campaign
from service.domain.conditions import InvalidCondition, compile_condition
from service.domain.connectors import CONNECTORS, BadSignature, Hook, Untranslatable, translate, verify
from service.domain.errors import GreenpointsError, InvalidRequest
from service.domain.gtin import normalise_gtin
from service.domain.intake import Sender, decode_json, fact_of, hash_of, read_fact
from service.domain.openings import bounded_lines
from service.domain.plastics import content_of
from service.domain.registrations import check_asset, check_certificate, check_product
from service.domain.rewards import check_voucher, voucher_hash
from service.domain.tokens import TokenError
from service.domain.validate import MAX_AHEAD
from tests.probes.mutations import bodies, documents, encoded
from tests.probes.payloads import EVENTS, NOW, SENDERS
from tests.sealer import SEALER

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
fuzz = settings(
    max_examples=20_000 if LONG else 120, deadline=None, derandomize=not LONG, database=None, print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)  # fmt: skip
pytestmark = pytest.mark.timeout(3_600 if LONG else 300)

T = TypeVar("T")
SENDER = Sender(program=1, platform=2, platform_code="shop")
HASH_KEY = b"k" * 32


def answer_of(work: Callable[[], T]) -> T | None:
    """What comes back; None for a refusal. Anything else that is raised is a finding."""
    try:
        return work()
    except GreenpointsError:
        return None


# Events ------------------------------------------------------------------------------------------------


def read(body: bytes) -> Any:
    return answer_of(lambda: read_fact(body, SENDER, now=NOW, hash_key=HASH_KEY))


@fuzz
@given(body=bodies(EVENTS))
@example(body=encoded(EVENTS[0] | {"attributes": {"n": 10**30}}))
@example(body=encoded(EVENTS[0]) * 2)
@example(body=b"")
def test_an_event_is_read_or_refused_and_its_hash_is_that_of_its_value(body: bytes) -> None:
    fact = read(body)
    if fact is None:
        return
    value = decode_json(body)
    again = msgspec.json.encode(dict(reversed(list(value.items()))))
    assert read(again).request_hash == fact.request_hash == hash_of(value)
    kept = msgspec.json.decode(fact.facts, type=Event)
    assert kept.id == fact.event.id
    assert kept.consumer is None


@fuzz
@given(
    body=bodies([EVENTS, EVENTS[:1] * 3, [], {}, [[]]]),
    separator=st.sampled_from((b"\n", b"\r\n", b"\n\n", b"\x1e")),
    content_type=st.sampled_from(
        (None, "application/json", "application/x-ndjson", "application/json; charset=latin-1", "text/csv", ";;", "é")
    ),
)
def test_a_batch_is_split_or_refused(body: bytes, separator: bytes, content_type: str | None) -> None:
    if content_type == "application/x-ndjson":
        body = body.replace(b"},", b"}" + separator)
    for raw in answer_of(lambda: events_api._split(body, content_type)) or []:
        read(bytes(raw))


# Connectors --------------------------------------------------------------------------------------------


def test_every_connector_is_fuzzed() -> None:
    missing = sorted(CONNECTORS.keys() - SENDERS.keys())
    assert not missing, f"tests/probes/payloads.py: SENDERS needs a sound payload and a signature of {', '.join(missing)}"


def hook_of(name: str) -> Hook:
    settings_ = {"packaging": [{"from": "note_attribute", "name": "box", "class": "circular_box"},
                               {"from": "property", "name": "_box", "class": "circular_box"},
                               {"from": "shipping_line", "code": "green", "class": "circular_box"}]}  # fmt: skip
    return Hook(id="h", connector=name, secrets=(SENDERS[name].secret,), settings=msgspec.convert(settings_, HookSettings))


@pytest.mark.parametrize("name", sorted(SENDERS))
@fuzz
@given(data=st.data())
def test_a_delivery_that_verifies_is_translated_or_kept(name: str, data: st.DataObject) -> None:
    sender, hook = SENDERS[name], hook_of(name)
    body = data.draw(bodies(sender.sound()))
    headers = sender.headers(sender.secret, body) | data.draw(st.sampled_from(sender.topics))
    verify(hook, headers, body, NOW)
    try:
        translated = translate(hook, headers, body)
    except Untranslatable:
        return
    assert [e.id for e in translate(hook, headers, body).events] == [e.id for e in translated.events]
    for event in translated.events:
        answer_of(lambda event=event: fact_of(event, SENDER, now=datetime.now(UTC), hash_key=HASH_KEY))  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(SENDERS))
@fuzz
@given(data=st.data())
def test_another_byte_does_not_verify(name: str, data: st.DataObject) -> None:
    sender, hook = SENDERS[name], hook_of(name)
    body = encoded(data.draw(st.sampled_from(sender.payloads)))
    headers = sender.headers(sender.secret, body)
    verify(hook, headers, body, NOW)
    at = data.draw(st.integers(0, len(body) - 1))
    other = body[:at] + bytes([body[at] ^ (1 << data.draw(st.integers(0, 7)))]) + body[at + 1 :]
    with pytest.raises(BadSignature):
        verify(hook, headers, other, NOW)
    changed = data.draw(st.sampled_from(sorted(headers)))
    with pytest.raises(BadSignature):
        verify(
            hook, headers | {changed: data.draw(st.text(max_size=40).filter(lambda text: text.strip() not in headers[changed]))}, body, NOW
        )


# Imports -----------------------------------------------------------------------------------------------

CERTIFICATE = {
    "scheme": "eu-ecolabel", "number": "IT/016/007", "holder": "Mill", "valid_from": "2026-01-01", "valid_until": "2028-12-31",
    "gtins": ["06901234567892"],
}  # fmt: skip
ASSET = {"asset": "04012345555554987", "class": "circular_box", "max_trips": 20}
PRODUCT = {"gtin": "06901234567892", "name": "Soap", "category": "soap", "skus": [{"platform": "shop", "sku": "TP-01"}]}
PLASTIC = {"id": "a", "period": "2026-01-01/2026-03-31", "class": "foam_box", "kind": "used", "mass_g": "12.5", "units": 3, "corrects": "b"}
CSV = [
    b"scheme,number,holder,valid_from,valid_until,gtins\neu-ecolabel,IT/016/007,Mill,2026-01-01,2028-12-31,06901234567892 4006381333931\n",
    b"id,period,class,kind,mass_g,units,merchant\na,2026H1,foam_box,used,12.5,3,m-7\nb,2026-01-01/2026-02-01,foam_box,used,-1,,=1+1\n",
    b'gtin,name,category,platform,sku\r\n6901234567892,"Soap, ""green""",soap,shop,TP-01\r\n',
    b"asset,class,max_trips\n(8003)04012345555554987,circular_box,20\nbox-1,circular_bag,\n",
]


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """CSV with pieces moved, doubled and inserted."""
    table = draw(st.sampled_from(CSV))
    for _ in range(draw(st.integers(0, 5))):
        at, length = draw(st.integers(0, len(table))), draw(st.integers(0, 12))
        piece = draw(
            st.sampled_from((b"", b",", b'"', b'""', b"\n", b"\r", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"=1+1", table))
        )
        table = table[:at] + piece + table[at + length :]
    return table


@fuzz
@given(
    body=bodies([[CERTIFICATE] * 2, [PRODUCT], [PLASTIC] * 2, CERTIFICATE, [[]]]),
    csv=tables(),
    format_=st.sampled_from(("json", "ndjson", "csv")),
)
def test_an_import_is_read_row_by_row(body: bytes, csv: bytes, format_: Any) -> None:
    given_ = csv if format_ == "csv" else body.replace(b"},", b"}\n") if format_ == "ndjson" else body
    for row in answer_of(lambda: imports.certificate_rows(given_, format_)) or []:
        if not hasattr(row, "pointer"):
            answer_of(lambda row=row: check_certificate(row))  # type: ignore[misc]
    for product in answer_of(lambda: imports.product_rows(given_, format_)) or []:
        if not hasattr(product, "pointer"):
            answer_of(lambda product=product: check_product(product))  # type: ignore[misc]
    for plastic in answer_of(lambda: imports.plastic_rows(given_, format_)) or []:
        if not hasattr(plastic, "pointer"):
            answer_of(lambda plastic=plastic: content_of(plastic))  # type: ignore[misc]


@fuzz
@given(body=bodies([[ASSET] * 2, ASSET, [[]]]), csv=tables(), format_=st.sampled_from(("json", "ndjson", "csv")))
def test_an_import_of_assets_is_read_row_by_row_whole_or_as_it_comes(body: bytes, csv: bytes, format_: Any) -> None:
    given_ = csv if format_ == "csv" else body.replace(b"},", b"}\n") if format_ == "ndjson" else body
    rows = answer_of(lambda: imports.asset_rows(given_, format_)) or []
    if format_ != "json":
        lines = io.StringIO(given_.decode("utf-8-sig", "surrogateescape"), newline="")
        rows += answer_of(lambda: list(imports.asset_lines(bounded_lines(lines), format_))) or []
    for row in rows:
        if not hasattr(row, "pointer"):
            answer_of(lambda row=row: check_asset(row, {}))  # type: ignore[misc]


@fuzz
@given(body=bodies([["A-1", "A-2"], "A-1", [[]], [7, None]]), csv=tables(), format_=st.sampled_from(("json", "ndjson", "csv")))
def test_an_import_of_vouchers_is_read_row_by_row_and_sealed_or_refused(body: bytes, csv: bytes, format_: Any) -> None:
    given_ = csv if format_ == "csv" else body.replace(b", ", b"\n") if format_ == "ndjson" else body
    rows = answer_of(lambda: imports.voucher_rows(given_, format_)) or []
    if format_ != "json":
        lines = io.StringIO(given_.decode("utf-8-sig", "surrogateescape"), newline="")
        rows += answer_of(lambda: list(imports.voucher_lines(bounded_lines(lines), format_))) or []
    for row in rows:
        if isinstance(row, str) and isinstance(code := check_voucher(row), str):
            assert SEALER.open(SEALER.seal(code)) == code
            assert len(voucher_hash(HASH_KEY, code)) == 32


# Campaigns ---------------------------------------------------------------------------------------------

CAMPAIGN = {
    "code": "certified-goods", "name": "n", "action": "purchase", "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z",
    "platforms": ["shop"], "segment": "consumer.tier == 'leaf'", "when": "line.certified && line.category in ['paper', 'soap']",
    "caps": {"order": 500, "consumer_day": 1000, "consumer_year": 20000, "consumer_total": None}, "priority": 100, "hold": "P14D",
    "budget": {"points": 1000000, "per_day": 50000}, "stacking": "exclusive:soap", "expires_after": "P12M",
}  # fmt: skip
AWARDS: list[dict[str, Any]] = [
    {"kind": "fixed", "points": 10}, {"kind": "per_unit", "points": 1},
    {"kind": "per_amount", "points": 1, "per": "1.00", "currency": "CNY", "rounding": "floor"},
    {"kind": "per_kg", "points": 5, "rounding": "floor"},
    {"kind": "tiered", "by": "amount", "currency": "CNY", "tiers": [{"from": "0", "points": 1}, {"from": "10", "points": 5}]},
    {"kind": "multiplier", "factor": "1.5", "of": ["other"]},
]  # fmt: skip


@fuzz
@given(body=bodies([CAMPAIGN | {"award": award} for award in AWARDS]))
def test_a_campaign_that_is_accepted_can_be_compiled(body: bytes) -> None:
    campaign = answer_of(lambda: http.decode(body, CampaignBody))
    if campaign is None:
        return
    try:
        check_campaign(campaign)
    except InvalidRequest:
        return
    kept = msgspec.json.encode(campaign)
    compile_campaign(1, "running", 1, None, kept.decode())
    assert msgspec.json.decode(kept, type=CampaignBody) == campaign


NESTS = (
    "line.schemes.exists(x, {})", "line.schemes.all(x, {})", "line.schemes.map(x, {}).size() > 0", "({})", "!({})", "({}) ? true : false",
    "[{0}, {0}][0]", "{{'a': {}}}['a']", "{} && true", "'a'.matches('{}')", "size([{}]) == 1",
)  # fmt: skip


@st.composite
def conditions(draw: st.DrawFn) -> str:
    """Nested comprehensions, long texts, deep brackets, pieces of all kinds."""
    source = draw(
        st.sampled_from(("true", "line.certified", "x == 'a'", "1", "'" + "a" * 3_000 + "'", "9" * 400 + " > 1", "line.sku == '\x00'"))
    )
    for _ in range(draw(st.integers(0, 8))):
        source = draw(st.sampled_from(NESTS)).format(source)
        if len(source) > 20_000:
            break
    if draw(st.booleans()):
        at = draw(st.integers(0, len(source)))
        source = source[:at] + draw(st.text(max_size=8)) + source[at:]
    return "(" * draw(st.sampled_from((0, 0, 0, 500))) + source


@fuzz
@given(source=conditions())
def test_a_condition_is_compiled_or_refused_and_then_true_or_false(source: str) -> None:
    try:
        condition = compile_condition("purchase", source)
    except InvalidCondition:
        return
    values = {"line.certified": True, "line.schemes": ["a"] * 100, "line.sku": "s" * 200, "line.quantity": 2.0}
    assert condition.evaluate(values) in (True, False)


# Callers -----------------------------------------------------------------------------------------------

PRIVATE, PUBLIC = tokens.development_key(b"p" * 32)
KEY = tokens.key_from_pem(PUBLIC, "EdDSA")
CLAIMS = {"iss": "shop", "sub": "c-1", "aud": "greenpoints", "iat": 1_000, "exp": 2_000, "nbf": 1_000, "scope": "balance:read redeem"}


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def signed(header: bytes, claims: bytes) -> str:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - only here

    text = f"{b64(header)}.{b64(claims)}"
    return f"{text}.{b64(load_pem_private_key(PRIVATE.encode(), None).sign(text.encode()))}"  # type: ignore[union-attr, call-arg]


def proved_by(token: str) -> tokens.Claims:
    """As service.api.callers does it."""
    tokens.read(token)
    return tokens.verify(token, key=KEY, issuer="shop", now=1_500.0)


@fuzz
@given(header=bodies([{"alg": "EdDSA", "typ": "JWT", "kid": "k"}]), claims=bodies([CLAIMS]))
@example(header=b'{"alg":"EdDSA"}', claims=b'{"iss":"shop","sub":"c","aud":"greenpoints","exp":1e999}')
@example(header=b'{"alg":"none"}', claims=encoded(CLAIMS))
def test_a_signed_token_is_verified_or_refused(header: bytes, claims: bytes) -> None:
    token = signed(header, claims)
    try:
        proved = proved_by(token)
    except TokenError:
        return
    assert proved.issuer == "shop"
    assert proved.expires_at > 1_500


@fuzz
@given(data=st.data())
def test_a_token_with_another_byte_does_not_verify(data: st.DataObject) -> None:
    token = signed(b'{"alg":"EdDSA","kid":"k"}', encoded(CLAIMS))
    assert proved_by(token).reference == "c-1"
    at = data.draw(st.integers(0, token.rindex(".") - 1))
    other = token[:at] + data.draw(st.sampled_from("Aa0-_.=~ é\x00").filter(lambda c: c != token[at])) + token[at + 1 :]
    with pytest.raises(TokenError):
        proved_by(other)


# Stations ----------------------------------------------------------------------------------------------

STATION = stations.Station(
    id=7, code="corner", platform=None, time_zone="Asia/Shanghai", hours=None, classes=None, max_units=None, max_mass_g=None,
    needs_proof=True, late_h=72, active=True, public_pem=PUBLIC,
)  # fmt: skip
PROOF = {"iss": "corner", "nbf": int(NOW.timestamp()), "exp": int(NOW.timestamp()) + 120, "jti": "n"}
ROW = {
    "id": "r-1", "occurred_at": NOW.isoformat(), "class": "circular_box", "asset": "a-1", "quantity": "2", "mass_g": 10, "waybill": "w",
    "platform": "shop", "consumer": "ada", "attendant": "mia",
}  # fmt: skip


@fuzz
@given(header=bodies([{"alg": "EdDSA", "typ": "station+jwt"}]), claims=bodies([PROOF]))
@example(header=b'{"alg":"none","typ":"station+jwt"}', claims=encoded(PROOF))
@example(header=b'{"alg":"EdDSA","typ":"station+jwt"}', claims=b'{"iss":"corner","nbf":0,"exp":99999999999,"jti":"n"}')
def test_a_stations_token_is_verified_or_refused(header: bytes, claims: bytes) -> None:
    try:
        proved = stations.verify_proof(signed(header, claims), STATION, at=NOW, now=NOW)
    except stations.ProofError:
        return
    assert proved.station == "corner"
    assert proved.valid_from - stations.LEEWAY <= NOW < proved.valid_until + stations.LEEWAY


@fuzz
@given(data=st.data())
def test_a_stations_token_with_another_byte_does_not_verify(data: st.DataObject) -> None:
    text = signed(b'{"alg":"EdDSA","typ":"station+jwt"}', encoded(PROOF))
    assert stations.verify_proof(text, STATION, at=NOW, now=NOW).nonce == "n"
    at = data.draw(st.integers(0, text.rindex(".") - 1))
    other = text[:at] + data.draw(st.sampled_from("Aa0-_.=~ é\x00").filter(lambda c: c != text[at])) + text[at + 1 :]
    with pytest.raises(stations.ProofError):
        stations.verify_proof(other, STATION, at=NOW, now=NOW)


@fuzz
@given(body=bodies([[ROW] * 2, [ROW | {"consumer": None, "consumer_token": "a.b.c"}], ROW, [[]]]))
def test_a_stations_returns_are_read_row_by_row(body: bytes) -> None:
    key = stations.signing_key(PRIVATE)
    for raw in answer_of(lambda: station_returns.split_rows(body)) or []:
        row = answer_of(lambda raw=raw: station_returns.read_row(raw))  # type: ignore[misc]
        if row is None or row.occurred_at > NOW + MAX_AHEAD:
            continue
        event = station_returns.event_of(row, station="corner", key=key, consumer=row.consumer)
        assert event == station_returns.event_of(row, station="corner", key=key, consumer=row.consumer)
        fact = answer_of(lambda event=event: fact_of(event, SENDER, now=NOW, hash_key=HASH_KEY))  # type: ignore[misc]
        if fact is not None:
            proof = msgspec.json.decode(fact.facts, type=Event).returns[0].proof
            assert stations.verify_proof(proof, STATION, at=row.occurred_at, now=row.occurred_at).nonce == f"r:{row.id}"


@fuzz
@given(token=st.text(max_size=300) | st.lists(st.binary(max_size=60).map(b64), max_size=4).map(".".join))
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(TokenError):
        proved_by(token)


@fuzz
@given(header=st.none() | st.text() | st.text().map("Bearer {}".format) | st.just("Bearer " + "x" * 100_000))
def test_an_authorization_header_is_read_or_refused(header: str | None) -> None:
    token = answer_of(lambda: _bearer(header))
    assert token is None or (header or "").endswith(token)


# Requests ----------------------------------------------------------------------------------------------


class Received:
    """An Exchange of one body."""

    def __init__(self, headers: list[tuple[bytes, bytes]], query: bytes = b"") -> None:
        self.scope = {"headers": headers, "query_string": query}

    def exchange(self) -> Any:
        return Exchange(None, self.scope, None)  # type: ignore[arg-type]


@fuzz
@given(
    query=st.binary(max_size=200) | st.text(max_size=60).map(lambda t: f"min_version={t}&dry_run={t}&as_of={t}".encode("utf-8", "replace"))
)
@example(query=b"min_version=" + b"9" * 5_000)
@example(query=b"dry_run=true&" * 1_000)
@example(query=b"min_version=%ED%A0%80")
def test_a_query_is_read_or_refused(query: bytes) -> None:
    for type_ in (Freshness, TryOut):
        answer_of(lambda type_=type_: http.read_query(Received([], query).exchange(), type_))  # type: ignore[misc]


@fuzz
@given(position=st.integers(0, 2**63 - 1) | st.text(st.characters(blacklist_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=64))
def test_a_cursor_leads_back_to_its_position_and_says_nothing_of_it(position: int | str) -> None:
    cursor = encode_cursor(position)
    assert read_cursor(cursor, Position | Name, 0) == position  # type: ignore[arg-type]
    raw = base64.urlsafe_b64decode(cursor + "==")
    assert len(raw) % 12 == 0
    plain = msgspec.json.encode(position)
    assert len(plain) < 5 or plain not in raw  # a byte or two stand in any ciphertext by chance
    for at in (0, len(raw) // 2, len(raw) - 1):
        other = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        with pytest.raises(InvalidRequest):
            read_cursor(b64(other), Position | Name, 0)  # type: ignore[arg-type]


@fuzz
@given(cursor=st.text(max_size=100) | st.binary(max_size=60).map(b64) | documents([1, "a", [1], {}]).map(encoded).map(b64))
@example(cursor=b64(b"9" * 5_000))
def test_a_cursor_is_read_or_refused(cursor: str) -> None:
    number = answer_of(lambda: read_cursor(cursor, Position, 0))
    assert number is None or 0 <= number < 2**63
    answer_of(lambda: read_cursor(cursor, Name, ""))


@fuzz
@given(text=st.text() | st.text(alphabet="%0123456789abcdefABCDEF/:"))
def test_a_reference_in_a_path_is_read_or_not_found(text: str) -> None:
    found = answer_of(lambda: reference(text))
    assert found is None or found.encode("utf-8")


@fuzz
@given(text=st.text() | st.text(alphabet="0123456789 -()/:.") | st.from_regex(r"(\(01\)|01|https://id\.gs1\.org/01/)[0-9]{0,20}"))
def test_a_gtin_is_read_or_refused(text: str) -> None:
    try:
        found = normalise_gtin(text)
    except ValueError:
        return
    assert len(found) == 14
    assert normalise_gtin(found) == found


@pytest.mark.parametrize("name", [b"content-length", b"content-encoding", b"content-type"])
@fuzz
@given(value=st.binary(max_size=60) | st.integers(0, 10**9).map(lambda n: str(n).encode()) | st.just(b"9" * 5_000))
@example(value=b"9" * 5_000)
async def test_a_header_of_a_body_is_read_or_refused(name: bytes, value: bytes) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    exchange = Exchange(None, {"headers": [(name, value)]}, receive)  # type: ignore[arg-type, typeddict-item]
    try:
        http.require_json(http.raw_headers(exchange).get(b"content-type"))
        assert await http.read_body(exchange, 1_000) == b"{}"
    except GreenpointsError:
        pass


# Spending ----------------------------------------------------------------------------------------------

REDEMPTIONS = [
    {"consumer": "c", "points": 5, "reference": "r", "reward": None, "cause": None, "capture": False, "ttl": "PT15M"},
    {"points": 10**15, "cause": "trees", "ttl": "P31D"}, {"points": 1, "reward": "cup", "capture": True},
]  # fmt: skip


@fuzz
@given(body=bodies(REDEMPTIONS), type_=st.sampled_from((RedemptionBody, OwnRedemptionBody, CaptureBody, RefundBody)))
@example(body=b'{"points": 1e400}', type_=RefundBody)
def test_a_redemption_is_read_or_refused(body: bytes, type_: Any) -> None:
    found = answer_of(lambda: http.decode(body, type_))
    if found is not None and found.points is not msgspec.UNSET:
        assert type(found.points) is int
        assert 0 < found.points <= 10**15


@fuzz
@given(text=st.text() | st.from_regex(r"P[0-9]{0,28}[WDMY]?(T[0-9]{0,28}[HMS])?", fullmatch=True))
@example(text="P" + "9" * 29 + "W")
@example(text="PT" + "9" * 29 + "S")
def test_a_time_to_live_is_bounded_or_refused(text: str) -> None:
    found = answer_of(lambda: _ttl(text))
    assert found is None or 1 <= found.total_seconds() <= 31 * 86_400


@fuzz
@given(text=st.text(max_size=200) | st.text(alphabet='"\\ a', max_size=12) | st.none())
def test_an_idempotency_key_is_read_or_refused(text: str | None) -> None:
    """Sent in quotes, as RFC 8941 writes a string, it is the same key."""
    key = answer_of(lambda: idempotency.read_key(text))
    if key is None:
        return
    assert 1 <= len(key) <= 128
    assert key.isascii()
    assert key.isprintable()
    quoted = key.replace("\\", "\\\\").replace('"', '\\"')
    if key.strip(' "'):
        assert idempotency.read_key(f'"{quoted}"') == key


@fuzz
@given(text=st.text())
def test_a_link_code_is_what_it_is_however_it_is_typed(text: str) -> None:
    assert len(links.hash_of(1, text)) == 32
    code = links.new_code()
    typed = code.lower().replace("-", " ").replace("0", "O").replace("1", "l")
    assert links.hash_of(1, typed) == links.hash_of(1, code) != links.hash_of(2, code)
