"""Standard Webhooks in: signatures against the published vectors and the `standardwebhooks` package, then the event inside."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from schemas.events import Line, Order, OrderPaid
from service.domain.connectors import BadSignature, Hook, Translated, Untranslatable, translate, verify
from service.domain.connectors.standard import secret_key
from service.domain.errors import Unauthenticated

VECTORS = Path(__file__).parents[3] / ".." / "shared" / "fixtures" / "standard-webhooks"
NOW = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
OLD = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
EVENT: dict[str, Any] = {
    "id": "1001:paid",
    "type": "order.paid",
    "occurred_at": "2026-11-22T09:00:00+08:00",
    "consumer": "cust-42",
    "order": {"id": "1001", "currency": "CNY", "total": "128.00"},
    "lines": [{"id": "1", "sku": "TP-01", "quantity": "2", "unit_price": "39.00"}],
}


def hook(*secrets: str) -> Hook:
    return Hook(id="h", connector="standard", secrets=secrets)


def body_of(data: object, kind: str = "order.paid") -> bytes:
    return json.dumps({"type": kind, "timestamp": "2026-11-22T01:00:00Z", "data": data}).encode()


def signed(body: bytes, secret: str = NEW, at: datetime = NOW, message_id: str = "msg_1") -> dict[str, str]:
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body.decode()),
    }


BODY = body_of(EVENT)


@pytest.mark.parametrize("secret", [NEW, OLD, NEW.removeprefix("whsec_"), OLD.rstrip("=")])
def test_any_of_the_secrets_may_have_signed(secret: str) -> None:
    assert verify(hook(NEW, OLD), signed(BODY, secret), BODY, NOW) is None


@pytest.mark.parametrize("stored", [NEW, NEW.rstrip("="), NEW.removeprefix("whsec_"), NEW.removeprefix("whsec_").rstrip("=")])
def test_a_secret_is_stored_with_or_without_prefix_and_padding(stored: str) -> None:
    assert verify(hook(stored), signed(BODY), BODY, NOW) is None


@pytest.mark.parametrize("off_s", [-300, -1, 0, 1, 300])
def test_five_minutes_either_way_are_tolerated(off_s: int) -> None:
    assert verify(hook(NEW), signed(BODY, at=NOW + timedelta(seconds=off_s)), BODY, NOW) is None


@pytest.mark.parametrize(("off_s", "message"), [(-301, "5 minutes old"), (301, "in the future"), (-86_400, "old"), (86_400, "future")])
def test_a_replayed_or_postdated_delivery_is_refused(off_s: int, message: str) -> None:
    with pytest.raises(BadSignature, match=message):
        verify(hook(NEW), signed(BODY, at=NOW + timedelta(seconds=off_s)), BODY, NOW)


def test_a_new_timestamp_on_an_old_signature_is_refused() -> None:
    headers = signed(BODY, at=NOW - timedelta(hours=1)) | {"webhook-timestamp": str(int(NOW.timestamp()))}
    with pytest.raises(BadSignature, match="no signature fits"):
        verify(hook(NEW), headers, BODY, NOW)


def test_each_signed_part_counts() -> None:
    headers = signed(BODY)
    with pytest.raises(BadSignature):
        verify(hook(NEW), headers, BODY.replace(b'"2"', b'"9"'), NOW)
    with pytest.raises(BadSignature):
        verify(hook(NEW), headers, BODY + b" ", NOW)
    with pytest.raises(BadSignature):
        verify(hook(NEW), headers | {"webhook-id": "msg_2"}, BODY, NOW)
    with pytest.raises(BadSignature):
        verify(hook(OLD), headers, BODY, NOW)
    with pytest.raises(Unauthenticated):
        verify(hook(), headers, BODY, NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "   "])
def test_every_header_is_required(name: str, value: str | None) -> None:
    headers = {key: text for key, text in signed(BODY).items() if key != name} | ({} if value is None else {name: value})
    with pytest.raises(BadSignature, match="required"):
        verify(hook(NEW), headers, BODY, NOW)


@pytest.mark.parametrize(
    "timestamp", ["nan", "inf", "-1", "+1", "1.5", "1e9", "1_0", "²", "٣", "9" * 12, "9" * 5_000, "2026-11-22T01:00:00Z"]
)
def test_a_timestamp_is_whole_seconds(timestamp: str) -> None:
    with pytest.raises(BadSignature):
        verify(hook(NEW), signed(BODY) | {"webhook-timestamp": timestamp}, BODY, NOW)


def test_one_fitting_signature_of_several_is_enough() -> None:
    headers = signed(BODY)
    good = headers["webhook-signature"]
    headers["webhook-signature"] = f"v1,AAAA v1a,{good[3:]} junk , v2,x {good}"
    assert verify(hook(NEW), headers, BODY, NOW) is None


@pytest.mark.parametrize("version", ["v1a", "v2", "v0", "", "V1"])
def test_only_version_1_counts(version: str) -> None:
    headers = signed(BODY)
    headers["webhook-signature"] = version + headers["webhook-signature"].removeprefix("v1")
    with pytest.raises(BadSignature):
        verify(hook(NEW), headers, BODY, NOW)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "whsec_%",
        "whsec_wronglength",
        "hwsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "é",
        "====",
        "whsec_A",
        "whsec_!!!!" + NEW[6:],
    ],
)
def test_an_unusable_secret_lets_nobody_in(secret: str) -> None:
    assert secret_key(secret) is None
    empty = base64.b64encode(hmac.digest(b"", f"msg_1.{int(NOW.timestamp())}.".encode() + BODY, "sha256")).decode()
    with pytest.raises(BadSignature):
        verify(hook(secret), signed(BODY) | {"webhook-signature": "v1," + empty}, BODY, NOW)


@given(
    headers=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text(st.characters(), max_size=40)
    ),
    body=st.binary(max_size=40),
)
@settings(max_examples=30, deadline=None)
def test_whatever_the_headers_say_only_bad_signature_is_raised(headers: dict[str, str], body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(hook(NEW), headers | {"webhook-timestamp": str(int(NOW.timestamp()))}, body, NOW)
    with pytest.raises(BadSignature):
        verify(hook(NEW), headers, body, NOW)


def test_the_event_inside_is_translated() -> None:
    assert translate(hook(NEW), signed(BODY), BODY) == Translated(
        topic="order.paid",
        delivery_id="msg_1",
        ignored=None,
        events=[
            OrderPaid(
                id="1001:paid",
                occurred_at=datetime(2026, 11, 22, 1, 0, tzinfo=UTC),
                consumer="cust-42",
                order=Order(id="1001", currency="CNY", total="128.00"),
                lines=[Line(id="1", sku="TP-01", quantity="2", unit_price="39.00")],
            )
        ],
    )


def test_another_type_is_ignored() -> None:
    translated = translate(hook(NEW), {}, body_of({"anything": 1}, kind="contact.created"))
    assert (translated.events, translated.topic, translated.delivery_id) == ([], "contact.created", None)
    assert translated.ignored is not None
    assert "order.paid" in translated.ignored
    for kind in ("", "a\u0000b", "x" * 200):
        assert translate(hook(NEW), {"webhook-id": "\udcff"}, body_of({}, kind=kind)).topic == "unprintable"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"type": "order.paid", "data": {"type": "order.paid", "id": "\xff"}}', "not JSON"),
        (b'{"type": "order.paid", "data": NaN}', "not JSON"),
        (b'{"type": "order.paid", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deeply"),
        (b"[]", "object"),
        (b'{"type": "order.paid"}', "data"),
        (b'{"data": {}}', "type"),
        (b'{"type": "order.paid", "data": []}', "object"),
        (b'{"type": "order.paid", "data": {}}', "type"),
        (body_of(EVENT, kind="order.cancelled"), "differ"),
        (body_of(EVENT | {"type": "someone@example.com"}), "differ"),
        (body_of(EVENT | {"occurred_at": "2026-11-22T09:00:00"}), r"\$\.occurred_at"),
        (body_of(EVENT | {"order": {"id": 1}}), r"\$\.order\.id"),
        (body_of(EVENT | {"lines": [{"id": "1", "quantity": 1.5}]}), r"\$\.lines\[0\]\.quantity"),
    ],
)
def test_what_cannot_be_read_says_where_without_quoting_it(body: bytes, message: str) -> None:
    with pytest.raises(Untranslatable, match=message) as caught:
        translate(hook(NEW), {}, body)
    assert "someone" not in caught.value.detail


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(changes=st.dictionaries(st.sampled_from([*EVENT, "packaging", "refund", "returns", "attributes", "evidence"]), ANY_JSON, max_size=3))
@settings(max_examples=30, deadline=None)
def test_any_event_is_translated_or_untranslatable(changes: dict[str, Any]) -> None:
    try:
        translated = translate(hook(NEW), {}, body_of(EVENT | changes))
    except Untranslatable:
        return
    assert len(translated.events) == 1


def test_the_published_vectors() -> None:
    path = VECTORS / "vectors-1.json"
    if not path.exists():
        pytest.skip("the shared fixtures are not here")
    judged = 0
    for vector in json.loads(path.read_text())["vectors"]:
        if "now_for_test" not in vector or "secret" not in vector:
            continue
        headers = {name: vector[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}
        now = datetime.fromtimestamp(vector["now_for_test"], UTC)
        try:
            verify(hook(vector["secret"]), headers, vector["body"].encode(), now)
            valid = True
        except BadSignature:
            valid = False
        assert valid is vector["valid"], vector["name"]
        judged += 1
    assert judged == 7


def test_the_published_secrets() -> None:
    path = VECTORS / "vectors-1.json"
    if not path.exists():
        pytest.skip("the shared fixtures are not here")
    vectors = json.loads(path.read_text())["vectors"]
    unpadded = next(vector for vector in vectors if "equivalent_secret" in vector)
    assert secret_key(unpadded["secret"]) == secret_key(unpadded["equivalent_secret"]) is not None
    for secret in next(vector for vector in vectors if "rejected" in vector)["rejected"]:
        assert secret_key(secret) is None, secret


def test_the_example_of_the_specification_is_of_no_type_of_ours() -> None:
    path = VECTORS / "spec-example-1.json"
    if not path.exists():
        pytest.skip("the shared fixtures are not here")
    example = json.loads(path.read_text())
    translated = translate(hook(NEW), example["headers"], example["body"].encode())
    assert (translated.topic, translated.delivery_id, translated.events) == ("contact.created", "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", [])
