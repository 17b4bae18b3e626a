"""What the registries say about a line: its product, its category, its certificates at the time it was bought."""

from datetime import date, datetime

from msgspec import Struct

from schemas.events import Line
from service.domain.certificates import CertificateFacts, state_at
from service.domain.gtin import normalise_gtin


class ProductFacts(Struct, frozen=True, kw_only=True):
    """A GTIN as the registries know it; `registered` is false for one that only certificates name, or nobody."""

    gtin: str
    registered: bool
    category: str | None
    certificates: tuple[CertificateFacts, ...]


class Standing(Struct, frozen=True, kw_only=True):
    """What a line is in the eyes of the registries."""

    gtin: str
    category: str
    certified: bool
    certificate: CertificateFacts | None
    schemes: list[str]
    known_schemes: list[str]
    """Schemes of all its certificates, valid or not: what it could be refused for."""
    code: str
    """Why it is not certified: the code of the refusal; empty when it is."""
    detail: str
    contradictory: bool


_WORDS = {
    "not_yet_valid": "was not yet valid",
    "expired": "had expired",
    "suspended": "was suspended",
    "revoked": "had been revoked",
}
# The most telling reason first, when several certificates fail for several reasons.
_TELLING = ("revoked", "suspended", "expired", "not_yet_valid")


class Products:
    """Product facts of one registry version: by GTIN, and each platform's SKUs."""

    def __init__(self) -> None:
        self.by_gtin: dict[tuple[int, str], ProductFacts] = {}
        self.by_sku: dict[tuple[int, str], str | None] = {}

    def standing(self, program: int, platform: int, line: Line, occurred_at: datetime, day: date) -> Standing:
        """Judge a line by GTIN, else by the platform's SKU, at the time it was bought, which is on that local day."""
        gtin = normalise_gtin(line.gtin) if line.gtin else None
        by_sku = self.by_sku.get((platform, line.sku)) if line.sku else None
        if gtin and by_sku and gtin != by_sku:
            detail = "The GTIN and the SKU of this line name different registered products."
            return _uncertified(gtin, "", "product_mismatch", detail, contradictory=True)
        known = self.by_gtin.get((program, gtin or by_sku or ""))
        if known is None:
            return _uncertified(gtin or by_sku or "", line.category or "", "certificate_missing", "No registered product or certificate.")
        category = (known.category or "") if known.registered else (line.category or "")
        states = [(state_at(c, occurred_at, day), c) for c in known.certificates]
        valid = [c for state, c in states if state == "valid"]
        if valid:
            return Standing(
                gtin=known.gtin, category=category, certified=True, certificate=valid[0], schemes=[c.scheme for c in valid],
                known_schemes=[c.scheme for c in known.certificates], code="", detail="", contradictory=False,
            )  # fmt: skip
        for telling in _TELLING:
            for state, certificate in states:
                if state == telling:
                    detail = f"Certificate {certificate.scheme} {certificate.number} {_WORDS[state]} when this was bought."
                    return _uncertified(
                        known.gtin, category, f"certificate_{state}", detail, known_schemes=[c.scheme for c in known.certificates]
                    )
        return _uncertified(known.gtin, category, "certificate_missing", "No certificate covers this product.")


def _uncertified(
    gtin: str, category: str, code: str, detail: str, *, known_schemes: list[str] | None = None, contradictory: bool = False
) -> Standing:
    return Standing(
        gtin=gtin, category=category, certified=False, certificate=None, schemes=[], known_schemes=known_schemes or [],
        code=code, detail=detail, contradictory=contradictory,
    )  # fmt: skip
