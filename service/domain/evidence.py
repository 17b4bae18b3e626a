"""What the evidence of an activity must look like: JSON Schema 2020-12, the part of it whose check takes a bounded time.

Left out are references (nothing is fetched, nothing recurs), patterns, combinations and uniqueness: what is left meets each value of the
evidence once. `format` is left out because it would not be checked.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from schemas.bounds import MAX_EVIDENCE_VALUES, MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_VALUES
from schemas.problems import FieldError

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
MAX_ERRORS: Final = 10
"""Of one event's evidence that are told."""

_ANNOTATIONS: Final = frozenset({"$comment", "title", "description", "examples", "default", "deprecated"})
_LIMITS: Final = {
    "type": "must be of type", "const": "must be", "enum": "must be one of",
    "minimum": "must be at least", "maximum": "must be at most", "exclusiveMinimum": "must be above", "exclusiveMaximum": "must be below",
    "minLength": "has fewer characters than", "maxLength": "has more characters than",
    "minItems": "has fewer items than", "maxItems": "has more items than",
    "minProperties": "has fewer properties than", "maxProperties": "has more properties than",
}  # fmt: skip
_NESTED: Final = frozenset({"items", "additionalProperties"})
KEYWORDS: Final = frozenset({"$schema", "properties", "required", *_NESTED, *_LIMITS, *_ANNOTATIONS})
"""What a schema may say."""

# A JSON integer is written as one: 1.0 is none here, as in quantities and masses.
_Checked: Final = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int)
)


def check_schema(schema: Mapping[str, Any], at: str = "/schema") -> list[FieldError]:
    """Why this cannot be the schema of an activity's evidence; empty: it can."""
    if depth(schema, MAX_SCHEMA_DEPTH + 1) > MAX_SCHEMA_DEPTH:
        return [FieldError(pointer=at, detail=f"is nested deeper than {MAX_SCHEMA_DEPTH} levels")]
    if len(msgspec.json.encode(schema)) > MAX_SCHEMA_BYTES:
        return [FieldError(pointer=at, detail=f"is larger than {MAX_SCHEMA_BYTES:,} bytes")]
    if errors := list(islice(_unknown(schema, at), MAX_ERRORS)):
        return errors
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return [FieldError(pointer=at + _pointer(error), detail="is not what JSON Schema 2020-12 has there")]
    if schema.get("type") != "object":
        return [FieldError(pointer=f"{at}/type", detail="must be object: evidence is one")]
    return []


def compiled(schema: Mapping[str, Any]) -> Validator:
    """A schema that was checked, ready to check evidence."""
    made: Validator = _Checked(schema)
    return made


def errors_in(evidence: Mapping[str, Any], validator: Validator, at: str = "/evidence") -> list[FieldError]:
    """What the schema says against this evidence, at most MAX_ERRORS. It quotes the schema, never the evidence: that may name persons."""
    if _count(evidence) > MAX_EVIDENCE_VALUES:
        return [FieldError(pointer=at, detail=f"has more than {MAX_EVIDENCE_VALUES} values")]
    found: dict[str, str] = {}
    for error in islice(validator.iter_errors(evidence), MAX_ERRORS):
        for pointer, detail in _told(error):
            found.setdefault(at + pointer, detail)
    return [FieldError(pointer=pointer, detail=detail) for pointer, detail in islice(found.items(), MAX_ERRORS)]


def depth(value: object, limit: int) -> int:
    """Levels of objects and lists, counted up to `limit`."""
    if limit < 1 or not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max((depth(child, limit - 1) for child in children), default=0)


def _unknown(schema: object, at: str) -> Iterator[FieldError]:
    """Keywords that are not taken, and lists of values that are too long; their types are the metaschema's to check."""
    if not isinstance(schema, dict):
        return
    for name, value in schema.items():
        here = f"{at}/{_escaped(name)}"
        if name not in KEYWORDS:
            yield FieldError(pointer=here, detail=f"is none of the keywords that are taken: {', '.join(sorted(KEYWORDS - _ANNOTATIONS))}")
        elif name == "$schema" and value != DIALECT:
            yield FieldError(pointer=here, detail=f"must be {DIALECT}")
        elif name == "const" and isinstance(value, dict | list):
            yield FieldError(pointer=here, detail="must be a text, a number, true, false or null")
        elif name == "enum" and isinstance(value, list):
            if len(value) > MAX_SCHEMA_VALUES:
                yield FieldError(pointer=here, detail=f"has more than {MAX_SCHEMA_VALUES} values")
            if any(isinstance(each, dict | list) for each in value):
                yield FieldError(pointer=here, detail="must have texts, numbers, true, false and null only")
        elif name == "properties" and isinstance(value, dict):
            for key, child in value.items():
                yield from _unknown(child, f"{here}/{_escaped(key)}")
        elif name in _NESTED:
            yield from _unknown(value, here)


def _told(error: ValidationError) -> Iterator[tuple[str, str]]:
    here, keyword = _pointer(error), error.validator
    wanted: Any = error.validator_value
    found: Any = error.instance
    if keyword == "required":
        yield from ((f"{here}/{_escaped(name)}", "is required") for name in wanted if name not in found)
    elif keyword == "additionalProperties":
        yield here, "has a property that this activity does not know"
    elif keyword in _LIMITS:
        yield here, f"{_LIMITS[str(keyword)]} {msgspec.json.encode(wanted).decode()[:200]}"
    else:
        yield here, "is not allowed here"


def _pointer(error: ValidationError | SchemaError) -> str:
    return "".join(f"/{_escaped(str(part))}" for part in error.absolute_path)


def _escaped(name: str) -> str:
    """As RFC 6901 has it in pointers."""
    return name.replace("~", "~0").replace("/", "~1")


def _count(value: object) -> int:
    """Values in it, itself included, counted a little beyond the bound at most."""
    count, open_ = 0, [value]
    while open_ and count <= MAX_EVIDENCE_VALUES + 1:
        count += 1
        each = open_.pop()
        if isinstance(each, dict):
            open_.extend(each.values())
        elif isinstance(each, list):
            open_.extend(each)
    return count - 1  # the evidence itself is none
