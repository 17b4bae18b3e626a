"""The reference list of packaging classes holds together, and has everything that the facts it was made from have."""

import json
from pathlib import Path

import msgspec
import pytest

from service.domain.packaging import CLASS_CODES, REFERENCE, PackagingClass, class_of, needs_asset

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "packaging_classes.json"
OWN = {"crate": PackagingClass(code="crate", group="reuse", name_en="Crate", needs_asset=True)}


def test_every_class_has_its_facts() -> None:
    assert len(REFERENCE) == 30
    assert frozenset(REFERENCE) == CLASS_CODES
    for code, each in REFERENCE.items():
        assert each.code == code
        assert each.name_en
        assert each.name_zh
        assert each.description
        assert each.evidence
        assert each.evidence_from
        assert each.sources
        assert each.verification in ("primary", "secondary")
        assert (each.baseline is None) == (each.group == "baseline"), code
        assert each.baseline is None or REFERENCE[each.baseline].group == "baseline"
        assert each.needs_asset == ("asset" in each.evidence), code
        assert each.needs_asset <= (each.group == "reuse"), code
        assert each.active


def test_lookups() -> None:
    assert needs_asset("circular_box")
    assert not needs_asset("reused_carton")
    assert not needs_asset("crate")
    assert needs_asset("crate", OWN)
    assert class_of("crate") is None
    assert class_of("crate", OWN) == OWN["crate"]
    assert class_of("slim_tape", OWN | {"slim_tape": OWN["crate"]}) == REFERENCE["slim_tape"], "the reference list comes first"


@pytest.mark.skipif(not SHARED.exists(), reason="the shared facts are not here")
def test_the_facts_were_carried_over() -> None:
    records = json.loads(SHARED.read_text(encoding="utf-8"))["records"]
    groups = {"recycle-in": "recycled"}
    facts = [
        (r["id"], groups.get(r["group"], r["group"]), r["waste_hierarchy_rank"], r["name_zh"], r["needs_serialised_asset"],
         r["contains_plastic"], r["reportable_disposable_plastic"], r["baseline_class"], r["verification"]) for r in records
    ]  # fmt: skip
    ours = [
        (c.code, c.group, c.rank, c.name_zh, c.needs_asset, c.contains_plastic, c.reportable, c.baseline, c.verification)
        for c in REFERENCE.values()
    ]
    assert ours == facts
    assert msgspec.json.decode(msgspec.json.encode(list(REFERENCE.values())), type=list[PackagingClass])
