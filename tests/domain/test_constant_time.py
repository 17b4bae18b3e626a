"""Proofs are compared in constant time: no signature, MAC or secret is compared by `==`, `in` or `startswith`."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROOF = re.compile(r"signature|hmac|mac\b|digest|expected\b|(?<!is_)secret\b|api_key\b|password\b", re.IGNORECASE)
SIGNING = [path for path in sorted((ROOT / "service").rglob("*.py")) if "hmac" in path.read_text(encoding="utf-8").lower()]
"""Whatever computes or reads a signature."""


def compared(path: Path) -> list[str]:
    """Comparisons of something that is called like a proof, unless with None, a number or an empty text."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(operator, ast.Is | ast.IsNot | ast.Lt | ast.Gt | ast.LtE | ast.GtE) for operator in node.ops):
            continue
        if any(isinstance(side, ast.Constant) for side in sides) or any(isinstance(side, ast.Call) and _is_length(side) for side in sides):
            continue
        if any(isinstance(side, ast.Name | ast.Attribute | ast.Subscript) and PROOF.search(ast.unparse(side)) for side in sides):
            found.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    return found


def _is_length(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "len"


@pytest.mark.parametrize("path", SIGNING, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_proof_is_compared_by_equality(path: Path) -> None:
    assert compared(path) == []


def test_every_connector_that_computes_a_signature_compares_it_in_constant_time() -> None:
    signing = [path for path in SIGNING if path.parent.name == "connectors" and "hmac.digest" in path.read_text(encoding="utf-8")]
    assert len(signing) >= 2
    for path in signing:
        assert "hmac.compare_digest" in path.read_text(encoding="utf-8"), path


def test_the_search_finds_what_it_is_for(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def verify(expected, signature):\n    return expected == signature or signature in [expected]\n")
    assert len(compared(bad)) == 2
