"""EPCIS 2.0 in: who signed, what events become, under which ids. The events are ours, after the shapes of GS1's examples."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from schemas.connectors import HookSettings
from schemas.events import Declaration, Event, EventErrorDeclared, Order, OrderFulfilled, Packaging, PackagingReturned, Return
from service.domain.connectors import Association, BadSignature, Hook, Translated, Untranslatable, translate, verify

NOW = datetime(2026, 11, 22, 1, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"e" * 24).decode()
CONTEXT = ["https://ref.gs1.org/standards/epcis/2.0.0/epcis-context.jsonld", {"example": "https://ns.example.com/epcis/"}]
BOX, OTHER = "urn:epc:id:grai:4012345.55555.987", "urn:epc:id:giai:4012345.ABC"
ID = "urn:uuid:374d95fc-9457-4a51-bd6a-0bba133845a8"
SHIPPED: dict[str, Any] = {
    "type": "ObjectEvent", "eventID": ID, "eventTime": "2026-11-20T09:30:00+08:00", "eventTimeZoneOffset": "+08:00", "action": "OBSERVE",
    "bizStep": "shipping", "disposition": "in_transit", "epcList": [BOX, OTHER],
    "readPoint": {"id": "urn:epc:id:sgln:4012345.00005.0"},
    "bizTransactionList": [{"type": "po", "bizTransaction": "urn:epcglobal:cbv:bt:4012345000009:1001"}],
}  # fmt: skip
RETURNED: dict[str, Any] = {
    "type": "ObjectEvent", "eventID": "urn:uuid:1c4d95fc-9457-4a51-bd6a-0bba133845a8", "eventTime": "2026-11-22T00:30:00Z",
    "action": "OBSERVE", "bizStep": "collecting", "disposition": "returned", "epcList": [BOX],
}  # fmt: skip
WRONG = {"declarationTime": "2026-11-22T00:45:00Z", "reason": "did_not_occur", "correctiveEventIDs": ["urn:example:event:2"]}
TAGGED: dict[str, Any] = {
    "type": "AssociationEvent", "eventID": "urn:example:event:1", "eventTime": "2026-11-01T00:00:00Z", "action": "ADD", "parentID": BOX,
    "childEPCs": ["urn:epc:id:giai:4000001.12345"],
}  # fmt: skip


def hook(*secrets: str, **chosen: Any) -> Hook:
    return Hook(id="h", connector="epcis", secrets=secrets, settings=msgspec.convert(chosen, HookSettings))


def document(*events: Any) -> dict[str, Any]:
    return {
        "@context": CONTEXT, "type": "EPCISDocument", "schemaVersion": "2.0", "creationDate": "2026-11-22T00:00:00Z",
        "epcisBody": {"eventList": list(events)},
    }  # fmt: skip


def told(body: Any, **chosen: Any) -> Translated:
    return translate(hook(**chosen), {}, json.dumps(body).encode())


def made(event: Any, **chosen: Any) -> list[Event]:
    return told(document(event), **chosen).events


# Signatures -------------------------------------------------------------------------------------------

BODY = json.dumps(document(SHIPPED)).encode()


def gs1(secret: str, body: bytes = BODY, *, as_hex: bool = False) -> dict[str, str]:
    digest = hmac.digest(secret.encode(), body, hashlib.sha256)
    return {"gs1-signature": digest.hex() if as_hex else base64.b64encode(digest).decode()}


@pytest.mark.parametrize("secret", [SECRET, "13df38d8275b13f05704629e5f1cf3d45d6132d5"])
@pytest.mark.parametrize("as_hex", [False, True])
def test_a_repository_signs_with_the_token_of_its_subscription(secret: str, *, as_hex: bool) -> None:
    assert verify(hook("another-secret-of-it", secret), gs1(secret, as_hex=as_hex), BODY, NOW) is None


def test_standard_webhooks_sign_as_well() -> None:
    headers = {
        "webhook-id": "m", "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": Webhook(SECRET).sign("m", NOW, BODY.decode()),
    }  # fmt: skip
    assert verify(hook(SECRET), headers, BODY, NOW) is None
    with pytest.raises(BadSignature):
        verify(hook(SECRET), headers, BODY + b" ", NOW)
    with pytest.raises(BadSignature):  # a time that has passed is not mended by a second header
        verify(hook(SECRET), headers | {"webhook-timestamp": "1"} | gs1(SECRET), BODY, NOW)


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"gs1-signature": ""}, {"gs1-signature": SECRET}, {"gs1-signature": "é"}, {"gs1-signature": "00" * 32}, gs1("another"),
        gs1(SECRET, BODY + b" "), gs1(""), {"gs1-signature": gs1(SECRET, as_hex=True)["gs1-signature"][:-2]},
    ],
)  # fmt: skip
def test_anything_else_proves_nothing(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(hook(SECRET), headers, BODY, NOW)
    with pytest.raises(BadSignature):
        verify(hook(""), headers, BODY, NOW)


# What events become -----------------------------------------------------------------------------------


def test_boxes_that_are_shipped_fulfil_their_order() -> None:
    assert told(document(SHIPPED)) == Translated(
        topic="EPCISDocument", delivery_id=None, separate=True, tagged=True,
        events=[
            OrderFulfilled(
                id=ID, occurred_at=datetime(2026, 11, 20, 1, 30, tzinfo=UTC), order=Order(id="1001"),
                packaging=Packaging(assets=["04012345555554987", "giai:4012345ABC"]),
            )
        ],
    )  # fmt: skip


def test_each_box_that_comes_back_is_an_event_of_its_own() -> None:
    one = PackagingReturned(
        id="urn:uuid:1c4d95fc-9457-4a51-bd6a-0bba133845a8", occurred_at=datetime(2026, 11, 22, 0, 30, tzinfo=UTC),
        returns=[Return(asset="04012345555554987")],
    )  # fmt: skip
    assert made(RETURNED) == [one]
    assert [(event.id, event.returns[0].asset) for event in made(RETURNED | {"epcList": [OTHER, BOX, BOX]})] == [  # type: ignore[union-attr]
        (f"{one.id}#04012345555554987", "04012345555554987"),
        (f"{one.id}#giai:4012345ABC", "giai:4012345ABC"),
    ]


@pytest.mark.parametrize(
    ("step", "disposition", "type_"),
    [
        ("shipping", "in_transit", "order.fulfilled"), ("shipping", None, "order.fulfilled"), ("shipping", "returned", None),
        ("collecting", "returned", "packaging.returned"), ("collecting", None, "packaging.returned"), ("collecting", "in_transit", None),
        ("receiving", "returned", "packaging.returned"), ("accepting", "returned", "packaging.returned"), ("receiving", "in_progress", None),
        ("receiving", None, None), ("inspecting", "available", None), ("void_shipping", None, None), (None, "returned", None),
        ("https://example.com/steps/shipping", None, None),
    ],
)  # fmt: skip
def test_the_step_and_the_disposition_decide(step: str | None, disposition: str | None, type_: str | None) -> None:
    told_ = told(document(SHIPPED | {"bizStep": step, "disposition": disposition, "epcList": [BOX]}))
    assert [event.TYPE for event in told_.events] == ([] if type_ is None else [type_])
    assert told_.unread == ()
    assert (told_.ignored is None) is (type_ is not None)


@pytest.mark.parametrize("event", [SHIPPED, RETURNED])
@pytest.mark.parametrize(("action", "counts"), [("OBSERVE", True), ("ADD", True), ("DELETE", False)])
def test_what_is_taken_out_of_use_is_neither_shipped_nor_returned(event: dict[str, Any], action: str, *, counts: bool) -> None:
    assert bool(made(event | {"action": action})) is counts


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"epcList": ["urn:epc:id:sgtin:4012345.011111.1"]}, "no reusable packaging"),
        ({"epcList": ["https://id.gs1.org/8003/04012345555555987"]}, "no reusable packaging"),
        ({"epcList": [], "quantityList": [{"epcClass": "urn:epc:idpat:grai:4012345.55555.*", "quantity": 2}]}, "no reusable packaging"),
        ({"bizTransactionList": []}, "nothing of an order"),
        ({"type": "TransformationEvent"}, "only ObjectEvent and AssociationEvent"),
        ({"type": "https://example.com/Own"}, "only ObjectEvent and AssociationEvent"),
    ],
)
def test_what_does_not_matter_is_ignored_with_its_reason(changes: dict[str, Any], why: str) -> None:
    told_ = told(document(SHIPPED | changes))
    assert told_.events == []
    assert why in str(told_.ignored)


def test_an_empty_answer_to_a_query_has_no_events() -> None:
    body = document() | {"type": "EPCISQueryDocument", "epcisBody": {"queryResults": {"resultsBody": {"eventList": []}}}}
    assert told(body).ignored == "it has no events"


# Orders and stations ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("transaction", "order"),
    [
        ("urn:epcglobal:cbv:bt:4012345000009:1001", "1001"), ("urn:epcglobal:cbv:bt:4012345000009:a:b%2Fc", "a:b/c"),
        ("http://transaction.example.com/po/1001", "1001"), ("https://shop.example.com/orders/%E8%8C%B6/?x=1#y", "茶"), ("1001", "1001"),
        (" 1001 ", "1001"), ("urn:example:order:1001", "1001"), ("urn:epc:id:gdti:4012345.00009.1001", "40123450000921001"),
        ("https://id.gs1.org/253/40123450000921001", "40123450000921001"),
    ],
)  # fmt: skip
def test_the_order_is_the_last_part_of_its_business_transaction(transaction: str, order: str) -> None:
    (event,) = made(SHIPPED | {"bizTransactionList": [{"type": "po", "bizTransaction": transaction}]})
    assert event.order_id == order


def test_the_first_type_that_is_there_names_the_order_unless_the_hook_chooses_one() -> None:
    named = [{"type": type_, "bizTransaction": f"urn:epcglobal:cbv:bt:1:{type_[-3:]}"} for type_ in ("bol", "inv", "cbv:BTT-desadv", "po")]
    orders = [{"bizTransactionList": named[:n]} for n in (2, 3, 4)]
    assert [made(SHIPPED | each)[0].order_id for each in orders] == ["inv", "adv", "po"]
    assert made(SHIPPED | orders[2], order_transaction_type="bol")[0].order_id == "bol"
    assert made(SHIPPED | {"bizTransactionList": [{"bizTransaction": "7"}]})[0].order_id == "7"


@pytest.mark.parametrize(
    ("named", "chosen", "why"),
    [
        ([("bol", "1")], {}, "has the type po, desadv, inv"), ([("po", "1")], {"order_transaction_type": "bol"}, "has the type bol"),
        ([("po", "1"), ("po", "2")], {}, "more than one order"), ([("po", "urn:epcglobal:cbv:bt:1:" + "x" * 129)], {}, "128 characters"),
        ([("po", "https://example.com/a%0Ab")], {}, "printable"),
    ],
)  # fmt: skip
def test_a_shipment_whose_order_is_not_clear_is_kept(named: list[tuple[str, str]], chosen: Any, why: str) -> None:
    with pytest.raises(Untranslatable, match=why):
        made(SHIPPED | {"bizTransactionList": [{"type": type_, "bizTransaction": text} for type_, text in named]}, **chosen)


def test_one_order_in_two_forms_is_one() -> None:
    named = [{"type": "po", "bizTransaction": text} for text in ("1001", "https://example.com/po/1001")]
    assert made(SHIPPED | {"bizTransactionList": named})[0].order_id == "1001"


@pytest.mark.parametrize(
    "place",
    [
        {"readPoint": {"id": "urn:epc:id:sgln:4012345.00005.7"}},
        {"readPoint": {"id": "https://example.com/gln/4012345000054/254/7"}},
        {"bizLocation": {"id": "https://id.gs1.org/414/4012345000054/254/7"}},
        {"readPoint": {"id": "https://example.com/x"}, "bizLocation": {"id": "urn:epc:id:sgln:4012345.00005.7"}},
    ],
)
def test_the_station_is_where_the_settings_say(place: dict[str, Any]) -> None:
    stations = [{"location": "https://id.gs1.org/414/4012345000054/254/7", "station": "north-gate"}]
    (event,) = made(RETURNED | place, stations=stations)
    assert isinstance(event, PackagingReturned)
    assert event.returns[0].station == "north-gate"
    (event,) = made(RETURNED | place)
    assert isinstance(event, PackagingReturned)
    assert event.returns[0].station is None


# What was wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [SHIPPED, RETURNED, RETURNED | {"epcList": [BOX, OTHER]}, {**RETURNED, "eventID": None}])
def test_a_declaration_takes_back_each_event_that_the_original_made(event: dict[str, Any]) -> None:
    originals = made(event)
    assert made(event | {"errorDeclaration": WRONG}) == [
        EventErrorDeclared(
            id=f"{original.id}:error", occurred_at=datetime(2026, 11, 22, 0, 45, tzinfo=UTC),
            error=Declaration(event=original.id, reason="did_not_occur", corrected_by=["urn:example:event:2"]),
        )
        for original in originals
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "read"),
    [
        ("did_not_occur", "did_not_occur"), ("cbv:ER-did_not_occur", "did_not_occur"),
        ("https://ref.gs1.org/cbv/ER-did_not_occur", "did_not_occur"), ("urn:epcglobal:cbv:er:did_not_occur", "did_not_occur"),
        ("incorrect_data", "incorrect_data"), ("https://example.com/reasons/scanner", "incorrect_data"), (None, "incorrect_data"),
    ],
)  # fmt: skip
def test_a_reason_is_one_of_two(reason: str | None, read: str) -> None:
    (event,) = made(SHIPPED | {"errorDeclaration": {"declarationTime": "2026-11-22T00:45:00Z", "reason": reason}})
    assert isinstance(event, EventErrorDeclared)
    assert event.error == Declaration(event=ID, reason=read, corrected_by=[])  # type: ignore[arg-type]


def test_what_corrects_an_event_is_another_one() -> None:
    corrective = [ID.upper(), "urn:example:event:2", "urn:example:event:2", "URN:EXAMPLE:event:2", "x" * 200]
    (event,) = made(SHIPPED | {"errorDeclaration": WRONG | {"correctiveEventIDs": corrective}})
    assert isinstance(event, EventErrorDeclared)
    first, long = event.error.corrected_by
    assert first == "urn:example:event:2"
    assert long.startswith("ni:///sha-256;")


# Tags -------------------------------------------------------------------------------------------------


def test_a_tag_on_a_box_is_an_association() -> None:
    told_ = told(document(TAGGED))
    assert told_.events == []
    put_on = Association(
        event="urn:example:event:1", asset="04012345555554987", tag="giai:400000112345", at=datetime(2026, 11, 1, tzinfo=UTC), joined=True
    )
    assert told_.associations == (put_on,)
    taken_off = msgspec.structs.replace(put_on, joined=False)
    assert told(document(TAGGED | {"action": "DELETE"})).associations == (taken_off,)
    everything = {key: value for key, value in TAGGED.items() if key != "childEPCs"} | {"action": "DELETE"}
    assert told(document(everything)).associations == (msgspec.structs.replace(taken_off, tag=None),)
    assert told(document(TAGGED | {"errorDeclaration": WRONG})).associations == (msgspec.structs.replace(put_on, void=True),)


@pytest.mark.parametrize(
    "changes",
    [
        {"parentID": None}, {"parentID": "urn:epc:id:sgln:4012345.00005.0"}, {"childEPCs": []}, {"childEPCs": [BOX]}, {"action": "OBSERVE"},
        {"childEPCs": ["urn:epc:id:sgtin:4012345.011111.1"], "action": "DELETE"}, {"childEPCs": [], "action": "DELETE"},
    ],
)  # fmt: skip
def test_other_associations_are_ignored(changes: dict[str, Any]) -> None:
    told_ = told(document(TAGGED | changes))
    assert (told_.events, told_.associations, told_.unread) == ([], (), ())
    assert told_.ignored


# Ids --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ID, "URN:UUID:374D95FC-9457-4A51-BD6A-0BBA133845A8"), (ID, " 374d95fc-9457-4a51-bd6a-0bba133845a8 "),
        ("ni:///sha-256;" + "ab" * 32 + "?ver=CBV2.0", "NI:///SHA-256;" + "AB" * 32 + "?VER=cbv2.0"),
        ("https://events.example.com/Aa/1", "HTTPS://Events.Example.com/Aa/1"), ("urn:example:Event:1", "URN:Example:Event:1"),
    ],
)  # fmt: skip
def test_an_id_in_another_form_is_the_same(one: str, other: str) -> None:
    assert made(SHIPPED | {"eventID": one})[0].id == made(SHIPPED | {"eventID": other})[0].id


def test_other_ids_stay_different_however_long() -> None:
    texts = ["urn:example:Event:1", "urn:example:event:1", "x" * 128, "x" * 129, "x" * 130, "y" * 129, "https://e.com/A", "https://e.com/a"]
    ids = [event.id for text in texts for event in made(RETURNED | {"eventID": text, "epcList": [BOX, OTHER]})]
    ids += [made(SHIPPED | {"eventID": text})[0].id for text in texts]
    assert len(set(ids)) == 3 * len(texts)
    assert all(len(each) <= 128 for each in ids)


def test_without_an_id_the_hash_is_the_id() -> None:
    (event,) = made({key: value for key, value in SHIPPED.items() if key != "eventID"} | {"epcList": [BOX]})
    assert event.id == "ni:///sha-256;5343d057a5b48aad8765b7a2a6c862ec7df692392558adf940d43d0aa9ed41f3?ver=CBV2.0"


# Forms of a body --------------------------------------------------------------------------------------


def expanded(event: Any) -> Any:
    """The same event as JSON-LD with prefixes, references and values."""
    fields = {
        "eventTime",
        "action",
        "bizStep",
        "disposition",
        "epcList",
        "eventID",
        "bizTransactionList",
        "readPoint",
        "parentID",
        "childEPCs",
    }
    made_: dict[str, Any] = {}
    for name, value in event.items():
        if name == "type":
            made_["@type"] = "https://ref.gs1.org/epcis/" + value
        elif name == "bizStep":
            made_["https://ref.gs1.org/epcis/bizStep"] = {"@id": "cbv:BizStep-" + value}
        elif name == "disposition":
            made_["epcis:disposition"] = "urn:epcglobal:cbv:disp:" + value
        elif name == "eventTime":
            made_["epcis:eventTime"] = {"@type": "xsd:dateTimeStamp", "@value": value}
        elif name == "epcList":
            made_["epcis:epcList"] = [{"@id": epc} for epc in value] if len(value) > 1 else {"@id": value[0]}
        elif name == "bizTransactionList":
            made_[name] = [{"@type": "cbv:BTT-" + each["type"], "epcis:bizTransaction": {"id": each["bizTransaction"]}} for each in value]
        else:
            made_["epcis:" + name if name in fields else name] = value
    return made_


@pytest.mark.parametrize("event", [SHIPPED, RETURNED, SHIPPED | {"eventID": None}, SHIPPED | {"errorDeclaration": WRONG}])
def test_every_form_says_the_same(event: dict[str, Any]) -> None:
    event = {key: value for key, value in event.items() if value is not None}
    events = made(event)
    assert events
    draft = {key: value for key, value in event.items() if key != "type"} | {"isA": event["type"]}
    bodies = [
        event, [event], expanded(event), document(expanded(event)), draft, document() | {"epcisBody": {"event": event}},
        document() | {"epcisBody": {"eventList": event}}, document(event | {"@context": CONTEXT}),
        {key: value for key, value in document(event).items() if key not in ("@context", "type")} | {"@type": "EPCISDocument"},
        document(event) | {"@context": CONTEXT[0]}, document(event) | {"@context": {"own": "https://ref.gs1.org/epcis/"}},
        document() | {"type": "EPCISQueryDocument", "epcisBody": {"queryResults": {"resultsBody": {"eventList": [event]}}}},
    ]  # fmt: skip
    for body in bodies:
        assert told(body).events == events, body


def shuffled(value: Any, draw: st.DrawFn) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(item, draw) for item in draw(st.permutations(value))]
    return value


@st.composite
def one_event_in_two_orders(draw: st.DrawFn) -> tuple[Any, Any]:
    changes = draw(
        st.fixed_dictionaries(
            {"epcList": st.lists(st.sampled_from([BOX, OTHER, "urn:epc:id:sgtin:4012345.011111.1", "https://x.example/8003/04012345555554988"]))},
            optional={
                "errorDeclaration": st.just(WRONG), "example:note": st.lists(st.text(max_size=5), max_size=3),
                "ilmd": st.just({"example:lot": "1"}),
            },
        )
    )  # fmt: skip
    event = draw(st.sampled_from([SHIPPED, RETURNED])) | changes
    if draw(st.booleans()):
        event = {key: value for key, value in event.items() if key != "eventID"}
    return event, shuffled(event, draw)


@given(pair=one_event_in_two_orders(), as_json_ld=st.booleans())
@settings(max_examples=100, deadline=None)
def test_order_and_form_change_nothing(*, pair: tuple[Any, Any], as_json_ld: bool) -> None:
    event, other = pair
    first, second = told(document(event)), told(document(expanded(other) if as_json_ld and other["epcList"] else other))
    assert first.events == second.events
    assert first.ignored == second.ignored


# What cannot be read ----------------------------------------------------------------------------------


def test_one_bad_event_stops_no_other() -> None:
    told_ = told(document(SHIPPED | {"eventTime": "yesterday"}, RETURNED, "someone@example.com", {"type": "ObjectEvent"}, SHIPPED))
    assert [event.TYPE for event in told_.events] == ["packaging.returned", "order.fulfilled"]
    assert told_.unread == (
        "event 1: Invalid RFC3339 encoded datetime - at `$.eventTime`", "event 3: it is no object",
        "event 4: Object missing required field `eventTime`",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"), (b"\xff", "not JSON"), (b"1", "no EPCIS document"), (b'"someone@example.com"', "no EPCIS document"),
        (b"[" * 100_000, "deeply"), (b'{"epcisBody": []}', "object"), (b'{"epcisBody": {}}', "no eventList"),
        (json.dumps(document(SHIPPED | {"eventTime": "2026-11-20T09:30:00"})).encode(), "eventTime"),
        (json.dumps(document(SHIPPED | {"eventTime": 1})).encode(), "eventTime"),
        (json.dumps(document(SHIPPED | {"epcList": [{"a": "someone@example.com"}]})).encode(), "epcList"),
        (json.dumps(document(SHIPPED | {"readPoint": "someone@example.com"})).encode(), "readPoint"),
        (json.dumps(document(SHIPPED | {"errorDeclaration": {"reason": "did_not_occur"}})).encode(), "declarationTime"),
        (json.dumps(document(SHIPPED | {"eventID": None, "sensorElementList": [{}]})).encode(), "needs an eventID"),
        (json.dumps(document(SHIPPED | {"errorDeclaration": WRONG | {"correctiveEventIDs": ["x"] * 501}})).encode(), "corrective"),
        (json.dumps(document() | {"@context": {str(n): "x" for n in range(101)}}).encode(), "prefixes"),
        (json.dumps(document(SHIPPED | {"@context": {"a": "x" * 257}})).encode(), "prefixes"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_where_without_quoting_it(body: bytes, why: str) -> None:
    with pytest.raises(Untranslatable, match=why) as caught:
        translate(hook(), {}, body)
    assert "someone" not in caught.value.detail


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["@id", "@value", "id"]), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
FIELDS = [
    *SHIPPED,
    *TAGGED,
    "errorDeclaration",
    "@context",
    "@type",
    "ilmd",
    "quantityList",
    "persistentDisposition",
    "example:x",
    "sourceList",
]


@given(event=st.sampled_from([SHIPPED, RETURNED, TAGGED]), changes=st.dictionaries(st.sampled_from(FIELDS), ANY_JSON, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_event_is_translated_or_untranslatable(event: Any, changes: dict[str, Any]) -> None:
    try:
        told_ = told(document(event | changes))
    except Untranslatable:
        return
    assert told_.events or told_.associations or told_.ignored
