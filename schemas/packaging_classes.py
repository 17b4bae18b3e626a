"""Packaging classes: the reference list and a program's own."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import PRINTABLE, Body, Code
from schemas.bounds import MAX_CLASS_EVIDENCE, MAX_REASON_CHARS, MAX_TEXT_CHARS

Group = Literal["avoid", "reduce", "reuse", "recycled", "substitute", "baseline"]
"""What it does: no packaging at all, less of it, the same again, from recycled material, another material; or nothing, to compare with."""

Evidence = Literal[
    "asset", "certificate", "consumables_ledger", "order", "pack_record", "pack_sku", "receipt", "scan", "ship_from", "sku_declaration",
    "station", "test_report", "token", "waybill",
]  # fmt: skip
"""What can prove a class."""

ClassName = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS, pattern=PRINTABLE)]
Caveat = Annotated[str, Meta(max_length=MAX_REASON_CHARS, pattern=PRINTABLE.replace("+$", "*$"))]
EvidenceList = Annotated[list[Evidence], Meta(max_length=MAX_CLASS_EVIDENCE)]


class PackagingClassBody(Body, frozen=True, kw_only=True):
    """A class of the program's own, for what the reference list has no word for. `baseline` is the class that it takes the place of."""

    code: Code
    group: Group
    name_en: ClassName
    name_zh: ClassName | None = None
    description: Caveat = ""
    needs_asset: bool = False
    evidence: EvidenceList = []
    contains_plastic: bool | None = None
    reportable: bool | None = None
    baseline: Code | None = None
    caveat: Caveat = ""


class PackagingClassPatch(Body, frozen=True, kw_only=True):
    """What of it can change. `active` false retires it: new events cannot name it, what it earned stays."""

    name_en: ClassName | UnsetType = UNSET
    name_zh: ClassName | UnsetType | None = UNSET
    description: Caveat | UnsetType = UNSET
    evidence: EvidenceList | UnsetType = UNSET
    contains_plastic: bool | UnsetType | None = UNSET
    reportable: bool | UnsetType | None = UNSET
    baseline: Code | UnsetType | None = UNSET
    caveat: Caveat | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class PackagingClassAnswer(Body, frozen=True, kw_only=True):
    """A class. `contains_plastic` and `reportable` null: it depends on the piece. `rank` is its step of the waste hierarchy, 1 the best."""

    code: str
    origin: Literal["reference", "program"]
    active: bool
    group: Group
    rank: int | None
    name_en: str
    name_zh: str | None
    description: str
    needs_asset: bool
    evidence: list[Evidence]
    evidence_from: list[str]
    contains_plastic: bool | None
    reportable: bool | None
    baseline: str | None
    caveat: str
    verification: str
    sources: list[str]
