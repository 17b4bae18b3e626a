"""The hash of an EPCIS event, and GS1 keys as canonical Digital Links.

The events are ours; their hashes are what the reference implementation of CBV 2.0 (epcis-event-hash-generator 1.9.3) makes of them.
"""

from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.connectors.epcis_hash import MAX_DEPTH, NotHashable, event_hash, prehash
from service.domain.connectors.epcis_uris import asset_in, digital_link

PREFIXES = {"example": "https://ns.example.com/epcis/"}
_OBSERVED: dict[str, Any] = {
    "type": "ObjectEvent", "eventTime": "2026-11-20T09:30:00+08:00", "eventTimeZoneOffset": "+08:00", "action": "OBSERVE",
}  # fmt: skip
VECTORS: dict[str, tuple[dict[str, Any], str]] = {
    "a box that was shipped": (
        _OBSERVED
        | {
            "bizStep": "shipping",
            "disposition": "in_transit",
            "epcList": ["urn:epc:id:grai:4012345.55555.987"],
            "readPoint": {"id": "urn:epc:id:sgln:4012345.00005.0"},
            "bizTransactionList": [{"type": "po", "bizTransaction": "urn:epcglobal:cbv:bt:4012345000009:1001"}],
        },
        "5343d057a5b48aad8765b7a2a6c862ec7df692392558adf940d43d0aa9ed41f3",
    ),
    "boxes that came back": (
        _OBSERVED
        | {
            "eventTime": "2026-11-22T10:00:00.1415Z",
            "bizStep": "collecting",
            "disposition": "returned",
            "epcList": [
                "https://boxes.example.com/8004/4012345ABC?x=1",
                "urn:epc:id:grai:4012345.55555.987",
                "urn:epc:id:grai:4012345.55555.98%2F7",
            ],
            "readPoint": {"id": "https://id.gs1.org/414/4012345000054/254/12"},
            "bizLocation": {"id": "urn:epc:id:sgln:4012345.00005.0"},
        },
        "f03e4dc76aaea8410f7785323854624fdf65ea24e4b63f8ca479d3069d85b504",
    ),
    "several documents and parties": (
        _OBSERVED
        | {
            "bizStep": "receiving",
            "disposition": "returned",
            "epcList": ["urn:epc:id:sgtin:4012345.011111.9876", "urn:epc:id:sscc:4012345.0000000111"],
            "bizTransactionList": [
                {"type": "po", "bizTransaction": "http://transaction.example.com/po/2"},
                {"type": "desadv", "bizTransaction": "urn:epcglobal:cbv:bt:4012345000009:ASN1"},
            ],
            "sourceList": [{"type": "owning_party", "source": "urn:epc:id:pgln:4012345.00000"}],
            "destinationList": [{"type": "location", "destination": "urn:epc:id:sgln:4023333.00000.0"}],
        },
        "a52fb3ace4f1a2b7cdce925370a9acb33dd703c61bbc7689b599ff9cd5c0297f",
    ),
    "classes with quantities": (
        _OBSERVED
        | {
            "action": "ADD",
            "bizStep": "commissioning",
            "quantityList": [
                {"epcClass": "urn:epc:class:lgtin:4012345.012345.998877", "quantity": 200.5, "uom": "KGM"},
                {"epcClass": "urn:epc:idpat:sgtin:4012345.066666.*", "quantity": 10},
            ],
            "ilmd": {"example:lot": "7", "example:best": {"example:before": "2027-01-01"}},
        },
        "4e0d001ccd9a7ebc2478148a8dd5710c56b24bd512c722ca89c3f6cc7be5c973",
    ),
    "fields of the sender's own": (
        _OBSERVED
        | {
            "bizStep": "collecting",
            "epcList": ["urn:epc:id:giai:4012345.ABC"],
            "readPoint": {"id": "urn:epc:id:sgln:4012345.00005.0", "example:floor": "2"},
            "example:note": "a b",
            "example:list": ["3", "1"],
            "example:nested": {"example:y": "1.50", "example:x": ["b", "a"]},
        },
        "9ce2271cac686d3b10a77d2a67cbf174d7febb6b682350a6751ce7affda590c8",
    ),
    "a persistent disposition": (
        _OBSERVED
        | {
            "bizStep": "inspecting",
            "epcList": ["urn:epc:id:grai:4012345.55555.987"],
            "persistentDisposition": {"set": ["completeness_verified"], "unset": ["completeness_inferred"]},
        },
        "cc5fe212889a36e6a97e50f8db0b0c4bc9d94109477217251ed6e75beeaaa77b",
    ),
    "a tag on a box": (
        {
            "type": "AssociationEvent",
            "eventTime": "2026-11-01T14:00:00.000+01:00",
            "eventTimeZoneOffset": "+01:00",
            "parentID": "urn:epc:id:grai:4012345.55555.987",
            "childEPCs": ["urn:epc:id:giai:4000001.12345"],
            "action": "ADD",
            "bizStep": "assembling",
            "readPoint": {"id": "urn:epc:id:sgln:4012345.00001.0"},
        },
        "1e6c9719e5a9859c7b9ef68f68f39cdfabd6bc025aa1a1dfc10577ffeed3e4f9",
    ),
    "a shipment that is declared wrong": (
        _OBSERVED
        | {
            "bizStep": "shipping",
            "epcList": ["urn:epc:id:grai:4012345.55555.987"],
            "errorDeclaration": {"declarationTime": "2026-11-21T00:00:00Z", "reason": "did_not_occur"},
        },
        "32cd53ce24d02087c2ce237c673fec99efd78348364008177a4adda11e79d9af",
    ),
}


