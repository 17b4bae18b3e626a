"""Kinds of activities: built in, and a program's own, with what their evidence looks like and what of it earns once."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import PRINTABLE, Body, Code
from schemas.bounds import MAX_CLAIM_KEYS, MAX_NAME_CHARS, MAX_TEXT_CHARS

ClaimKind = Literal["serial", "receipt", "course", "own"]
"""Among what a claim is unique: devices, receipts and documents, courses (each over all activities), or this activity's own."""

KindName = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=PRINTABLE)]
EvidenceKey = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS, pattern=PRINTABLE)]


class ClaimRule(Body, frozen=True, kw_only=True):
    """The values of these keys of the evidence, together, earn once: in the whole program, or once for each consumer."""

    kind: ClaimKind = "own"
    keys: Annotated[list[EvidenceKey], Meta(min_length=1, max_length=MAX_CLAIM_KEYS)]
    scope: Literal["program", "consumer"] = "program"


class ActivityKindBody(Body, frozen=True, kw_only=True):
    """An activity of the program's own. `schema` is JSON Schema 2020-12 of its evidence (a part of it: docs/api.md)."""

    code: Code
    name: KindName
    schema: dict[str, Any]
    claim: ClaimRule | None = None


class ActivityKindPatch(Body, frozen=True, kw_only=True):
    """What of it can change. `active` false retires it: new events cannot name it, what it earned stays."""

    name: KindName | UnsetType = UNSET
    schema: dict[str, Any] | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class ActivityKindAnswer(Body, frozen=True, kw_only=True):
    """An activity that events may name. Without the keys in `needs` its evidence earns nothing."""

    code: str
    origin: Literal["built_in", "program"]
    active: bool
    name: str
    schema: dict[str, Any]
    claim: ClaimRule | None
    needs: list[str]
