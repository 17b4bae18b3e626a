"""`make faults`: a system of its own under load, faults of every kind, and the callers' journal against the ledger afterwards.

docs/faults.md says what each line of the table means. Exit code 0: nothing was lost, doubled or broken; 1: something was; 2: wrong usage.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import uvloop
from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from loadtests.faults.clients import CONSUMERS, POINTS_PER_UNIT, Callers
from loadtests.faults.journal import Journal, read_lines
from loadtests.faults.nemesis import Nemesis
from loadtests.faults.verdict import SHOWN, Ledger, Verdict, compare
from service.cli.servers import environment
from service.flows import administer
from service.local.identity import LocalError
from service.local.temporary import TemporarySystem, temporary_system
from service.settings import load_settings, sealer_of

PLATFORM = "demo-shop"
GTIN, SKU, CATEGORY = "09521234500117", "SOAK-PAPER", "soak-paper"
SHOPS, READERS, SPENDERS, GIVERS, LINKERS = 6, 4, 4, 2, 1
READY_S, SETTLED_S, RELEASED_S, CHECKED_S = 60.0, 60.0, 90.0, 60.0
LINE_S = 10.0
"""Between two lines of progress where there is no terminal."""
WATCH_S = 0.25

console = Console(highlight=False)


class Report(Struct, kw_only=True):
    """What a run found."""

    seed: int
    seconds: float
    faults: dict[str, int]
    requests: int
    acknowledged: int
    failed: int
    unknown: int
    resolved: int
    reads: int
    moves: int
    links: int
    redemptions: int | None
    """None: the system does not serve them."""
    lost: list[str]
    doubled: list[str]
    broken: list[str]
    longest_recovery_s: float
    slowest: str
    check: str

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.broken) and self.check == "clean"


class Soak:
    """One run."""

    def __init__(self, system: TemporarySystem, journal: Journal, *, seconds: float, seed: int) -> None:
        self._system, self._journal, self._seconds, self._seed = system, journal, seconds, seed
        self._nemesis = Nemesis(Path(system.environ["GREENPOINTS_DATA_DIR"]) / "up.json", seed)
        self._serves_redemptions = False

    async def run(self) -> Report:
        """Found, strike, quiesce, compare."""
        up = self._system.up
        key = next(platform for platform in up.platforms if platform.code == PLATFORM).api_key
        async with httpx.AsyncClient(base_url=up.api, limits=httpx.Limits(max_connections=64)) as client:
            callers = Callers(
                client, self._journal, self._nemesis, key=key, operator=up.operator.token, platform=PLATFORM, sku=SKU, gtin=GTIN,
                seed=self._seed,
            )  # fmt: skip
            await self._found(client)
            tokens = await self._tokens([callers.consumer(n) for n in range(READERS)])
            await self._under_fire(callers, tokens)
            await self._ready(client)
            await self._settled()
            await self._released()
            check = await self._checked()
            verdict = compare(self._journal, await self._ledger(callers))
            verdict.broken.extend(await self._as_the_api_says(callers))
        return self._report(callers, verdict, check)

    # Before

    async def _found(self, client: httpx.AsyncClient) -> None:
        """One certified product and one campaign whose worth is easily reckoned; the demo's campaigns end."""
        headers = {"Authorization": f"Bearer {self._system.up.operator.token}"}

        async def post(path: str, body: object = None) -> None:
            answer = await client.post(path, json=body, headers=headers, timeout=30)
            if answer.status_code not in (200, 201):
                raise SystemExit(f"faults: {path} was answered {answer.status_code}: {answer.text}")

        await post("/v1/products", {"gtin": GTIN, "name": "Paper", "category": CATEGORY, "skus": [{"platform": PLATFORM, "sku": SKU}]})
        for campaign in (await client.get("/v1/campaigns", headers=headers)).json()["items"]:
            await post(f"/v1/campaigns/{campaign['code']}/end")
        await post("/v1/campaigns", {
            "code": "soak", "name": "Soak", "action": "purchase", "when": f"line.category == '{CATEGORY}'",
            "starts_at": "2025-01-01T00:00:00Z", "ends_at": "2035-01-01T00:00:00Z",
            "award": {"kind": "per_unit", "points": POINTS_PER_UNIT}, "hold": "PT0S", "expires_after": "P12M",
            "caps": {"consumer_day": 10**12}, "budget": {"points": 10**14, "per_day": 10**13},
        })  # fmt: skip
        await post("/v1/campaigns/soak/activate")
        policy = {"transfers": {"enabled": True, "per_transfer": 1_000, "per_day": 1_000_000}}
        answer = await client.patch("/v1/points-policy", json=policy, headers=headers, timeout=30)
        if answer.status_code != 200:
            raise SystemExit(f"faults: the points policy was answered {answer.status_code}: {answer.text}")
        paths = (await client.get("/openapi.json", timeout=30)).json()["paths"]
        self._serves_redemptions = "/v1/redemptions" in paths

    async def _tokens(self, consumers: list[str]) -> list[str]:
        settings = load_settings(environment(self._system.environ))
        connection = await asyncpg.connect(settings.database_url)
        try:
            return [
                await administer.consumer_token(
                    connection, sealer=sealer_of(settings), platform=PLATFORM, consumer=consumer, scope="balance:read",
                    ttl=timedelta(hours=24),
                )
                for consumer in consumers
            ]  # fmt: skip
        finally:
            await connection.close()

    # Under fire

    async def _under_fire(self, callers: Callers, tokens: list[str]) -> None:
        works = [callers.shop(n) for n in range(SHOPS)] + [callers.read(n, token) for n, token in enumerate(tokens)]
        if self._serves_redemptions:
            works += [callers.spend(n) for n in range(SPENDERS)] + [callers.give() for _ in range(GIVERS)]
            works += [callers.link() for _ in range(LINKERS)]
        tasks = [asyncio.create_task(work) for work in works]
        telling = asyncio.create_task(self._tell())
        try:
            await self._nemesis.strike(time.monotonic() + self._seconds)
        finally:
            self._nemesis.heal()
            callers.stopping = True
            telling.cancel()
        await asyncio.gather(*tasks)

    async def _tell(self) -> None:
        """A bar on a terminal, a line now and then otherwise."""
        begun = time.monotonic()
        if sys.stderr.isatty():
            columns = (TextColumn("faults"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
            with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
                task = progress.add_task("", total=self._seconds)
                while True:
                    progress.update(task, completed=time.monotonic() - begun, description=self._line())
                    await asyncio.sleep(WATCH_S)
        while True:
            await asyncio.sleep(LINE_S)
            print(f"{time.monotonic() - begun:5.0f} of {self._seconds:.0f} s: {self._line()}", file=sys.stderr, flush=True)

    def _line(self) -> str:
        journal = self._journal
        return f"{self._nemesis.faults.total()} faults, {journal.count('ok'):,} acknowledged, {journal.count('unknown'):,} unknown"

    # Afterwards

    async def _ready(self, client: httpx.AsyncClient) -> None:
        end = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get("/readyz", timeout=2)).status_code == 200:
                    return
            if time.monotonic() > end:
                raise LocalError(f"the system was not ready within {READY_S:.0f} s after the last fault")
            await asyncio.sleep(WATCH_S)

    async def _settled(self) -> None:
        """Until nothing is on hold any more."""
        end = time.monotonic() + SETTLED_S
        while True:
            left = await self._fetch("SELECT count(*) FROM due WHERE due_at <= now()")
            if left[0][0] == 0:
                return
            if time.monotonic() > end:
                self._journal.broken.append(f"{left[0][0]} events had not settled {SETTLED_S:.0f} s after the last fault")
                return
            await asyncio.sleep(WATCH_S)

    async def _released(self) -> None:
        """Until no reservation is open any more: those that nobody ended have come to their end."""
        end = time.monotonic() + RELEASED_S
        while (left := (await self._fetch("SELECT count(*) FROM reservation_due"))[0][0]) > 0:
            if time.monotonic() > end:
                self._journal.broken.append(f"{left} reservations were not released {RELEASED_S:.0f} s after the last fault")
                return
            await asyncio.sleep(WATCH_S)

    async def _checked(self) -> str:
        """What `greenpoints check` says once Redis has had time to catch up: `clean`, or the rules that are broken."""
        end = time.monotonic() + CHECKED_S
        while True:
            done = await asyncio.to_thread(self._system.command, "check", "--json")
            if done.returncode == 0:
                return "clean"
            if time.monotonic() > end:
                with contextlib.suppress(ValueError, KeyError):
                    return ", ".join(f"{i['name']}: {i['broken']}" for i in json.loads(done.stdout)["invariants"] if not i["ok"])
                return (done.stderr or done.stdout).strip()[-500:]
            await asyncio.sleep(1)

    async def _fetch(self, sql: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self._system.up.database_url)
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()

    async def _ledger(self, callers: Callers) -> Ledger:
        like = f"{callers.run}-%"
        events = await self._fetch(
            "SELECT id, points FROM event WHERE id LIKE $1 UNION ALL SELECT id, 0 FROM parked WHERE id LIKE $1", like
        )
        accounts = await self._fetch(
            "SELECT r.reference, a.pending + a.available + a.reserved - a.debt, a.reserved FROM account a "
            "JOIN consumer_reference r ON r.bucket = a.bucket AND r.account = a.id WHERE r.reference LIKE $1",
            f"soak-{callers.run}-%",
        )
        return Ledger(
            events=[(row[0], row[1]) for row in events],
            balances={row[0]: row[1] for row in accounts},
            redemptions=await self._redemptions(callers),
            reserved={row[0]: row[2] for row in accounts},
            moves={row[0] for row in await self._fetch("SELECT id FROM consumer_transfer UNION ALL SELECT number::text FROM adjustment")},
            persons={callers.consumer(n): callers.person(n) for n in range(CONSUMERS)},
        )

    async def _redemptions(self, callers: Callers) -> dict[str, tuple[str, int]]:
        """Status and captured points of each acknowledged redemption, as the API says."""
        found = {}
        for redemption in self._journal.redemptions.values():
            if redemption.id is not None:
                answer = await callers.ask("GET", f"/v1/redemptions/{redemption.id}")
                if answer.outcome == "ok":
                    found[redemption.id] = (answer.body["status"], answer.body["captured"] - answer.body["refunded"])
        return found

    async def _as_the_api_says(self, callers: Callers) -> list[str]:
        """Balances that the API reads are those of the book."""
        rows = await self._fetch(
            "SELECT r.reference, a.pending, a.available, a.reserved, a.debt, a.version FROM consumer_reference r "
            "JOIN account own ON own.bucket = r.bucket AND own.id = r.account JOIN account a ON a.id = coalesce(own.home, own.id) "
            "WHERE r.reference LIKE $1",
            f"soak-{callers.run}-%",
        )
        wrong = []
        for row in rows:
            answer = await callers.ask("GET", f"/v1/consumers/{row[0]}/balance")
            read = [(answer.body or {}).get(name) for name in ("pending", "available", "reserved", "debt", "version")]
            if read != list(row[1:]):
                wrong.append(f"{row[0]}: the API reads {read}, the book says {list(row[1:])}")
        return wrong

    def _report(self, callers: Callers, verdict: Verdict, check: str) -> Report:
        journal, lines = self._journal, read_lines(self._journal.path)
        told = {id_ for line in lines if line["what"] == "ok" for id_ in (line.get("acknowledged") or [line.get("id")])}
        if missing := {event.id for event in journal.events.values() if event.outcome == "ok"} - told:
            verdict.broken.append(f"the journal on disk lacks {len(missing)} acknowledgements")
        return Report(
            seed=self._seed, seconds=self._seconds, faults=dict(sorted(self._nemesis.faults.items())), requests=journal.requests,
            acknowledged=journal.count("ok"), failed=journal.count("failed"), unknown=journal.count("unknown"), resolved=journal.resolved,
            reads=callers.reads, moves=len(journal.moves), links=callers.links["ok"],
            redemptions=len(journal.redemptions) if self._serves_redemptions else None, lost=verdict.lost,
            doubled=verdict.doubled, broken=verdict.broken, longest_recovery_s=round(self._nemesis.longest_recovery_s, 2),
            slowest=self._nemesis.slowest, check=check,
        )  # fmt: skip


def show(report: Report) -> None:
    """The table, and what is wrong in words."""
    table = Table("what", "how much", title=f"{report.seconds:.0f} s of faults, seed {report.seed}")
    for kind, times in report.faults.items():
        table.add_row(kind, f"{times:,}")
    table.add_section()
    spent = "not served" if report.redemptions is None else f"{report.redemptions:,}"
    for what, value in (
        ("faults injected", f"{sum(report.faults.values()):,}"), ("requests", f"{report.requests:,}"), ("reads", f"{report.reads:,}"),
        ("redemptions", spent), ("transfers and adjustments", f"{report.moves:,}"),
        ("links and their ends", f"{report.links:,}"),
        ("acknowledged", f"{report.acknowledged:,}"), ("failed", f"{report.failed:,}"),
        ("unknown at first, resolved by a repeat", f"{report.resolved:,}"), ("unknown to the end", f"{report.unknown:,}"),
        ("lost", f"{len(report.lost):,}"), ("doubled", f"{len(report.doubled):,}"), ("broken otherwise", f"{len(report.broken):,}"),
        ("longest recovery", f"{report.longest_recovery_s:.2f} s ({report.slowest or 'none'})"), ("greenpoints check", report.check),
    ):  # fmt: skip
        table.add_row(what, value)
    console.print(table)
    for line in [*report.lost, *report.doubled, *report.broken][: SHOWN * 3]:
        console.print(f"  {line}", markup=False)


@contextlib.contextmanager
def _journal(path: Path | None) -> Iterator[Journal]:
    with tempfile.TemporaryDirectory(prefix="greenpoints-journal-") as folder:
        journal = Journal(path or Path(folder) / "journal.ndjson")
        try:
            yield journal
        finally:
            journal.close()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="make faults", description="Strike at a system of its own under load; see docs/faults.md.")
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to strike (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of what is struck when, and of the load (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, too")
    parser.add_argument("--journal", type=Path, default=None, help="keep the callers' journal in this file")
    arguments = parser.parse_args()
    if not 1 <= arguments.seconds <= 86_400:
        parser.error("--seconds must be between 1 and 86400")
    try:
        with (
            temporary_system(console, "--api-processes", "2", "--workers", "2", LIMIT_CONSUMER_PER_MIN="0", FRAUD_MODE="shadow") as system,
            _journal(arguments.journal) as journal,
        ):
            report = uvloop.run(Soak(system, journal, seconds=arguments.seconds, seed=arguments.seed).run())
    except LocalError as error:
        print(f"faults: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("faults: interrupted; nothing was compared", file=sys.stderr)
        return 1
    show(report)
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
