"""What a process keeps between batches, each part with what tells it that it is out of date."""

import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from schemas.events import Line, OrderPaid
from service.domain.catalogue import Catalogue
from service.domain.fraud.door import Door
from service.domain.fraud.lists import Lists
from service.domain.gtin import normalise_gtin
from service.domain.posting import Fact
from service.domain.products import ProductFacts, Products
from service.store import fraud_lists, registries
from service.store.campaigns import load_catalogue
from service.store.connection import Connection

MAX_PRODUCTS = 200_000
MAX_REFERENCES = 500_000
MAX_HOMES = 500_000


class Knowledge:
    """Catalogue (fenced by `deployment.catalogue_version`), products (by `registry_version`), accounts of references, lists."""

    def __init__(self, stripe: int | None = None, *, door: Door | None = None) -> None:
        """`door`: what looks at events while they are credited; None: nothing does."""
        self.catalogue = Catalogue(0, [], [])
        self.products = Products()
        self.registry_version = 0
        self.references: OrderedDict[tuple[int, str], int] = OrderedDict()
        """(platform, reference) → account, of those that this process has met; all of them were read at `vault_version` or later."""
        self.homes: dict[int, int] = {}
        """Linked account → the one that has its points, of those that this process has met; under lock it shows whether that holds."""
        self.vault_version = 0
        self.stripe = secrets.randbelow(2**31) if stripe is None else stripe
        """Which roll-up rows this process writes; two that draw the same only wait for each other."""
        self.door = Door() if door is None else door
        self._lists: dict[int, Lists] = {}
        """By program, read at `_lists_version` (`deployment.fraud_version`) or later."""
        self._lists_version = 0

    async def catalogue_at(self, connection: Connection, version: int) -> Catalogue:
        """The campaigns at this version, loaded if nobody in this process has done so."""
        if self.catalogue.version != version:
            self.catalogue = await load_catalogue(connection)
        return self.catalogue

    async def lists_at(self, connection: Connection, version: int, programs: set[int]) -> Mapping[int, Lists]:
        """The allow and block lists of these programs at this version or later, read where nobody in this process has done so."""
        if version > self._lists_version:
            self._lists, self._lists_version = {}, version
        lists = self._lists
        for program in programs - lists.keys():
            lists[program] = await fraud_lists.active(connection, program)
        return lists

    async def refresh_products(self, connection: Connection, version: int, facts: Iterable[Fact]) -> Products:
        """Product facts for the lines of these events, read where they are not known at this registry version."""
        if version != self.registry_version or len(self.products.by_gtin) + len(self.products.by_sku) > MAX_PRODUCTS:
            self.products, self.registry_version = Products(), version
        products = self.products
        by_program: dict[int, tuple[set[str], set[tuple[int, str]]]] = {}
        for fact in facts:
            if type(fact.event) is OrderPaid:
                gtins, skus = by_program.setdefault(fact.program, (set(), set()))
                for line in fact.event.lines:
                    _collect(line, fact, products, gtins, skus)
        for program, (gtins, skus) in by_program.items():
            if gtins or skus:
                await _read(connection, products, program, gtins, skus)
        return products

    def forget(self, vault_version: int) -> None:
        """Forget the accounts of references if somebody was erased since they were read: it may have been any of them."""
        if vault_version > self.vault_version:
            self.vault_version = vault_version
            self.references.clear()

    def learn_homes(self, homes: Mapping[int, int | None]) -> None:
        """What accounts under lock say; None: not linked."""
        for account, home in homes.items():
            if home is None:
                self.homes.pop(account, None)
            else:
                self.homes[account] = home
        while len(self.homes) > MAX_HOMES:
            del self.homes[next(iter(self.homes))]

    def remember(self, references: dict[tuple[int, str], int], vault_version: int) -> None:
        """Keep accounts of references, once they are committed. `vault_version`: what this process knew before it read them."""
        if vault_version != self.vault_version:
            return
        self.references.update(references)
        while len(self.references) > MAX_REFERENCES:
            self.references.popitem(last=False)


def _collect(line: Line, fact: Fact, products: Products, gtins: set[str], skus: set[tuple[int, str]]) -> None:
    if line.gtin and (fact.program, gtin := normalise_gtin(line.gtin)) not in products.by_gtin:
        gtins.add(gtin)
    if line.sku and (fact.platform, line.sku) not in products.by_sku:
        skus.add((fact.platform, line.sku))


async def _read(connection: Connection, products: Products, program: int, gtins: set[str], skus: set[tuple[int, str]]) -> None:
    found = await registries.read_products(connection, program, sorted(gtins), sorted(skus))
    for gtin, product in found.products.items():
        products.by_gtin[program, gtin] = ProductFacts(
            gtin=gtin, registered=product.name is not None, category=product.category, certificates=tuple(product.certificates)
        )
    for gtin in gtins:
        products.by_gtin.setdefault((program, gtin), ProductFacts(gtin=gtin, registered=False, category=None, certificates=()))
    for sku in skus:
        products.by_sku[sku] = found.skus.get(sku)
