"""Every way of writing an identifier becomes the same text, and different identifiers become different ones."""

import string
from collections.abc import Callable
from urllib.parse import quote

import pytest
from biip.checksums import gs1_standard_check_digit
from hypothesis import assume, example, given
from hypothesis import strategies as st

from service.domain.identifiers import MAX_CHARS, canonical_asset, canonical_document, canonical_serial, canonical_waybill

CSET_82 = "!\"%&'()*+,-./0123456789:;<=>?ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"  # GS1 General Specifications 7.11
GRAI = "04012345555554987"
ALL = [canonical_asset, canonical_waybill, canonical_serial, canonical_document]

twelve_digits = st.text("0123456789", min_size=12, max_size=12)
grai_serials = st.text(CSET_82, min_size=1, max_size=16)
own_codes = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20).map(lambda code: f"k{code}")
GAPS = st.sampled_from(["", "", " ", "\u00a0", "\u3000", "\u200b", "\ufeff"])
HYPHENS = st.sampled_from(["", "", "-", " - ", "\u2013", "\u2011", "\u2212"])


@st.composite
def spread(draw: st.DrawFn, text: str, gaps: st.SearchStrategy[str] = GAPS) -> str:
    """The text with gaps around and between its characters, as far as they fit."""
    out = draw(GAPS) + "".join(char + draw(gaps) for char in text)
    return out if len(out) <= MAX_CHARS else text


def encoded(serial: str) -> str:
    return quote(serial, safe="")


@given(twelve_digits, grai_serials, st.integers(6, 12), st.data())
def test_every_form_of_a_grai_names_the_same_asset(body: str, serial: str, prefix: int, data: st.DataObject) -> None:
    digits = f"{body}{gs1_standard_check_digit(body)}"
    plain = f"0{digits}{serial}"
    urn = f"{body[:prefix]}.{body[prefix:]}.{encoded(serial)}"
    forms = [
        plain, f"grai:{plain}", f"]C18003{plain}", f"]d28003{plain}\x1d", f"]Q38003{plain}", f"\x1d8003{plain}", f"8003{plain}",
        f"urn:epc:id:grai:{urn}", f"URN:EPC:ID:GRAI:{urn}", f"urn:epc:tag:grai-96:0.{urn}", f"urn:epc:tag:grai-170:5.{urn}",
        f"https://id.gs1.org/8003/0{digits}{encoded(serial)}", f"HTTP://BOXES.EXAMPLE/a/8003/0{digits}{encoded(serial)}?linkType=all",
        f"]Q1https://id.gs1.org/8003/0{digits}{encoded(serial)}",
    ]  # fmt: skip
    if "(" not in serial:
        forms += [f"(8003){plain}", f"(8003) {plain}", f"(8003){plain}(8004)X"]
        if digits[0] != "0":
            forms.append(f"(8003){digits}{serial}")
    if digits[0] != "0" and not (digits.startswith("80030") and len(serial) > 4):
        forms.append(f"{digits}{serial}")
    for form in forms:
        if len(form) <= MAX_CHARS:
            assert canonical_asset(data.draw(spread(form))) == plain, form


@given(st.text("0123456789", min_size=6, max_size=12), st.text(CSET_82, min_size=1, max_size=18), st.data())
def test_every_form_of_a_giai_names_the_same_asset(prefix: str, reference: str, data: st.DataObject) -> None:
    forms = [
        f"giai:{prefix}{reference}", f"GIAI:{prefix}{reference}", f"]C18004{prefix}{reference}", f"\x1d8004{prefix}{reference}\x1d",
        f"urn:epc:id:giai:{prefix}.{encoded(reference)}", f"urn:epc:tag:giai-202:1.{prefix}.{encoded(reference)}",
        f"https://id.gs1.org/8004/{prefix}{encoded(reference)}", f"https://boxes.example/8004/{prefix}{encoded(reference)}?x=1",
    ]  # fmt: skip
    if "(" not in reference:
        forms.append(f"(8004){prefix}{reference}")
    for form in forms:
        if len(form) <= MAX_CHARS:
            assert canonical_asset(data.draw(spread(form))) == f"giai:{prefix}{reference}", form


@given(own_codes, st.data())
def test_case_spaces_and_hyphens_do_not_make_another_own_code(code: str, data: st.DataObject) -> None:
    written = data.draw(spread(code, HYPHENS))
    for form in (written, written.upper(), written.lower(), written.swapcase()):
        assert canonical_asset(form) == code.lower()
        assert canonical_waybill(form) == code.upper()
        assert canonical_serial(form) == canonical_document(form) == code.lower()


@given(st.sets(st.tuples(twelve_digits, grai_serials), min_size=2, max_size=5), st.sets(own_codes.map(str.lower), min_size=2, max_size=5))
def test_different_assets_have_different_names(grais: set[tuple[str, str]], owns: set[str]) -> None:
    plain = [f"0{body}{gs1_standard_check_digit(body)}{serial}" for body, serial in grais]
    giais = [f"urn:epc:id:giai:4012345.{encoded(serial)}" for serial in {serial for _, serial in grais}]
    names = [canonical_asset(text) for text in [*plain, *giais, *owns]]
    assert len(set(names)) == len(names)


