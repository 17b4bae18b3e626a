"""Certificates and products: for operators."""

from datetime import datetime
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter

from schemas.bounds import MAX_CODE_CHARS, MAX_IMPORT_BYTES
from schemas.pages import Page
from schemas.registries import (
    CertificateAnswer,
    CertificateBody,
    ImportAnswer,
    ProductAnswer,
    ProductBody,
    ProductCertificates,
    Revocation,
)
from service.api.bodies import decode_body, read_body
from service.api.callers import callers_of
from service.api.changes import change_by
from service.api.cursors import DEFAULT_LIMIT, Cursor, Limit, Name, Position, page_of, read_cursor
from service.api.database import connection
from service.domain import imports
from service.domain.errors import InvalidRequest, NotFound, UnsupportedMediaType
from service.domain.roles import MAY
from service.flows import registries

CERTIFICATES: Final = ["Certificates"]
PRODUCTS: Final = ["Products"]


AnyRequest = Request[Any, Any, Any]
SchemeFilter = Annotated[str | None, QueryParameter(max_length=MAX_CODE_CHARS, pattern=r"^[a-z0-9][a-z0-9._-]*$")]


# Certificates --------------------------------------------------------------------------------------------


@post("/v1/certificates", tags=CERTIFICATES, opt={"body": CertificateBody, "answer": CertificateAnswer})
async def register_certificate(request: AnyRequest) -> CertificateAnswer:
    """Register a certificate with the GTINs that it covers. Schemes outside the reference list are accepted, with a warning."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, CertificateBody, max_bytes=MAX_IMPORT_BYTES)
    async with connection(request) as conn:
        return await registries.register_certificate(conn, body, program=caller.program, change=change_by(caller))


@post("/v1/certificates/import", tags=CERTIFICATES, status_code=200, opt={"body": list[CertificateBody], "answer": ImportAnswer})
async def import_certificates(request: AnyRequest) -> ImportAnswer:
    """Register or update up to 5,000 certificates: a JSON array, NDJSON or CSV, answered per row. Safe to repeat."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    format_ = format_of(request)
    rows = imports.certificate_rows(await read_body(request, MAX_IMPORT_BYTES), format_)
    async with connection(request) as conn:
        return await registries.import_certificates(conn, rows, program=caller.program, change=change_by(caller))


