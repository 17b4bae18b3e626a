"""A run in tables and as JSON."""

from collections.abc import Mapping
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from loadtests.fraud.evaluate import RingRun, Run, at_precision, pr_auc
from service.domain.fraud.signals import NAMES

BARS: Final[Mapping[str, tuple[float, bool]]] = {
    "recall_by_value": (0.90, True), "precision_by_value": (0.95, True), "honest_events_held": (0.003, False),
    "rings_half_found_before_20_percent": (0.5, True), "events_per_second": (5_000, True),
}  # fmt: skip
"""The issue's: at least (True) or at most."""


def _share(part: float, whole: float) -> float:
    return round(part / whole, 5) if whole else 0.0


def figures(result: Run) -> dict[str, Any]:
    """All figures of a run. Shares are 0 to 1, times in hours, `…_by_value` by points."""
    rings = [ring for ring in result.rings.values() if ring.tried]
    held_points = result.fraud_points_held + result.honest_points_held
    return {
        "events": result.events, "fraud_share_by_value": _share(result.fraud_points, result.fraud_points + result.honest_points),
        "recall_by_value": _share(result.fraud_points_held, result.fraud_points),
        "recall_on_arrival": _share(result.fraud_points_arrival, result.fraud_points),
        "recall_with_clawback": _share(result.fraud_points_held + result.fraud_points_late, result.fraud_points),
        "precision_by_value": _share(result.fraud_points_held, held_points),
        "precision_with_clawback": _share(
            result.fraud_points_held + result.fraud_points_late, held_points + result.fraud_points_late + result.honest_points_late
        ),
        "recall_by_event": _share(result.fraud_held, result.fraud_events),
        "precision_by_event": _share(result.fraud_held, result.fraud_held + result.honest_held),
        "pr_auc_by_value": round(pr_auc(result), 4), "recall_at_precision_95": round(at_precision(result, 0.95), 4),
        "honest_events_held": _share(result.honest_held, result.honest_events),
        "honest_points_held": _share(result.honest_points_held, result.honest_points),
        "points_lost": result.fraud_points - result.fraud_points_held,
        "points_lost_before_detection": sum(ring.credited(ring.found) for ring in rings),
        **_rings(rings),
        "events_per_second": round(result.events / result.seconds) if result.seconds else 0,
        "pace": [(events, round(pace)) for events, pace in result.paces],
        "patterns": {name: _pattern([r for r in rings if r.pattern == name]) for name in sorted({r.pattern for r in rings})},
        "honest_held_by": {NAMES[i]: n for i, n in sorted(result.fired_on_honest.items(), key=lambda item: -item[1])},
    }  # fmt: skip


def _rings(rings: list[RingRun]) -> dict[str, Any]:
    before = [_share(ring.credited(ring.found), ring.tried) for ring in rings]
    half = [_share(ring.credited(ring.half_found), ring.tried) for ring in rings]
    found = [(ring.found - ring.started) / 3_600 for ring in rings if ring.found is not None]
    return {
        "rings": len(rings), "rings_found": len(found), "hours_to_detection_median": round(median(found), 1) if found else None,
        "credited_before_found_median": median(before) if before else None,
        "rings_found_before_20_percent": _share(sum(share < 0.2 for share in before), len(rings)),
        "rings_half_found_before_20_percent": _share(sum(share < 0.2 for share in half), len(rings)),
    }  # fmt: skip


def _pattern(rings: list[RingRun]) -> dict[str, Any]:
    tried = sum(ring.tried for ring in rings)
    lost = sum(ring.credited() for ring in rings)
    return {
        "points": tried, "recall_by_value": _share(tried - lost, tried),
        "lost_before_detection": sum(ring.credited(ring.found) for ring in rings),
        **_rings(rings),
    }  # fmt: skip


def show(console: Console, title: str, found: Mapping[str, Any]) -> None:
    """Print figures: the bars first, then the rest, then the patterns."""
    table = Table(title=title, title_justify="left")
    for column in ("figure", "value", "bar"):
        table.add_column(column)
    for name, value in found.items():
        if name in {"patterns", "honest_held_by", "pace"}:
            continue
        bar = ""
        if name in BARS:
            limit, least = BARS[name]
            met = value >= limit if least else value <= limit
            bar = f"{'≥' if least else '≤'} {limit:g} {'met' if met else 'MISSED'}"
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value), bar)
    console.print(table)
    patterns = Table(title="by pattern")
    for column in ("pattern", "rings", "found", "points", "recall", "lost before", "hours", "credited before found", "half before 20 %"):
        patterns.add_column(column)
    for name, row in found["patterns"].items():
        patterns.add_row(
            name, str(row["rings"]), str(row["rings_found"]), f"{row['points']:,}", f"{row['recall_by_value']:.3f}",
            f"{row['lost_before_detection']:,}", str(row["hours_to_detection_median"]), str(row["credited_before_found_median"]),
            f"{row['rings_half_found_before_20_percent']:.2f}",
        )  # fmt: skip
    console.print(patterns)
    console.print("honest events held, by what weighed most:", dict(list(found["honest_held_by"].items())[:8]))
    if found["pace"]:
        console.print("events a second, by events so far:", found["pace"])
