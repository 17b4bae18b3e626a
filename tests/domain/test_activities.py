"""Activities: what their evidence may look like, what it needs, and what earns once however it is written."""

from datetime import UTC, datetime
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.activities import ActivityKindBody, ClaimRule
from schemas.bounds import MAX_EVIDENCE_VALUES, MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_VALUES
from schemas.events import ActivityCompleted
from service.domain import evidence
from service.domain.activities import BUILT_IN, ActivityKind, check_kind, claims_of, evidence_errors, kind_of, missing_evidence, own_kind
from service.domain.claims import RULES, Claim, Kind
from service.domain.errors import InvalidRequest

ACCOUNT = 7
CUP = {
    "type": "object",
    "properties": {"cup": {"type": "string", "maxLength": 20}, "litres": {"type": "number", "minimum": 0.1, "maximum": 5}, "n": {"type": "integer"}},
    "required": ["litres"],
    "additionalProperties": False,
}  # fmt: skip


def done(activity: str, **evidence: Any) -> ActivityCompleted:
    return ActivityCompleted(id="e", occurred_at=datetime(2026, 1, 1, tzinfo=UTC), consumer="c", activity=activity, evidence=evidence)


def own(code: str = "cup_day", schema: Any = CUP, **more: Any) -> dict[str, ActivityKind]:
    body = msgspec.convert({"code": code, "name": "A cup day", "schema": schema} | more, ActivityKindBody)
    check_kind(body)
    return {code: own_kind(body)}


def claims(event: ActivityCompleted, kinds: dict[str, ActivityKind] | None = None, account: int = ACCOUNT) -> list[Claim]:
    return claims_of(event, kinds or {}, account)


# What earns once


