"""What can be bought: categories, merchants with their shelves, products with prices, certificates behind green ones."""

from random import Random
from typing import Final

from loadtests.traffic.parameters import Parameters

CATEGORIES: Final = {
    "paper": 3_500, "soap": 2_800, "detergent": 4_500, "food": 4_000, "textile": 12_000, "shoes": 26_000, "toys": 9_000,
    "furniture": 60_000, "lighting": 5_500, "appliance": 130_000, "electronics": 90_000, "stationery": 1_800, "cosmetics": 11_000,
    "pet": 6_000,
}  # fmt: skip
"""Median price in fen: orders of magnitude of Chinese online shops, an assumption."""
FASHION: Final = frozenset({"textile", "shoes"})
"""Refunded more often than the rest: sizes."""


class Product:
    """One SKU of one merchant. `line` is the constant part of an order line's JSON."""

    __slots__ = ("category", "fen", "green", "line", "merchant", "sku")

    def __init__(self, *, sku: str, fen: int, category: str, merchant: str, gtin: str | None) -> None:
        self.sku, self.fen, self.category, self.merchant = sku, fen, category, merchant
        self.green = sku.startswith("G-")
        code = "" if gtin is None else f'"gtin":"{gtin}",'
        self.line = f'"sku":"{sku}",{code}"unit_price":"{money(fen)}","category":"{category}","merchant":"{merchant}"'


class Shelves:
    """The products of one platform by category, certified and other ones, the most popular first."""

    def __init__(self, rng: Random, parameters: Parameters, *, platform: int, gtins: bool) -> None:
        self.green: dict[str, list[Product]] = {name: [] for name in CATEGORIES}
        self.plain: dict[str, list[Product]] = {name: [] for name in CATEGORIES}
        self._numbers, self._gtins, self._first_gtin = 0, gtins, platform * 10_000_000
        self._level = parameters.price_level * rng.uniform(0.8, 1.2)
        merchants = 12 + parameters.consumers // rng.randint(120, 300)
        names = list(CATEGORIES)
        for n in range(merchants):
            # A tenth sells only certified goods: all its green sales are concentrated, and that is honest.
            only_green = n % 10 == 0
            for category in names if n < 2 else rng.sample(names, rng.randint(1, 3)):
                self._stock(rng, f"m-{n}", category, 1.0 if only_green else rng.betavariate(1.2, 3))

    def _stock(self, rng: Random, merchant: str, category: str, green: float) -> None:
        certificate, left = "", 0
        for _ in range(rng.randint(3, 14)):
            if rng.random() < green:
                if left == 0:
                    certificate, left = new_certificate(rng), rng.choice((1, 1, 2, 3, 5, 8, 12))
                left -= 1
                self.add(self.product(rng, merchant, category, certificate=certificate))
            else:
                self.add(self.product(rng, merchant, category))

    def product(self, rng: Random, merchant: str, category: str, *, certificate: str | None = None, fen: int | None = None) -> Product:
        """A new product; with a certificate it is green. Without a price it gets one that is usual in its category."""
        self._numbers += 1
        # Permuted, so that a number does not tell when it was given.
        item = f"{self._numbers * 48_271 % 1_000_003:06}"
        sku = f"{'' if certificate is None else f'G-{certificate}-'}{category[:2].upper()}{item}"
        price = usual_price(rng, category, self._level) if fen is None else fen
        return Product(
            sku=sku,
            fen=price,
            category=category,
            merchant=merchant,
            gtin=gtin_of(self._first_gtin + self._numbers) if self._gtins else None,
        )

    def add(self, product: Product) -> None:
        """Put a product where consumers find it."""
        (self.green if product.green else self.plain)[product.category].append(product)

    def pick(self, rng: Random, category: str, green: float) -> Product:
        """A product of the category, the popular ones more often; `green` is how likely a certified one is chosen."""
        shelf = self.green[category] if rng.random() < green else self.plain[category]
        if not shelf:
            shelf = self.plain[category] or self.green[category]
        return shelf[int(len(shelf) * rng.random() ** 2)]


def usual_price(rng: Random, category: str, level: float) -> int:
    """Fen; many end in .90 or .00 and just below a round price, as shops like it."""
    fen = int(CATEGORIES[category] * level * rng.lognormvariate(0, 0.5))
    if fen > 5_000 and rng.random() < 0.5:
        return max(100, round(fen, -3) - rng.choice((0, 0, 10, 100, 100)))
    return max(100, fen // 100 * 100 + rng.choice((0, 50, 80, 90, 90, 90)))


def new_certificate(rng: Random) -> str:
    """A certificate's number."""
    return f"C{rng.getrandbits(32):08X}"


def gtin_of(number: int) -> str:
    """A GTIN-13 with its check digit (GS1 General Specifications §7.9). 690 to 699 are China's prefixes."""
    digits = f"690{number % 10**9:09}"
    total = sum(int(digit) * (3 if i % 2 else 1) for i, digit in enumerate(digits))
    return digits + str(-total % 10)


def money(fen: int) -> str:
    """Fen as an amount of CNY."""
    return f"{fen // 100}.{fen % 100:02}"
