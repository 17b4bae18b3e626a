"""Money as exact decimals. Minor units are for conditions only (CONTRACT §3.7)."""

from decimal import ROUND_DOWN, Decimal

# ISO 4217 currencies whose minor unit is not 1/100 (list of 2026-01-01, column "Mnr unts").
_EXPONENTS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}


def exponent(currency: str | None) -> int:
    """Digits after the point of a currency's minor unit: JPY 0, CNY 2, KWD 3."""
    return _EXPONENTS.get(currency or "", 2)


def minor_units(amount: Decimal | None, currency: str | None) -> int:
    """An amount in major units as whole minor units, rounded towards zero; None is 0."""
    return 0 if amount is None else int(amount.scaleb(exponent(currency)).to_integral_value(ROUND_DOWN))
