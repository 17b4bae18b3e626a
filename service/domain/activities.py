"""Activities: which there are, what their evidence looks like, and what of it earns once.

Built in are those of BUILT_IN; a program adds its own (table `activity_kind`). An activity that is neither is refused: a misspelt name
would otherwise earn without its claim, again and again.

What earns once is a `Claim` of canonical texts, so that case, spaces and hyphens make no second one. Of receipts and documents the
merchant or terminal is part of the claim where it is named, because each counts his receipts from 1; of devices the brand is not, because
leaving it out would make another device of it.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import msgspec
from jsonschema.protocols import Validator

from schemas.activities import ActivityKindBody, ClaimKind, ClaimRule
from schemas.bounds import MAX_KEY_CHARS
from schemas.events import ActivityCompleted
from schemas.problems import FieldError
from service.domain import evidence
from service.domain.claims import Claim, Kind
from service.domain.errors import InvalidRequest
from service.domain.identifiers import canonical_document, canonical_serial
from service.domain.things import mass_of

_KINDS: Final[Mapping[ClaimKind, Kind]] = {
    "serial": Kind.SERIAL, "receipt": Kind.RECEIPT, "course": Kind.COURSE, "own": Kind.ACTIVITY,
}  # fmt: skip
_CLAIMABLE: Final = frozenset({"string", "integer"})


class ActivityKind(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """An activity that events may name. `needs` are keys of the evidence without which it earns nothing."""

    code: str
    name: str
    schema: Mapping[str, Any]
    claim: ClaimRule | None = None
    qualified_by: str | None = None
    """A key that is part of the claim where it is there."""
    needs: tuple[str, ...] = ()
    active: bool = True

    @cached_property
    def validator(self) -> Validator:
        """Of the schema, made when it is first asked for."""
        return evidence.compiled(self.schema)

    @cached_property
    def untouched_by(self) -> frozenset[str] | None:
        """Keys without any of which evidence cannot break the schema; None: any evidence can."""
        only_properties = self.schema.keys() <= {"type", "properties", "description"}
        return frozenset(self.schema.get("properties", ())) if only_properties else None


def own_kind(body: ActivityKindBody, *, active: bool = True) -> ActivityKind:
    """A program's own kind, as it was declared and checked."""
    needs = () if body.claim is None else tuple(body.claim.keys)
    return ActivityKind(code=body.code, name=body.name, schema=body.schema, claim=body.claim, needs=needs, active=active)


def check_kind(body: ActivityKindBody) -> None:
    """Raises InvalidRequest with all errors: a code that is built in, a schema that is not taken, a claim on what is no text there."""
    errors = evidence.check_schema(body.schema)
    if body.code in BUILT_IN:
        errors.append(FieldError(pointer="/code", detail="is built in"))
    if body.claim is not None and not errors:
        properties = body.schema.get("properties", {})
        for i, key in enumerate(body.claim.keys):
            if key in body.claim.keys[:i]:
                errors.append(FieldError(pointer=f"/claim/keys/{i}", detail="is there twice"))
            elif not _is_claimable(properties.get(key)):
                errors.append(FieldError(pointer=f"/claim/keys/{i}", detail="must be a property of the schema, of type string or integer"))
    if errors:
        raise InvalidRequest.of(errors)


def _is_claimable(schema: object) -> bool:
    type_ = schema.get("type") if isinstance(schema, dict) else None
    return _CLAIMABLE.issuperset([type_] if isinstance(type_, str) else type_ or ["null"])


def kind_of(activity: str, own: Mapping[str, ActivityKind]) -> ActivityKind | None:
    """The kind of this name: built in, else one of the program's own (a retired one, too). None: there is none."""
    return BUILT_IN.get(activity) or own.get(activity)


def evidence_errors(event: ActivityCompleted, kind: ActivityKind) -> list[FieldError]:
    """What is wrong with the shape of an event's evidence."""
    touched = kind.untouched_by
    if touched is not None and touched.isdisjoint(event.evidence):
        return []
    return evidence.errors_in(event.evidence, kind.validator)