def wide(text: str) -> str:
    """The same in full-width characters."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


PERTURBATIONS = [str.upper, str.lower, wide, lambda t: f"  {t} ", "-".join, " ".join, lambda t: t[:1] + "\u200b" + t[1:], lambda t: t.replace("-", "\u2010")]  # fmt: skip
KEYS = {
    "trade_in": ("serial",), "e_receipt": ("merchant", "receipt"), "refill": ("terminal", "receipt"), "repair": ("merchant", "document"),
    "rental": ("merchant", "document"), "learning": ("module", "version"), "recycling": ("station", "ticket"),
}  # fmt: skip
NUMBERS = st.text(st.sampled_from("abcdefghjkxyz0123456789-"), min_size=1, max_size=12).filter(lambda t: t.strip("-"))


@given(data=st.data(), activity=st.sampled_from(sorted(KEYS)))
def test_a_repeat_that_is_written_otherwise_is_the_same_claim(data: st.DataObject, activity: str) -> None:
    plain = {key: data.draw(NUMBERS) for key in KEYS[activity]}
    written = {key: data.draw(st.sampled_from(PERTURBATIONS))(value) for key, value in plain.items()}
    assert claims(done(activity, **plain)) == claims(done(activity, **written))
    assert len(claims(done(activity, **plain))) == 1


@given(
    activity=st.sampled_from(sorted(KEYS)), one=st.lists(NUMBERS, min_size=2, max_size=2), other=st.lists(NUMBERS, min_size=2, max_size=2)
)
def test_other_numbers_are_other_claims(activity: str, one: list[str], other: list[str]) -> None:
    keys = KEYS[activity]
    plain = [[text.replace("-", "") for text in texts][: len(keys)] for texts in (one, other)]
    same = claims(done(activity, **dict(zip(keys, one, strict=False)))) == claims(done(activity, **dict(zip(keys, other, strict=False))))
    assert same == (plain[0] == plain[1])


@given(
    event=st.builds(
        done, st.sampled_from([*sorted(BUILT_IN), "cup_day", "nobody's"]),
    ),
    found=st.dictionaries(
        st.sampled_from(["serial", "receipt", "document", "module", "version", "ticket", "mass_g", "merchant", "cup", "litres", "x"]),
        st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=200), lambda c: st.lists(c) | st.dictionaries(st.text(), c), max_leaves=5),
    ),
)  # fmt: skip
def test_whatever_the_evidence_is_nothing_raises_and_what_claims_misses_nothing(event: ActivityCompleted, found: dict[str, Any]) -> None:
    event = msgspec.structs.replace(event, evidence=found)
    kinds = own(claim={"keys": ["cup"]})
    kind = kind_of(event.activity, kinds)
    made, missing = claims_of(event, kinds, ACCOUNT), missing_evidence(event, kinds)
    if kind is not None:
        evidence_errors(event, kind)
        if kind.needs and missing is None:
            assert len(made) == 1


def test_what_a_claim_is_about() -> None:
    for event, kind, text in (
        (done("trade_in", serial="SN-0 01", brand="A"), Kind.SERIAL, '["sn001"]'),
        (done("trade_in", serial=356938035643809), Kind.SERIAL, '["356938035643809"]'),
        (done("e_receipt", receipt="R/17"), Kind.RECEIPT, '["r17"]'),
        (done("e_receipt", receipt="R/17", merchant="M-7"), Kind.RECEIPT, '["m7","r17"]'),
        (done("refill", receipt="R 17", terminal="m7"), Kind.RECEIPT, '["m7","r17"]'),
        (done("recycling", ticket="T1", mass_g=500), Kind.RECEIPT, '["t1"]'),
        (done("learning", module="Sorting", version=2), Kind.COURSE, '[7,"sorting","2"]'),
    ):
        assert claims(event) == [Claim(kind, text)]
    assert set(RULES) == set(Kind)


def test_a_course_counts_once_for_each_consumer_and_version() -> None:
    first = done("learning", module="m", version="1.0")
    assert claims(first) != claims(first, account=ACCOUNT + 1)
    assert claims(first) == claims(done("learning", module="M", version=" 1.0 "))
    assert claims(first) != claims(done("learning", module="m", version="10"))


def test_an_own_activity_claims_what_it_declares() -> None:
    cup = done("cup_day", cup="A-1", litres=1)
    assert claims(cup, own()) == []
    assert claims(cup, own(claim={"keys": ["cup"]})) == [Claim(Kind.ACTIVITY, '["cup_day","a1"]')]
    assert claims(cup, own(claim={"keys": ["cup"], "scope": "consumer"})) == [Claim(Kind.ACTIVITY, '[7,"cup_day","a1"]')]
    assert claims(cup, own(claim={"keys": ["cup"], "kind": "serial"})) == claims(done("trade_in", serial="a1")), "one device, one claim"
    two = own(claim={"keys": ["cup", "n"]})
    assert claims(done("cup_day", cup="a1", n=3), two) == [Claim(Kind.ACTIVITY, '["cup_day","a1","3"]')]
    assert claims(cup, two) == []
    assert missing_evidence(cup, two) == "A cup day earns only with evidence of n."


@pytest.mark.parametrize(
    ("event", "missing"),
    [
        (done("trade_in", brand="A"), "serial"),
        (done("trade_in", serial=" -- "), "serial"),
        (done("trade_in", serial="x" * 129), "serial"),
        (done("e_receipt"), "receipt"),
        (done("repair"), "document"),
        (done("rental", document=None), "document"),
        (done("learning", module="m"), "version"),
        (done("recycling", ticket="t"), "mass_g"),
        (done("recycling", ticket="t", mass_g=1.5), "mass_g"),
        (done("recycling", mass_g="1.5"), "ticket"),
        (done("refill", station="s"), None),
        (done("recycling", ticket="t", mass_g="1.5"), None),
    ],
)
def test_what_is_missing_is_said(event: ActivityCompleted, missing: str | None) -> None:
    told = missing_evidence(event, {})
    assert told is None if missing is None else told is not None and told.endswith(f"evidence of {missing}.")


# What evidence may look like


def test_evidence_of_built_in_activities_is_checked_where_it_is_there() -> None:
    for event, pointers in (
        (done("trade_in"), []),
        (done("trade_in", serial=["x"], note={"a": 1}), ["/evidence/serial"]),
        (done("trade_in", serial=""), ["/evidence/serial"]),
        (done("recycling", ticket=1.5, mass_g=-1), ["/evidence/mass_g", "/evidence/ticket"]),
        (done("refill", serial=["x"]), []),
    ):
        assert sorted(error.pointer for error in evidence_errors(event, BUILT_IN[event.activity])) == pointers


def test_the_schemas_of_built_in_activities_are_what_programs_may_declare() -> None:
    for kind in BUILT_IN.values():
        assert evidence.check_schema(kind.schema) == []


def test_broken_evidence_is_pointed_at_without_being_quoted() -> None:
    kind = own()["cup_day"]
    told = {e.pointer: e.detail for e in evidence_errors(done("cup_day", cup="Ada's cup, which is a long one", n=1.0, whose="Ada"), kind)}
    assert told == {
        "/evidence": "has a property that this activity does not know", "/evidence/cup": "has more characters than 20",
        "/evidence/n": 'must be of type "integer"', "/evidence/litres": "is required",
    }  # fmt: skip
    assert evidence_errors(done("cup_day", litres=0.1), kind) == []
    (large,) = evidence_errors(done("cup_day", litres=1, n=[0] * MAX_EVIDENCE_VALUES), kind)
    assert large.detail == f"has more than {MAX_EVIDENCE_VALUES} values"


def nested(levels: int) -> dict[str, Any]:
    """A schema with so many levels of objects."""
    schema: dict[str, Any] = {}
    for _ in range(levels - 2):
        schema = {"items": schema}
    return {"type": "object", "additionalProperties": schema} if levels > 1 else {"type": "object"}


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        ({}, "/schema/type"),
        ({"type": "array"}, "/schema/type"),
        ({"type": "object", "properties": {"a": {"$ref": "http://169.254.169.254/"}}}, "/schema/properties/a/$ref"),
        ({"type": "object", "$id": "http://example.com/"}, "/schema/$id"),
        ({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}, "/schema/$schema"),
        ({"type": "object", "properties": {"a/b~": {"pattern": "(a+)+$"}}}, "/schema/properties/a~1b~0/pattern"),
        ({"type": "object", "patternProperties": {"(a+)+$": {}}}, "/schema/patternProperties"),
        ({"type": "object", "additionalProperties": {"items": {"anyOf": [{}]}}}, "/schema/additionalProperties/items/anyOf"),
        ({"type": "object", "properties": {"a": {"uniqueItems": True}}}, "/schema/properties/a/uniqueItems"),
        ({"type": "object", "properties": {"a": {"format": "email"}}}, "/schema/properties/a/format"),
        ({"type": "object", "properties": {"a": {"enum": [[1]]}}}, "/schema/properties/a/enum"),
        ({"type": "object", "properties": {"a": {"enum": list(range(MAX_SCHEMA_VALUES + 1))}}}, "/schema/properties/a/enum"),
        ({"type": "object", "properties": {"a": {"const": {}}}}, "/schema/properties/a/const"),
        ({"type": "object", "properties": 5}, "/schema/properties"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "/schema/properties/a/type"),
        ({"type": "object", "required": "a"}, "/schema/required"),
        ({"type": "object", "properties": {"a": {"minimum": "1"}}}, "/schema/properties/a/minimum"),
        (nested(MAX_SCHEMA_DEPTH + 1), "/schema"),
        ({"type": "object", "description": "x" * MAX_SCHEMA_BYTES}, "/schema"),
    ],
)
def test_a_schema_that_is_not_taken(schema: dict[str, Any], pointer: str) -> None:
    (error,) = evidence.check_schema(schema)
    assert error.pointer == pointer


def test_a_schema_at_its_bounds_is_taken() -> None:
    assert evidence.check_schema({"$schema": evidence.DIALECT} | nested(MAX_SCHEMA_DEPTH)) == []
    enum = {"type": "object", "properties": {"a": {"enum": list(range(MAX_SCHEMA_VALUES))}, "b": True}}
    assert evidence.check_schema(enum) == []


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
        lambda c: st.lists(c, max_size=4) | st.dictionaries(st.sampled_from([*sorted(evidence.KEYWORDS), "a", "b", "$ref"]), c, max_size=5),
        max_leaves=20,
    ).filter(lambda value: isinstance(value, dict)),
    st.dictionaries(st.sampled_from("ab"), st.integers() | st.text(max_size=3) | st.lists(st.integers())),
)
def test_what_is_taken_can_be_checked_and_agrees_with_the_library(schema: Any, found: dict[str, Any]) -> None:
    if evidence.check_schema(schema | {"type": "object"}):
        return
    schema |= {"type": "object"}
    assert (evidence.errors_in(found, evidence.compiled(schema)) == []) == jsonschema.Draft202012Validator(schema).is_valid(found)


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"code": "refill"}, "/code"),
        ({"claim": {"keys": ["unheard"]}}, "/claim/keys/0"),
        ({"claim": {"keys": ["cup", "cup"]}}, "/claim/keys/1"),
        ({"claim": {"keys": ["litres"]}}, "/claim/keys/0"),
        ({"schema": {"type": "object", "properties": {"cup": {}}}, "claim": {"keys": ["cup"]}}, "/claim/keys/0"),
        ({"schema": {"type": "object", "properties": {"cup": True}}, "claim": {"keys": ["cup"]}}, "/claim/keys/0"),
        ({"schema": {"type": "object", "properties": {"cup": {"type": []}}}, "claim": {"keys": ["cup"]}}, "/schema/properties/cup/type"),
        ({"schema": {"type": "object", "properties": {"cup": {"type": ["string", "null"]}}}, "claim": {"keys": ["cup"]}}, "/claim/keys/0"),
    ],
)
def test_a_kind_that_is_not_taken(changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        own(**({"code": "cup_day"} | changes))
    assert [error.pointer for error in refused.value.errors] == [pointer]


def test_a_claim_needs_its_keys() -> None:
    assert own(claim={"keys": ["cup"]})["cup_day"].needs == ("cup",)
    assert ClaimRule(keys=["cup"]).kind == "own"