def at(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"eventTime": msgspec.convert(event["eventTime"], datetime)}


@pytest.mark.parametrize("name", VECTORS)
def test_the_hash_is_that_of_the_reference_implementation(name: str) -> None:
    event, digest = VECTORS[name]
    assert event_hash(at(event), PREFIXES) == f"ni:///sha-256;{digest}?ver=CBV2.0"


@pytest.mark.parametrize("name", VECTORS)
def test_what_identifies_or_corrects_an_event_takes_no_part(name: str) -> None:
    event, digest = VECTORS[name]
    more = {"eventID": "urn:uuid:1", "recordTime": "2026-11-22T00:00:00Z", "errorDeclaration": {"declarationTime": "2026-11-22T00:00:00Z"}}
    assert digest in event_hash(at(event | more), PREFIXES)


@pytest.mark.parametrize("name", VECTORS)
def test_any_other_field_takes_part(name: str) -> None:
    event, digest = VECTORS[name]
    for field in event.keys() - {"errorDeclaration", "type", "eventTime"}:
        assert digest not in event_hash(at({key: value for key, value in event.items() if key != field}), PREFIXES), field


def shuffled(value: Any, draw: st.DrawFn) -> Any:
    """Keys and list items in another order."""
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(item, draw) for item in draw(st.permutations(value))]
    return value


@given(data=st.data(), name=st.sampled_from(sorted(VECTORS)))
@settings(max_examples=60, deadline=None)
def test_order_does_not_matter(data: st.DataObject, name: str) -> None:
    event, digest = VECTORS[name]

    @st.composite
    def other(draw: st.DrawFn) -> Any:
        return shuffled(event, draw)

    assert digest in event_hash(at(data.draw(other())), PREFIXES)


def test_milliseconds_are_rounded_half_up() -> None:
    event = VECTORS["a box that was shipped"][0]
    for text, shown in (
        ("2026-01-01T00:00:00.1414Z", "00:00:00.141Z"), ("2026-01-01T00:00:00.1415Z", "00:00:00.142Z"),
        ("2026-01-01T00:00:00.1425Z", "00:00:00.143Z"), ("2026-01-01T00:00:59.9995Z", "00:01:00.000Z"),
    ):  # fmt: skip
        assert f"eventTime=2026-01-01T{shown}" in prehash(at(event | {"eventTime": text}), {})


def test_prefixes_cannot_make_a_text_without_end() -> None:
    event = VECTORS["a box that was shipped"][0] | {"a:x": ["a:y"] * 100_000}
    with pytest.raises(NotHashable, match="as large as this"):
        event_hash(at(event), {"a": "z" * 256})


def test_what_is_not_computed_is_refused() -> None:
    event = VECTORS["a box that was shipped"][0]
    deep: Any = "x"
    for _ in range(MAX_DEPTH + 1):
        deep = {"example:a": deep}
    for more in ({"sensorElementList": [{"sensorReport": []}]}, {"example:deep": deep}):
        with pytest.raises(NotHashable, match="eventID"):
            event_hash(at(event | more), PREFIXES)


