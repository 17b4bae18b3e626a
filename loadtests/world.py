"""What the benchmarks credit: a campaign of each family with caps and budget, certified goods, thirty thousand returning consumers."""

import contextlib
import itertools
import json
import os
import signal
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx

from service.local.temporary import TemporarySystem

GTIN = "09521234500117"
SKU = "BENCH-PAPER"
CATEGORY = "bench-paper"
CONSUMERS = 30_000
MEET_AT_ONCE = 3_000
PLATFORM = "demo-shop"
WHEN = {
    "purchase": f"line.certified && line.category == '{CATEGORY}'",
    "packaging": "packaging.class == 'circular_box' && platform.code == 'bench'",
    "return": "item.class == 'circular_box' && platform.code == 'bench'",
    "activity": "activity.name == 'refill' && platform.code == 'bench'",
}


class World:
    """Bodies to send; each event has an id and an order of its own."""

    def __init__(self, system: TemporarySystem, operator: httpx.Client) -> None:
        self.system = system
        self.operator = operator
        self.key = next(p for p in system.up.platforms if p.code == PLATFORM).api_key
        self._numbers = itertools.count(1)
        self._run = uuid.uuid4().hex[:6]

    @classmethod
    @contextlib.contextmanager
    def made(cls, system: TemporarySystem) -> "Iterator[World]":
        """Register the goods and start the campaigns."""
        with httpx.Client(base_url=system.up.api, headers={"authorization": f"Bearer {system.up.operator.token}"}, timeout=30) as operator:
            world = cls(system, operator)
            world._found()
            yield world

    def _found(self) -> None:
        self._post("/v1/products", {"gtin": GTIN, "name": "Paper", "category": CATEGORY, "skus": [{"platform": PLATFORM, "sku": SKU}]})
        certificate = {
            "scheme": "eu-ecolabel",
            "number": "IT/016/900",
            "holder": "Mill",
            "valid_from": "2025-01-01",
            "valid_until": "2035-12-31",
        }
        self._post("/v1/certificates", certificate | {"gtins": [GTIN]})
        for code in [c["code"] for c in self.operator.get("/v1/campaigns").json()["items"]]:
            self._post(f"/v1/campaigns/{code}/end", None)  # the demo's: one campaign per family is what is measured
        for action, when in WHEN.items():
            code = f"bench-{action}"
            self._post("/v1/campaigns", {
                "code": code, "name": code, "action": action, "when": when,
                "starts_at": "2025-01-01T00:00:00Z", "ends_at": "2035-01-01T00:00:00Z",
                "award": {"kind": "per_unit", "points": 10}, "hold": "P14D", "expires_after": "P12M",
                "caps": {"order": 500, "consumer_day": 100_000, "consumer_year": 1_000_000},
                "budget": {"points": 10**12, "per_day": 10**11},
            })  # fmt: skip
            self._post(f"/v1/campaigns/{code}/activate", None)
        self._meet_everybody()

    def _meet_everybody(self) -> None:
        """Each consumer's account is opened, and known to the process: what is measured are people who come back."""
        with httpx.Client(base_url=self.system.up.api, headers={"authorization": f"Bearer {self.key}"}, timeout=60) as platform:
            for _ in range(0, CONSUMERS, MEET_AT_ONCE):
                answer = platform.post("/v1/events/batch", content=self.batch(MEET_AT_ONCE), headers={"content-type": "application/json"})
                answer.raise_for_status()

    def _post(self, path: str, body: dict[str, Any] | None) -> None:
        answer = self.operator.post(path, json=body) if body is not None else self.operator.post(path)
        if answer.status_code not in (200, 201, 204):
            raise SystemExit(f"bench: {path} was answered {answer.status_code}: {answer.text}")

    def event(self) -> bytes:
        """One order.paid of a certified line."""
        return json.dumps(self._event()).encode()

    def batch(self, size: int) -> bytes:
        """A JSON array of them."""
        return json.dumps([self._event() for _ in range(size)]).encode()

    def _event(self) -> dict[str, Any]:
        number = next(self._numbers)
        order = f"{self._run}-{number}"
        return {
            "id": f"{order}:paid", "type": "order.paid", "occurred_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "consumer": f"consumer-{number * 7_919 % CONSUMERS}", "order": {"id": order, "currency": "CNY", "total": "78.00"},
            "lines": [
                {"id": "1", "sku": SKU, "gtin": GTIN, "quantity": "2", "unit_price": "39.00", "category": "paper", "merchant": "m-7"}
            ],
            "attributes": {"channel": "app"},
        }  # fmt: skip

    def fund(self, points: int) -> None:
        """Points for everybody, to be spent at once: taken over as from another system."""
        with httpx.Client(base_url=self.system.up.api, headers={"authorization": f"Bearer {self.key}"}, timeout=120) as platform:
            for start in range(0, CONSUMERS, MEET_AT_ONCE):
                rows = [
                    {"id": f"{self._run}-{n}", "consumer": f"consumer-{n}", "points": points, "expires_on": None}
                    for n in range(start, start + MEET_AT_ONCE)
                ]
                platform.post("/v1/consumers/import", json=rows).raise_for_status()

    def redemption(self, consumer: int | None = None) -> tuple[str, bytes]:
        """An Idempotency-Key and a body: one point of a consumer (None: the next one) is spent at once."""
        number = next(self._numbers)
        who = number * 7_919 % CONSUMERS if consumer is None else consumer
        body = {"consumer": f"consumer-{who}", "points": 1, "reference": f"{self._run}-{number}", "capture": True}
        return f"{self._run}-{number}", json.dumps(body).encode()

    def consumer_token(self, system: TemporarySystem) -> str:
        """A token of the consumer of the first event."""
        made = system.command("token", "--platform", PLATFORM, "--consumer", "consumer-7919")
        return made.stdout.strip()

    def stop_worker(self) -> None:
        """Pause the workers, so that settling is measured in one process."""
        for pid in self.system.up.pids.worker:
            os.kill(pid, signal.SIGSTOP)