def missing_evidence(event: ActivityCompleted, kinds: Mapping[str, ActivityKind]) -> str | None:
    """Why the activity earns nothing for want of evidence, in words for a person; None: nothing is missing. `kinds`: the program's own."""
    kind = kind_of(event.activity, kinds)
    if kind is None:
        return None
    claim_kind = "own" if kind.claim is None else kind.claim.kind
    missing = [key for key in kind.needs if not _is_there(event.evidence.get(key), key, claim_kind)]
    if not missing:
        return None
    return f"{kind.name} earns only with evidence of {' and '.join(missing)}."


def claims_of(event: ActivityCompleted, kinds: Mapping[str, ActivityKind], account: int) -> list[Claim]:
    """What the activity claims, once: nothing where its kind has no rule, or its evidence none of the keys. `kinds`: the program's own."""
    kind = kind_of(event.activity, kinds)
    if kind is None or kind.claim is None:
        return []
    rule = kind.claim
    values = [_canonical(event.evidence.get(key), rule.kind) for key in rule.keys]
    if None in values:
        return []
    parts: list[str | int | None] = [*values]
    if kind.qualified_by is not None and (qualifier := _canonical(event.evidence.get(kind.qualified_by), rule.kind)) is not None:
        parts.insert(0, qualifier)
    if rule.kind == "own":
        parts.insert(0, kind.code)
    if rule.scope == "consumer":
        parts.insert(0, account)
    return [Claim(_KINDS[rule.kind], msgspec.json.encode(parts).decode())]


def _is_there(value: object, key: str, claim_kind: ClaimKind) -> bool:
    return mass_of(value) is not None if key == "mass_g" else _canonical(value, claim_kind) is not None


def _canonical(value: object, kind: ClaimKind) -> str | None:
    """A value of the evidence as its claim has it; None when it says nothing."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or len(text) > MAX_KEY_CHARS:
        return None
    try:
        match kind:
            case "serial":
                return canonical_serial(text)
            case "course":
                return _dotted(text)
            case _:
                return canonical_document(text)
    except ValueError:
        return None


def _dotted(text: str) -> str:
    """The canonical text with its dots: version 1.0 is not version 10. Raises ValueError when nothing is left."""
    parts = unicodedata.normalize("NFKC", text).strip(". \t").split(".")
    return ".".join(canonical_document(part) for part in parts)


# Built in ------------------------------------------------------------------------------------------------

_TEXT: Final = {"type": ["string", "integer"], "minLength": 1, "maxLength": MAX_KEY_CHARS}
_MASS: Final = {"type": ["string", "integer"], "minimum": 0, "maxLength": 19}


def _built_in(
    code: str, name: str, claim: ClaimRule | None, *, optional: Sequence[str] = (), qualified_by: str | None = None,
    needs: tuple[str, ...] | None = None,
) -> ActivityKind:  # fmt: skip
    keys = [] if claim is None else claim.keys
    needs = tuple(keys) if needs is None else needs
    names = dict.fromkeys([*keys, *needs, *([] if qualified_by is None else [qualified_by]), *optional])
    properties = {each: _MASS if each == "mass_g" else _TEXT for each in names}
    return ActivityKind(
        code=code, name=name, schema={"type": "object", "properties": properties}, claim=claim, qualified_by=qualified_by, needs=needs
    )


BUILT_IN: Final[Mapping[str, ActivityKind]] = {
    kind.code: kind
    for kind in (
        _built_in("trade_in", "A trade-in", ClaimRule(kind="serial", keys=["serial"]), optional=["gtin", "brand"]),
        _built_in("e_receipt", "An electronic receipt", ClaimRule(kind="receipt", keys=["receipt"]), qualified_by="merchant"),
        # Stations report refills that have no receipt: the event's id alone makes those once.
        _built_in("refill", "A refill", ClaimRule(kind="receipt", keys=["receipt"]), qualified_by="terminal", needs=()),
        _built_in("repair", "A repair", ClaimRule(kind="receipt", keys=["document"]), qualified_by="merchant"),
        _built_in("rental", "A rental", ClaimRule(kind="receipt", keys=["document"]), qualified_by="merchant"),
        _built_in("learning", "A learning module", ClaimRule(kind="course", keys=["module", "version"], scope="consumer")),
        _built_in(
            "recycling", "Bulk recycling", ClaimRule(kind="receipt", keys=["ticket"]), qualified_by="station", optional=["material"],
            needs=("ticket", "mass_g"),
        ),
    )
}  # fmt: skip
"""By code."""