@given(st.sampled_from(ALL), st.one_of(st.text(max_size=140), st.text("()0123456789.:-/ gGrRaAiIupcldntsQ3]C\x1d%x", max_size=60)))
@example(canonical_asset, "-giai:x")
@example(canonical_serial, "]x0]a00")
@example(canonical_serial, "-]a00")
@example(canonical_waybill, "]x0]a00")
@example(canonical_asset, "(-8004)x")
@example(canonical_asset, "grai:grai:" + GRAI)
@example(canonical_asset, "https://[")
@example(canonical_asset, "https://a/8003/%ff%00")
@example(canonical_asset, "urn:epc:id:grai:4012345.55555." + "%FF")
@example(canonical_asset, "]C1")
@example(canonical_asset, "\x1d")
@example(canonical_asset, "0\u0661" * 9)
@example(canonical_asset, "8003" + "\u0660" * 18)
@example(canonical_waybill, "\u0131\u0149\u0390\u1e9e\u2126")
@example(canonical_document, "\ufdfa" * 128)
@example(canonical_serial, "\ud800")
@example(canonical_waybill, "(00)\u0661" * 3)
def test_whatever_comes_is_named_once_and_for_all_or_refused_with_a_reason(canonical: Callable[[str], str], text: str) -> None:
    refusal = None
    try:
        name = canonical(text)
    except ValueError as error:
        refusal = error
    if refusal is not None:
        assert type(refusal) is ValueError
        assert str(refusal)
        return
    assert canonical(name) == name
    assert 0 < len(name) <= MAX_CHARS
    assert name.isprintable()


@given(twelve_digits, grai_serials.filter(lambda serial: "(" not in serial), st.integers(1, 9))
def test_a_wrong_check_digit_is_refused_in_every_gs1_form(body: str, serial: str, off: int) -> None:
    plain = f"0{body}{(gs1_standard_check_digit(body) + off) % 10}{serial}"
    for form in (plain, f"(8003){plain}", f"]C18003{plain}", f"grai:{plain}", f"https://id.gs1.org/8003/{encoded(plain)}"):
        with pytest.raises(ValueError, match="check digit"):
            canonical_asset(form)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" - ", "empty"),
        ("x" * 129, "128"),
        ("a\x00b", "control"),
        ("a\x1db", "control"),
        ("04012345555554", "serial"),
        ("(8003)04012345555554", "serial"),
        ("0401234555555" + "4" + "9" * 17, "not a GRAI"),
        ("(01)04012345555554(21)7", "names no asset"),
        ("]C10104012345555554", "names no asset"),
        ("https://id.gs1.org/01/04012345555554/21/7", "names no asset"),
        ("urn:epc:id:sgtin:4012345.055555.7", "EPC"),
        ("urn:epc:id:grai:4012345.5555.7", "EPC"),
        ("urn:epc:id:grai:4012345.55555.", "serial"),
        ("(8003)04012345555554987((", "cannot be read"),
        ("]C1box17", "read"),
        ("(8004)" + "A" * 31, "read"),
    ],
)
def test_what_names_no_asset_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        canonical_asset(text)


def test_the_hyphen_and_the_case_of_a_gs1_serial_count() -> None:
    assert len({canonical_asset(f"04012345555554{serial}") for serial in ("a-1", "a1", "A1", "A-1")}) == 4


def test_a_grai_printed_with_hyphens_between_its_digits_is_the_same() -> None:
    assert canonical_asset("0-4012345-55555-4-987") == GRAI


@pytest.mark.parametrize(
    "form",
    [
        "106141412345678908", "(00)106141412345678908", "(00) 1 0614141 234567890 8", "00106141412345678908", "]C100106141412345678908",
        "urn:epc:id:sscc:0614141.1234567890", "urn:epc:tag:sscc-96:2.0614141.1234567890", "https://id.gs1.org/00/106141412345678908?x=y",
        "1-0614141-234567890-8",
    ],
)  # fmt: skip
def test_an_sscc_is_the_same_parcel_in_every_form(form: str) -> None:
    """The number of the GS1 General Specifications' example."""
    assert canonical_waybill(form) == "106141412345678908"


@pytest.mark.parametrize(
    "form", ["(00)106141412345678909", "https://id.gs1.org/00/106141412345678909", "urn:epc:id:sscc:0614141.123", "]C100106"]
)
def test_a_wrong_sscc_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"SSCC|read"):
        canonical_waybill(form)


@given(st.text("0123456789", min_size=17, max_size=17), st.text("0123456789", min_size=17, max_size=17))
def test_different_parcels_have_different_names(one: str, other: str) -> None:
    assume(one != other)
    assert canonical_waybill(f"{one}{gs1_standard_check_digit(one)}") != canonical_waybill(f"(00){other}{gs1_standard_check_digit(other)}")


def test_numbers_of_devices_and_documents_are_the_same_however_punctuated() -> None:
    assert {canonical_serial(text) for text in ("35-209900-176148-1", "35 209900/176148/1", "352099001761481")} == {"352099001761481"}
    assert {canonical_document(text) for text in ("INV-2026/001.7", "inv 2026 001-7", "ＩＮＶ\uff12\uff10\uff12\uff160017")} == {
        "inv20260017"
    }
    assert canonical_document("INV 7") != canonical_document("INV 8")
