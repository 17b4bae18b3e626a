"""The story: what shops send, what they are answered, what is left at the end. A method for each chapter, in their order."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

from schemas.checks import Report
from service.flows.demo import CAMPAIGNS, PLATFORMS
from service.local.demo import payloads, picture
from service.local.demo.client import Client
from service.local.identity import LocalError
from service.local.temporary import TemporarySystem
from service.store import book
from service.store.book import BookSum

SETTLE_TIMEOUT_S = 30.0
POLL_S = 0.2
LAMP_GTIN, LAMP_SKU = "09521234500049", "DEMO-LAMP"
SHOWN_OF_BATCH = 4


class Story:
    """One telling on one system. Every method raises LocalError where an answer is not what the story has."""

    def __init__(self, system: TemporarySystem, console: Console) -> None:
        platforms = {platform.code: platform for platform in system.up.platforms}
        shop, market = (platforms[code] for code in PLATFORMS)
        self._system = system
        self._console = console
        self._hooks = shop.hooks
        self._shop = Client(system.up.api, shop.api_key)
        self._market = Client(system.up.api, market.api_key)
        self._operator = Client(system.up.api, system.up.operator.token)
        self._nobody = Client(system.up.api)
        self._order = payloads.meis_order(_now())
        self._chapters = 0

    def tell(self) -> int:
        """The whole story; the exit code of the check at its end."""
        self._print(f"A temporary system is up at {self._system.up.api}; nothing of it stays.")
        self._plain_call()
        self._repeat()
        self._standard_webhook()
        self._shopify_order()
        self._forgery()
        self._batch()
        self._expired_certificate()
        self._refund_on_hold()
        self._settlement()
        self._refund_of_settled_points()
        self._consumer_looks()
        self._picture()
        return self._check()

    # Chapters

    def _plain_call(self) -> None:
        self._chapter("An order, by a plain API call", "Mei buys two packs of certified tissue and a cup, shipped without an outer box.")
        answer = self._shop.post("/v1/events", self._order, expect=201).body
        self._happened("POST /v1/events", 201, _points(answer))
        self._explain(answer)

    def _repeat(self) -> None:
        self._chapter("The same again", "Networks repeat things. An id counts once; used for something else, it is refused.")
        again = self._shop.post("/v1/events", self._order, expect=200)
        replayed = again.headers.get("idempotency-replayed", "missing")
        self._happened("POST /v1/events", 200, f"{_points(again.body)}: the first answer (Idempotency-Replayed: {replayed})")
        changed = self._order | {"consumer": "somebody-else"}
        self._happened("POST /v1/events", 409, self._shop.post("/v1/events", changed, expect=409).body["detail"])

    def _standard_webhook(self) -> None:
        self._chapter(
            "Packaging comes back, by a signed Standard Webhook",
            "An order left in three circular boxes, and Mei returns them; the shop signs what it says. A box earns once per trip.",
        )
        for event in payloads.boxes_shipped(_now()):
            answer = self._shop.post("/v1/events", event, expect=201).body
            self._happened("POST /v1/events", 201, f"{event['type']}: {_points(answer)}")
        hook, now = self._hooks["standard"], _now()
        body = msgspec.json.encode(payloads.boxes_returned(now))
        headers = payloads.standard_headers(hook.secret, "msg_demo_7", body, now)
        for what in ("POST /v1/hooks/…", "delivered once more"):
            answer = self._nobody.post(f"/v1/hooks/{hook.id}", body, headers=headers, expect=200).body
            self._happened(what, 200, _events(answer))

    def _shopify_order(self) -> None:
        self._chapter(
            "A Shopify order, with its HMAC",
            "Shopify names goods by SKU and customers by number; the registry knows which SKU is certified.",
        )
        answer = self._shopify("orders/paid", payloads.shopify_order(_now()))
        self._happened("POST /v1/hooks/…", 200, _events(answer))
        self._explain(self._shop.get(f"/v1/events/{answer['events'][0]['id']}").body)

    def _forgery(self) -> None:
        self._chapter("A forgery", "The same order, signed by somebody who does not know the secret.")
        answer = self._shopify("orders/paid", payloads.shopify_order(_now()), secret="a guess", expect=401)  # noqa: S106 - it is wrong
        self._happened("POST /v1/hooks/…", 401, f"{answer['detail']}; nothing has changed")

    def _batch(self) -> None:
        self._chapter(
            "Five hundred orders at once, as NDJSON",
            "One of them is wrong: its time has no offset. It stops none of the others. "
            "(No shop has this within a second: the fraud checks of the demo look on only.)",
        )
        headers = {"Content-Type": "application/x-ndjson"}
        answer = self._market.post("/v1/events/batch", payloads.batch(_now()), headers=headers, expect=200).body
        counts = ", ".join(f"{answer[name]} {name}" for name in ("accepted", "duplicates", "rejected"))
        self._happened("POST /v1/events/batch", 200, counts)
        error = answer["results"][payloads.WITHOUT_OFFSET]
        self._detail(f"event {payloads.WITHOUT_OFFSET}: {error['code']}, {error['detail']}")
        results = [result for result in answer["results"] if "awards" in result]
        cut = [award for result in results for award in result["awards"] if "cut from" in award["reason"]]
        stopped = sum(refusal["code"] == "cap_reached" for result in results for refusal in result["refused"])
        self._detail(f"1,000 points a day are the cap: {len(cut)} awards were cut to it, {stopped} refused")
        if cut:
            self._detail(cut[0]["reason"])

    def _expired_certificate(self) -> None:
        self._chapter(
            "A certificate that has expired",
            "The shop cannot call goods certified; the registry says whether they were when they were bought.",
        )
        today = _now().date()
        lamp = {"gtin": LAMP_GTIN, "name": "Lamp", "category": "demo-household", "skus": [{"platform": "demo-shop", "sku": LAMP_SKU}]}
        self._operator.post("/v1/products", lamp, expect=201)
        certificate = {
            "scheme": "eu-ecolabel", "number": "IT/004/95213", "holder": "Demo Lamp Works", "gtins": [LAMP_GTIN],
            "valid_from": str(today - timedelta(days=400)), "valid_until": str(today - timedelta(days=35)),
        }  # fmt: skip
        self._operator.post("/v1/certificates", certificate, expect=201)
        line = {"id": "1", "sku": LAMP_SKU, "quantity": "1", "unit_price": "129.00"}
        event = payloads.order("demo-1003", consumer=payloads.MEI, now=_now(), lines=[line], total="129.00")
        answer = self._shop.post("/v1/events", event, expect=201).body
        self._happened("POST /v1/events", 201, _points(answer))
        self._explain(answer)

    def _refund_on_hold(self) -> None:
        self._chapter("A refund while the points are on hold", "Shopify reports that one of the three pieces of soap went back.")
        self._happened("POST /v1/hooks/…", 200, _events(self._shopify("refunds/create", payloads.shopify_refund(_now()))))

    def _settlement(self) -> None:
        self._chapter("The hold ends", "Five seconds in the demo, two weeks unless a campaign says otherwise. A worker writes the ledger.")
        pending = self._sum("points_pending")
        self._detail(f"pending  {picture.bar(pending, pending)} {pending:,}")
        began = time.monotonic()
        with self._console.status("waiting for the workers"):
            while self._sum("points_pending"):
                if time.monotonic() - began > SETTLE_TIMEOUT_S:
                    raise LocalError(f"the workers did not settle within {SETTLE_TIMEOUT_S:.0f} s")
                time.sleep(POLL_S)
        settled = self._sum("points_settled")
        self._detail(f"settled  {picture.bar(settled, settled)} {settled:,}")

    def _refund_of_settled_points(self) -> None:
        self._chapter(
            "A refund after that", "Mei gives one of the two packs of tissue back: its points are taken from the parcel that they came in."
        )
        answer = self._shop.post("/v1/events", payloads.meis_refund(_now()), expect=201).body
        self._happened("POST /v1/events", 201, _points(answer))
        for award in answer["awards"]:
            self._detail(award["reason"])

    def _consumer_looks(self) -> None:
        self._chapter("Mei looks", "With a token that the shop signed for her; no other secret.")
        made = self._system.command("token", "--platform", "demo-shop", "--consumer", payloads.MEI)
        if made.returncode:
            raise LocalError(made.stderr.strip())
        me = Client(self._system.up.api, made.stdout.strip())
        balance = me.get("/v1/me/balance").body
        self._happened("GET /v1/me/balance", 200, ", ".join(f"{name} {balance[name]:,}" for name in ("available", "pending", "debt")))
        for item in me.get("/v1/me/activity").body["items"]:
            self._detail(f"{item['points']:+4d}  {item['reason']}")

    def _picture(self) -> None:
        self._chapter("What is left", "Balances as consumers see them, campaigns as operators do, the ledger as an auditor does.")
        shown = [
            (consumer, self._shop.get(f"/v1/consumers/{consumer}/balance").body)
            for consumer in (payloads.MEI, str(payloads.SHOPIFY_CUSTOMER))
        ]
        for i in range(SHOWN_OF_BATCH):
            consumer = payloads.batch_consumer(i)
            shown.append((consumer, self._market.get(f"/v1/consumers/{consumer}/balance").body))
        self._console.print()
        picture.show_balances(self._console, shown)
        self._console.print(f"… and {payloads.BATCH_CONSUMERS - SHOWN_OF_BATCH} more of the batch\n", style="dim")
        picture.show_campaigns(self._console, self._statistics())
        self._console.print()
        picture.show_book(self._console, asyncio.run(self._book()))

    def _check(self) -> int:
        self._chapter("The check", "`greenpoints check` computes balances, caps, budgets and statistics again from what they were made of.")
        checked = self._system.command("check", "--json")
        try:
            report = msgspec.json.decode(checked.stdout, type=Report)
        except msgspec.DecodeError:
            raise LocalError(checked.stderr.strip() or "the check gave no report") from None
        for invariant in report.invariants:
            self._print(f"[{'green' if invariant.ok else 'red'}]{'ok' if invariant.ok else 'BROKEN'}[/]  {invariant.name}", indent=3)
            for words in invariant.broken:
                self._detail(words)
        counted = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in report.checked.items())
        self._detail(f"{'every invariant holds' if report.ok else 'something is broken'}: {counted}")
        return checked.returncode

    # What they use

    def _shopify(self, topic: str, payload: dict[str, Any], *, secret: str | None = None, expect: int = 200) -> dict[str, Any]:
        """Deliver as Shopify does."""
        hook, body = self._hooks["shopify"], msgspec.json.encode(payload)
        headers = payloads.shopify_headers(secret or hook.secret, topic, body)
        answer: dict[str, Any] = self._nobody.post(f"/v1/hooks/{hook.id}", body, headers=headers, expect=expect).body
        return answer

    def _statistics(self) -> list[dict[str, Any]]:
        return [self._operator.get(f"/v1/campaigns/{campaign.code}/statistics").body for campaign in CAMPAIGNS]

    def _sum(self, figure: str) -> int:
        return sum(campaign["totals"][figure] for campaign in self._statistics())

    async def _book(self) -> list[BookSum]:
        connection = await asyncpg.connect(self._system.up.database_url)
        try:
            return await book.sums(connection)
        finally:
            await connection.close()

    # How it is told

    def _chapter(self, title: str, what: str) -> None:
        self._chapters += 1
        self._console.print()
        self._print(f"[bold]{self._chapters}. {escape(title)}[/]")
        self._print(escape(what), indent=3)

    def _happened(self, call: str, status: int, result: str) -> None:
        colour = "green" if status < 300 else "yellow"
        self._print(f"[{colour}]{status}[/]  {escape(call)}  [bold]{escape(result)}[/]", indent=3)

    def _detail(self, text: str) -> None:
        self._print(escape(text), indent=8)

    def _print(self, markup: str, *, indent: int = 0) -> None:
        """Wrapped lines keep the indentation."""
        self._console.print(Padding(markup, (0, 0, 0, indent), expand=False))

    def _explain(self, answer: dict[str, Any]) -> None:
        """Why an event earned what it did, and why not more."""
        for award in answer["awards"]:
            self._detail(award["reason"])
        for refusal in answer["refused"]:
            what = f"line {refusal['line']}" if "line" in refusal else "it"
            self._detail(f"{what} earns nothing, {refusal['code']}: {refusal['detail']}")


def _now() -> datetime:
    return datetime.now(UTC)


def _points(answer: dict[str, Any]) -> str:
    """An event's points and status in words."""
    return f"{answer['points']:+d} points, {answer['status']}"


def _events(answer: dict[str, Any]) -> str:
    """What a hook made of a delivery."""
    return "; ".join(f"{event['id']} {_points(event)}" for event in answer["events"]) or "nothing in it earns"
