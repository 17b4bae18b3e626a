"""Certificates, products and their answers (CONTRACT §3.7)."""

from datetime import date, datetime
from typing import Annotated, Literal

from msgspec import Meta

from schemas.base import PRINTABLE, Body, Code, Instant
from schemas.bounds import MAX_CERTIFICATE_GTINS, MAX_GTIN_CHARS, MAX_KEY_CHARS, MAX_PRODUCT_SKUS, MAX_REASON_CHARS, MAX_TEXT_CHARS
from schemas.problems import FieldError

PrintableText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS, pattern=PRINTABLE)]
CertificateStatus = Literal["valid", "not_yet_valid", "expired", "suspended", "revoked"]
GtinInput = Annotated[str, Meta(min_length=8, max_length=MAX_GTIN_CHARS)]


class CertificateBody(Body, frozen=True, kw_only=True):
    """A certificate as its scheme's registry shows it; valid from the start of `valid_from` to the end of `valid_until`."""

    scheme: Code
    number: Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS, pattern=PRINTABLE)]
    holder: PrintableText
    valid_from: date
    valid_until: date
    gtins: Annotated[list[GtinInput], Meta(max_length=MAX_CERTIFICATE_GTINS)] = []


class CertificateAnswer(Body, frozen=True, kw_only=True):
    """A stored certificate and its state now (or at `as_of`)."""

    id: str
    status: CertificateStatus
    scheme: str
    number: str
    holder: str
    valid_from: date
    valid_until: date
    gtins: list[str]
    suspended_at: datetime | None = None
    revoked_at: datetime | None = None
    revocation_reason: str | None = None
    warnings: list[str] = []


class Revocation(Body, frozen=True, kw_only=True):
    """From `at` on the certificate counts no more."""

    at: Instant
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_CHARS, pattern=PRINTABLE)]


class Sku(Body, frozen=True, kw_only=True):
    """What a platform calls the product."""

    platform: Code
    sku: Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS, pattern=PRINTABLE)]


class ProductBody(Body, frozen=True, kw_only=True):
    """A product by GTIN, with each platform's SKU."""

    gtin: GtinInput
    name: PrintableText
    category: PrintableText | None = None
    skus: Annotated[list[Sku], Meta(max_length=MAX_PRODUCT_SKUS)] = []


class ProductAnswer(Body, frozen=True, kw_only=True):
    """A registered product."""

    gtin: str
    name: str
    category: str | None
    skus: list[Sku]


class ProductCertificates(Body, frozen=True, kw_only=True):
    """The certificates that name a GTIN, each in its state at `as_of`; `certified` says whether any is valid."""

    gtin: str
    as_of: datetime
    certified: bool
    items: list[CertificateAnswer]


class ImportResult(Body, frozen=True, kw_only=True):
    """What became of one row (numbered from 0; a CSV file's heading does not count)."""

    row: int
    status: Literal["created", "updated", "unchanged", "rejected"]
    id: str | None = None
    """The certificate's id, or the product's GTIN."""
    errors: list[FieldError] = []
    warnings: list[str] = []


class ImportAnswer(Body, frozen=True, kw_only=True):
    """What became of each row; a rejected row changes nothing and stops no other."""

    created: int
    updated: int
    unchanged: int
    rejected: int
    results: list[ImportResult]
