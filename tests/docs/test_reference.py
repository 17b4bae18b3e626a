"""Pages that list what the code has: they list all of it, and say the same."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import msgspec
import pytest

from schemas import bounds
from schemas.callers import PlatformLimits
from schemas.campaigns import AwardRule, Multiplier
from schemas.packaging_classes import Group
from service.api.problems import PROBLEMS
from service.domain.activities import BUILT_IN
from service.domain.conditions import NAMES
from service.domain.earning import multiplied, points_for
from service.domain.evidence import KEYWORDS
from service.domain.packaging import REFERENCE
from service.settings import PREFIX, Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the tables of a page whose first column has this heading."""
    found: list[list[str]] = []
    inside = False
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            inside = False
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[0] == heading:
            inside = True
        elif inside and not set(cells[0]) <= {"-", " "}:
            found.append(cells)
    assert found, f"{page} has no table of {heading}"
    return found


def range_of(hint: object) -> str:
    """`1–100`, `>0–60`: the range of an annotated number; empty for what has none."""
    if get_origin(hint) is not Annotated:
        return ""
    (meta,) = (m for m in get_args(hint) if isinstance(m, msgspec.Meta))
    low = f">{meta.gt}" if meta.gt is not None else str(meta.ge)
    return f"{low}–{meta.le}"


def test_the_page_of_settings_is_the_struct() -> None:
    documented = {cells[0].strip("`"): cells for cells in rows("settings.md", "variable")}
    hints = get_type_hints(Settings, include_extras=True)
    fields = {f"{PREFIX}{field.name.upper()}": field for field in msgspec.structs.fields(Settings)}
    assert list(documented) == list(fields)
    for name, field in fields.items():
        _, unit, default, range_, what = documented[name]
        assert unit
        assert what
        assert default.strip("`") == ("none" if field.default in (msgspec.NODEFAULT, "") else str(field.default)), name
        if not name.endswith("_URL"):
            assert range_ == range_of(hints[field.name]), name


def test_the_page_of_the_api_has_every_error() -> None:
    documented = {cells[0].strip("`"): cells[1] for cells in rows("api.md", "code")}
    assert documented == {code: str(status) for code, (status, _) in PROBLEMS.items()}


def test_the_page_of_the_api_has_every_bound() -> None:
    documented = {cells[2].strip("`"): cells[1] for cells in rows("api.md", "of what")}
    assert documented == {name: f"{value:,}" for name, value in vars(bounds).items() if name.isupper()}


def test_the_page_of_the_api_has_every_class_of_limits() -> None:
    documented = {cells[0].strip("`"): cells[3] for cells in rows("api.md", "class")}
    platform = [field.name for field in msgspec.structs.fields(PlatformLimits)]
    assert sorted(documented) == sorted([*platform, "me", "station", "sign_in", "anonymous"])
    numbers = {kind: re.findall(r"[\d,]+(?= a minute)", limit) for kind, limit in documented.items()}
    settings = {field.name: field.default for field in msgspec.structs.fields(Settings)}
    for kind, setting in (
        ("me", "consumer"),
        ("station", "station"),
        ("read", "operator"),
        ("write", "operator"),
        ("sign_in", "sign_in"),
        ("anonymous", "anonymous"),
    ):
        assert numbers.pop(kind) == [f"{settings[f'limit_{setting}_per_min']:,}"], kind
    assert numbers == {"credit": [], "hooks": []}


def test_the_page_of_campaigns_has_every_name() -> None:
    documented: dict[str, dict[str, str]] = {action: {} for action in NAMES}
    for name, type_, actions, *_ in rows("campaigns.md", "name"):
        for action in documented if actions == "all" else actions.split(", "):
            documented[action][name.strip("`")] = type_
    types = {action: {name: type_.name().lower() for name, type_ in names.items()} for action, names in NAMES.items()}
    assert {action: set(names) for action, names in documented.items()} == {action: set(names) for action, names in types.items()}
    words = {"text": "string", "whole number": "int", "decimal": "double", "yes or no": "bool", "time": "timestamp"}
    for action, names in documented.items():
        for name, word in names.items():
            assert types[action][name].startswith(words.get(word, word)), name


def codes(cell: str) -> list[str]:
    return re.findall(r"`([a-z0-9_]+)`", cell)


def test_the_page_of_campaigns_has_every_activity() -> None:
    documented = {cells[0].strip("`"): cells[1:] for cells in rows("campaigns.md", "activity")}
    assert list(documented) == list(BUILT_IN)
    for code, (needs, once, other) in documented.items():
        kind = BUILT_IN[code]
        assert kind.claim is not None
        assert codes(needs) == list(kind.needs), code
        assert codes(once) == [*kind.claim.keys, *([] if kind.qualified_by is None else [kind.qualified_by])], code
        assert ("for each consumer" in once) == (kind.claim.scope == "consumer"), code
        assert {*codes(needs), *codes(once), *codes(other)} == kind.schema["properties"].keys(), code


def test_the_page_of_campaigns_has_every_packaging_class() -> None:
    documented = {cells[0].strip("`"): (codes(cells[1]), codes(cells[2])) for cells in rows("campaigns.md", "group")}
    by_group: dict[str, tuple[list[str], list[str]]] = {group: ([], []) for group in get_args(Group)}
    for each in REFERENCE.values():
        by_group[each.group][0].append(each.code)
        if each.needs_asset:
            by_group[each.group][1].append(each.code)
    ordered = {group: (sorted(all_), sorted(assets)) for group, (all_, assets) in documented.items()}
    assert ordered == {group: (sorted(all_), sorted(assets)) for group, (all_, assets) in by_group.items()}


def test_the_page_of_the_api_says_what_a_schema_may_use() -> None:
    page = " ".join((DOCS / "api.md").read_text(encoding="utf-8").split())
    for keyword in ("type", "properties", "required", "additionalProperties", "items", "enum", "const"):
        assert keyword in KEYWORDS
        assert f"`{keyword}`" in page
    for keyword in ("uniqueItems", "format"):
        assert keyword not in KEYWORDS
        assert f"`{keyword}`" in page


@pytest.mark.parametrize("cells", rows("campaigns.md", "award"), ids=lambda cells: cells[0])
def test_the_worked_examples_are_right(cells: list[str]) -> None:
    award, thing, points = (cell.strip("`") for cell in cells[:3])
    rule = msgspec.json.decode(award, type=AwardRule)
    given = json.loads(thing)
    if isinstance(rule, Multiplier):
        assert multiplied(rule.factor, given["granted"]) == int(points)
        return
    decimals = {name: None if name not in given else Decimal(given[name]) for name in ("amount", "mass_g")}
    quantity = Decimal(given.get("quantity", "1"))
    assert points_for(rule, quantity=quantity, currency=given.get("currency"), **decimals) == int(points)