# URIs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("urn:epc:id:sgtin:4012345.011111.9876", "01/04012345111118/21/9876"),
        ("urn:epc:id:sgtin:415056789012.0.987654", "01/04150567890128/21/987654"),
        ("urn:epc:id:sgtin:0614141.812345.6789%2F%26%25%22!%3F()", "01/80614141123458/21/6789%2F%26%25%22%21%3F%28%29"),
        ("urn:epc:class:lgtin:4012345.012345.Lot987", "01/04012345123456/10/Lot987"),
        ("urn:epc:idpat:sgtin:4012345.066666.*", "01/04012345666663"),
        ("urn:epc:id:sscc:4012345.3111111111", "00/340123451111111111"),
        ("urn:epc:id:sgln:4012345.00005.0", "414/4012345000054"),
        ("urn:epc:id:sgln:4012345.00005.122", "414/4012345000054/254/122"),
        ("urn:epc:id:grai:4012345.55555.987", "8003/04012345555554987"),
        ("URN:EPC:ID:GRAI:4012345.55555.987", "8003/04012345555554987"),
        ("urn:epc:idpat:grai:4012345.66666.*", "8003/04012345666663"),
        ("urn:epc:id:giai:4012345.ABC345", "8004/4012345ABC345"),
        ("urn:epc:id:gdti:4012345.00009.PO-4711", "253/4012345000092PO-4711"),
        ("urn:epc:id:gdti:987659999999..9", "253/98765999999929"),
        ("urn:epc:id:pgln:999999999999.", "417/9999999999994"),
        ("urn:epc:id:gsrn:4012345.0000006765", "8018/401234500000067657"),
        ("urn:epc:id:gsrnp:4012345.0000000007", "8017/401234500000000074"),
        ("urn:epc:id:gsin:4012345.222333444", "402/40123452223334442"),
        ("urn:epc:id:ginc:0614141.xyz47%2F11", "401/0614141xyz47%2F11"),
        ("urn:epc:id:cpi:0614141.11111111111111-A%23%2F.1234", "8010/061414111111111111111-A%23%2F/8011/1234"),
        ("urn:epc:id:itip:4012345.011111.01.02.987", "8006/040123451111180102/21/987"),
        ("https://boxes.example.com/some/path/grai/04012345555554987?trip=1#x", "8003/04012345555554987"),
        ("http://example.com/gtin/9780345418913/cpv/2A/lot/L1/ser/765tz?abc=1", "01/09780345418913/21/765tz"),
        ("https://id.gs1.org/414/4012345000054/254/12/", "414/4012345000054/254/12"),
        ("https://example.com/8004/4012345%61BC", "8004/4012345aBC"),
    ],
)  # fmt: skip
def test_a_key_has_one_canonical_link(uri: str, path: str) -> None:
    link = digital_link(uri)
    assert link == "https://id.gs1.org/" + path
    assert digital_link(link) == link


@pytest.mark.parametrize(
    "uri",
    [
        "", "x", "https://id.gs1.org/8003/04012345555555987", "https://id.gs1.org/8003/0401234555555", "https://id.gs1.org/01/1234",
        "urn:epc:id:grai:4012345.5555.987", "urn:epc:id:grai:٤٠١٢٣٤٥.55555.1", "urn:epc:id:grai:4012345.55555.12345678901234567",
        "urn:epc:id:giai:4012345.", "urn:epc:id:sgtin:4012345.011111.", "urn:epc:id:unknown:4012345.1", "urn:epc:id:grai", "https://x/",
        "https://id.gs1.org/8004/" + "1" * 31, "https://example.com/orders/1", "urn:epc:id:giai:4012345." + "x" * 600,
    ],
)  # fmt: skip
def test_what_is_no_key_has_none(uri: str) -> None:
    assert digital_link(uri) is None


def test_an_asset_is_one_thing_and_no_class_of_things() -> None:
    assert asset_in("urn:epc:id:grai:4012345.55555.98%2F7") == "0401234555555498/7"
    assert asset_in("https://example.com/8004/4012345ABC") == "giai:4012345ABC"
    for other in (
        "urn:epc:idpat:grai:4012345.55555.*",
        "https://id.gs1.org/8003/04012345555554",
        "urn:epc:id:sgtin:4012345.011111.1",
        "box 1",
    ):
        assert asset_in(other) is None


@given(st.text() | st.from_regex(r"(urn:epc:(id|class|idpat):[a-z]{3,5}:|https?://x/)[0-9A-Za-z./%*]{0,40}"))
@settings(max_examples=300, deadline=None)
def test_any_text_has_a_canonical_link_or_none(text: str) -> None:
    link = digital_link(text)
    if link is not None:
        assert digital_link(link) == link
