"""`python -m loadtests.fraud`: the fraud checks on simulated traffic. Exit code 0: every bar was met, 1: one was not, 2: wrong usage."""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from loadtests.fraud.evaluate import Run, run
from loadtests.fraud.report import BARS, figures, show
from loadtests.traffic.patterns import PATTERNS
from loadtests.traffic.simulation import Traffic
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.signals import NAMES
from service.domain.fraud.tuning import Report, Row, tune

TUNING_SEEDS: Final = range(1_000)
"""Seeds below are for tuning, those from there on for evaluation (docs/fraud-traffic.md)."""
UNKNOWN_RECALL: Final = 0.5
"""The issue's aim for patterns that tuning has not seen."""
UNKNOWN_ROUNDS: Final = 40
Labelled = list[tuple[str | None, Row]]
PARTS: Final = 2
"""A small world of many patterns has small rings: with half of the patterns and twice the fraud they are four times as large."""
PASSES: Final = 2
"""Of tuning: what an event inherits depends on the verdicts before it, so that the rows of the tuned model differ from the first ones."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the exit code."""
    wanted = _parser().parse_args(arguments)
    console = Console(highlight=False, stderr=wanted.json)
    unknown = {*(wanted.without or ())} - PATTERNS.keys()
    if unknown or any(seed in TUNING_SEEDS for seed in wanted.seed) or any(seed not in TUNING_SEEDS for seed in wanted.tune):
        console.print("patterns must exist; seeds below 1000 are for --tune, those from 1000 on for --seed")
        return 2
    if wanted.without == []:
        wanted.without = sorted(PATTERNS)
    result: dict[str, Any] = {}
    if wanted.without:
        result["unknown_patterns"] = recalls = _unknown(console, wanted)
        result["met"] = all(recall >= UNKNOWN_RECALL for recall in recalls.values())
    else:
        model = _model(console, wanted)
        runs = {seed: figures(_run(wanted, seed, model)) for seed in wanted.seed}
        for seed, found in runs.items():
            show(console, f"seed {seed}", found)
        result["seeds"] = runs
        result["met"] = all(_met(found) for found in runs.values())
    if wanted.json:
        print(json.dumps(result, indent=1))
    return 0 if result["met"] else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtests.fraud", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="a seed, about")
    parser.add_argument("--tune-events", type=int, default=100_000, help="a seed of --tune, about")
    parser.add_argument("--fraud", type=float, default=0.01, help="share of fraudulent points")
    parser.add_argument("--seed", type=int, nargs="+", default=[1_000], help="to evaluate on; 1000 and above")
    parser.add_argument("--tune", type=int, nargs="*", default=[], metavar="SEED", help="fit a model to these first; below 1000")
    parser.add_argument(
        "--tune-parts", type=int, default=PARTS, help="each world has one pattern of so many, and so much more fraud of it: larger rings"
    )
    parser.add_argument("--cache", type=Path, help="a folder for rows to tune on, between runs; empty it when a check changes")
    parser.add_argument("--passes", type=int, default=PASSES, help="of tuning")
    parser.add_argument("--model", type=Path, help="a model as JSON to start from")
    parser.add_argument("--save", type=Path, help="where the tuned model goes")
    parser.add_argument("--without", nargs="*", metavar="PATTERN", help="leave these out of tuning, one after the other; none named: each")
    parser.add_argument("--json", action="store_true", help="figures as JSON on stdout")
    return parser


def _run(wanted: argparse.Namespace, seed: int, model: Model) -> Run:
    return run(Traffic(events=wanted.events, seed=seed, fraud=wanted.fraud), model)


def _start(wanted: argparse.Namespace) -> Model:
    return Model() if wanted.model is None else msgspec.json.decode(wanted.model.read_bytes(), type=Model)


def _rows(wanted: argparse.Namespace, model: Model) -> Labelled:
    """What to tune on: every world at its own share of patterns. Nothing is held, so that every score moves as far as it can."""
    rows: Labelled = []
    for number, seed in enumerate(wanted.tune):
        rows += _world(wanted, model, seed, number)
    return rows


def _world(wanted: argparse.Namespace, model: Model, seed: int, number: int) -> Labelled:
    parts = wanted.tune_parts
    key = f"{seed}-{number}-{parts}-{wanted.tune_events}-{wanted.fraud}-{NAMES}-{msgspec.json.encode(model, order='sorted').decode()}"
    kept = wanted.cache and wanted.cache / f"{seed}-{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}.rows"
    if kept and kept.exists():
        return msgspec.msgpack.decode(kept.read_bytes(), type=Labelled)
    rows: Labelled = []
    traffic = Traffic(events=wanted.tune_events, seed=seed, fraud=wanted.fraud * parts, patterns=sorted(PATTERNS)[number % parts :: parts])
    run(traffic, model, rows=rows, world=number // parts)
    if kept:
        kept.write_bytes(msgspec.msgpack.encode(rows))
    return rows


def _model(console: Console, wanted: argparse.Namespace) -> Model:
    model = _start(wanted)
    for _ in range(wanted.passes if wanted.tune else 0):
        model, report = tune([row for _, row in _rows(wanted, model)], start=model, share=wanted.fraud)
        _say(console, report)
    if wanted.save is not None:
        wanted.save.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=1) + b"\n")
    return model


def _unknown(console: Console, wanted: argparse.Namespace) -> dict[str, float]:
    """Recall by value of each pattern at a model that was fitted without it.

    History is what the model that tuning starts from passed on; the hand-made one has seen no labels at all.
    """
    start = _start(wanted)
    known, others = _rows(wanted, start), Labelled()
    for seed in wanted.seed:
        run(Traffic(events=wanted.events, seed=seed, fraud=wanted.fraud), start, rows=others)
    recalls: dict[str, float] = {}
    for name in wanted.without:
        model, _ = tune([row for pattern, row in known if pattern != name], start=start, share=wanted.fraud, rounds=UNKNOWN_ROUNDS)
        judge = Judge(model)
        tried = [row for pattern, row in others if pattern == name]
        points = sum(row.points for row in tried)
        if points:
            held = sum(row.points for row in tried if judge.decide(row.strengths, kind=row.kind).outcome != "pass")
            recalls[name] = round(held / points, 4)
            console.print(f"left out of tuning: {name}: recall by value {held / points:.3f} of {points:,} points")
    return recalls


def _say(console: Console, report: Report) -> None:
    console.print(
        f"tuned on {report.rows:,} distinct rows: loss {report.loss_before:.5f} → {report.loss:.5f}, hold from {report.hold_bp} bp,"
        f" recall {report.recall:.3f}, precision {report.precision:.3f}, honest held {report.honest_held:.5f}"
    )
    changed = {name: f"{before:.1f}→{after:.1f}" for name, (before, after) in report.weights.items() if abs(after - before) > 0.5}
    console.print("weights:", changed)


def _met(found: dict[str, Any]) -> bool:
    return all(found[name] >= limit if least else found[name] <= limit for name, (limit, least) in BARS.items())


if __name__ == "__main__":
    sys.exit(main())
