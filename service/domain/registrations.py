"""Certificates, products and assets as registered: checked, normalised, and compared with what is there."""

from collections.abc import Iterator, Mapping
from datetime import date

from msgspec import Struct

from schemas.assets import AssetBody
from schemas.problems import FieldError
from schemas.registries import CertificateBody, ProductBody
from service.domain.errors import InvalidRequest
from service.domain.gtin import normalise_gtin
from service.domain.identifiers import canonical_asset
from service.domain.packaging import PackagingClass, class_of
from service.domain.schemes import check_number


class Certificate(Struct, frozen=True, kw_only=True):
    """What a certificate says; `gtins` are 14 digits each, sorted, each once."""

    scheme: str
    number: str
    holder: str
    valid_from: date
    valid_until: date
    gtins: list[str]


class Product(Struct, frozen=True, kw_only=True):
    """What a registration says; `gtin` is 14 digits; `skus` are (platform code, SKU)."""

    gtin: str
    name: str
    category: str | None
    skus: list[tuple[str, str]]


class Asset(Struct, frozen=True, kw_only=True, gc=False):
    """What a registration of reusable packaging says; `key` is the canonical text of its identifier."""

    key: str
    class_: str
    max_trips: int | None


def check_certificate(body: CertificateBody) -> tuple[Certificate, list[str]]:
    """The certificate and warnings about it. Raises InvalidRequest with all its errors."""
    errors: list[FieldError] = []
    warnings: list[str] = []
    number = body.number.strip()
    try:
        warnings = check_number(body.scheme, number)
    except ValueError as error:
        errors.append(FieldError(pointer="/number", detail=str(error)))
    if not number:
        errors.append(FieldError(pointer="/number", detail="is empty"))
    if body.valid_until < body.valid_from:
        errors.append(FieldError(pointer="/valid_until", detail="must not be before valid_from"))
    gtins = list(_gtins(body.gtins, errors))
    _raise(errors)
    certificate = Certificate(
        scheme=body.scheme, number=number, holder=body.holder,
        valid_from=body.valid_from, valid_until=body.valid_until, gtins=sorted(set(gtins)),
    )  # fmt: skip
    return certificate, warnings


def check_product(body: ProductBody) -> Product:
    """The product with its GTIN normalised. Raises InvalidRequest with all its errors."""
    errors: list[FieldError] = []
    gtin = ""
    try:
        gtin = normalise_gtin(body.gtin)
    except ValueError as error:
        errors.append(FieldError(pointer="/gtin", detail=str(error)))
    skus = [(sku.platform, sku.sku) for sku in body.skus]
    errors += [
        FieldError(pointer=f"/skus/{i}", detail="is there twice") for i, sku in enumerate(skus) if sku in skus[:i]
    ]  # fmt: skip
    _raise(errors)
    return Product(gtin=gtin, name=body.name, category=body.category, skus=skus)


def check_asset(body: AssetBody, own: Mapping[str, PackagingClass]) -> Asset:
    """The asset by its canonical text. `own`: the program's own classes. Raises InvalidRequest with all its errors."""
    errors: list[FieldError] = []
    key = ""
    try:
        key = canonical_asset(body.asset)
    except ValueError as error:
        errors.append(FieldError(pointer="/asset", detail=str(error)))
    class_ = class_of(body.class_, own)
    if class_ is None or not class_.active:
        errors.append(FieldError(pointer="/class", detail="is not a class of packaging"))
    elif not class_.needs_asset:
        errors.append(FieldError(pointer="/class", detail="is a class whose pieces are not told apart"))
    _raise(errors)
    return Asset(key=key, class_=body.class_, max_trips=body.max_trips)


def _gtins(texts: list[str], errors: list[FieldError]) -> Iterator[str]:
    for i, text in enumerate(texts):
        try:
            yield normalise_gtin(text)
        except ValueError as error:
            errors.append(FieldError(pointer=f"/gtins/{i}", detail=str(error)))


def _raise(errors: list[FieldError]) -> None:
    if errors:
        raise InvalidRequest.of(errors)