@get("/v1/certificates", tags=CERTIFICATES, opt={"answer": Page[CertificateAnswer]})
async def list_certificates(
    request: AnyRequest, scheme: SchemeFilter = None, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Page[CertificateAnswer]:
    """List the program's certificates, oldest first, perhaps of one scheme only."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    after = read_cursor(cursor, Position, 0)
    async with connection(request) as conn:
        rows = await registries.certificates(conn, program=caller.program, after=after, scheme=scheme, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: int(row.id))


@get("/v1/certificates/{certificate:str}", tags=CERTIFICATES, opt={"answer": CertificateAnswer})
async def read_certificate(request: AnyRequest, certificate: FromPath[str]) -> CertificateAnswer:
    """Read one certificate in its present state."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    async with connection(request) as conn:
        return await registries.certificate(conn, _number(certificate), program=caller.program)


@post(
    "/v1/certificates/{certificate:str}/revoke", tags=CERTIFICATES, status_code=200, opt={"body": Revocation, "answer": CertificateAnswer}
)
async def revoke_certificate(request: AnyRequest, certificate: FromPath[str]) -> CertificateAnswer:
    """Revoke a certificate: it counts no more for what occurs from `at` on, for ever."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, Revocation)
    async with connection(request) as conn:
        return await registries.revoke_certificate(conn, _number(certificate), body, program=caller.program, change=change_by(caller))


@post(
    "/v1/certificates/{certificate:str}/suspend", tags=CERTIFICATES, status_code=200, opt={"body": Revocation, "answer": CertificateAnswer}
)
async def suspend_certificate(request: AnyRequest, certificate: FromPath[str]) -> CertificateAnswer:
    """Suspend a certificate: it does not count for what occurs from `at` on, until it is resumed."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, Revocation)
    async with connection(request) as conn:
        return await registries.suspend_certificate(conn, _number(certificate), body, program=caller.program, change=change_by(caller))


@post("/v1/certificates/{certificate:str}/resume", tags=CERTIFICATES, status_code=200, opt={"answer": CertificateAnswer})
async def resume_certificate(request: AnyRequest, certificate: FromPath[str]) -> CertificateAnswer:
    """Lift a suspension. A repeat changes nothing."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    async with connection(request) as conn:
        return await registries.resume_certificate(conn, _number(certificate), program=caller.program, change=change_by(caller))


# Products ------------------------------------------------------------------------------------------------


@post("/v1/products", tags=PRODUCTS, opt={"body": ProductBody, "answer": ProductAnswer, "also": (200,)})
async def register_product(request: AnyRequest) -> Response[ProductAnswer]:
    """Register a product (201), or change its name and category and add SKUs (200)."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    body = await decode_body(request, ProductBody)
    async with connection(request) as conn:
        product, new = await registries.register_product(conn, body, program=caller.program, change=change_by(caller))
    return Response(product, status_code=201 if new else 200)


@post("/v1/products/import", tags=PRODUCTS, status_code=200, opt={"body": list[ProductBody], "answer": ImportAnswer})
async def import_products(request: AnyRequest) -> ImportAnswer:
    """Register or update up to 5,000 products: a JSON array, NDJSON or CSV, answered per row. Safe to repeat."""
    caller = await callers_of(request).operator(request, *MAY["registries:write"])
    format_ = format_of(request)
    rows = imports.product_rows(await read_body(request, MAX_IMPORT_BYTES), format_)
    async with connection(request) as conn:
        return await registries.import_products(conn, rows, program=caller.program, change=change_by(caller))


@get("/v1/products", tags=PRODUCTS, opt={"answer": Page[ProductAnswer]})
async def list_products(request: AnyRequest, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT) -> Page[ProductAnswer]:
    """List the program's products by GTIN."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    after = read_cursor(cursor, Name, "")
    async with connection(request) as conn:
        rows = await registries.products(conn, program=caller.program, after=after, limit=limit + 1)
    return page_of(rows, limit, item=lambda row: row, position=lambda row: row.gtin)


@get("/v1/products/{gtin:str}", tags=PRODUCTS, opt={"answer": ProductAnswer})
async def read_product(request: AnyRequest, gtin: FromPath[str]) -> ProductAnswer:
    """Read one product; its GTIN may be written with 8, 12, 13 or 14 digits."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    async with connection(request) as conn:
        return await registries.product(conn, gtin, program=caller.program)


@get("/v1/products/{gtin:str}/certificates", tags=PRODUCTS, opt={"answer": ProductCertificates})
async def list_product_certificates(
    request: AnyRequest, gtin: FromPath[str], as_of: FromQuery[datetime | None] = None
) -> ProductCertificates:
    """Show the certificates that name a GTIN, each in its state at `as_of` (now, if it is left out)."""
    caller = await callers_of(request).operator(request, *MAY["registries:read"])
    if as_of is not None and as_of.tzinfo is None:
        raise InvalidRequest.at("/as_of", "needs an offset, such as Z or +08:00")
    async with connection(request) as conn:
        return await registries.product_certificates(conn, gtin, program=caller.program, as_of=as_of)


_FORMATS: Final[dict[str, imports.Format]] = {
    "": "json",
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "text/csv": "csv",
}


def format_of(request: AnyRequest) -> imports.Format:
    """How the rows are written. Raises UnsupportedMediaType."""
    essence = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if essence not in _FORMATS:
        raise UnsupportedMediaType("Send application/json (an array), application/x-ndjson or text/csv.")
    return _FORMATS[essence]


def _number(certificate: str) -> int:
    """A certificate's id from the path. Raises NotFound for what is none."""
    if not certificate.isascii() or not certificate.isdigit() or len(certificate) > 18:
        raise NotFound("There is no such certificate.")
    return int(certificate)


routes = [
    register_certificate,
    import_certificates,
    list_certificates,
    read_certificate,
    revoke_certificate,
    suspend_certificate,
    resume_certificate,
    register_product,
    import_products,
    list_products,
    read_product,
    list_product_certificates,
]
