"""Certificates and products, and what a batch of events needs to know of them."""

from datetime import date, datetime
from typing import Final

from msgspec import Struct

from service.domain.certificates import CertificateFacts
from service.domain.registrations import Certificate, Product
from service.store.connection import Connection

# For batches of events -----------------------------------------------------------------------------------


class FoundProduct(Struct, kw_only=True):
    """A GTIN that is registered or that a certificate names; `name` null: not registered."""

    name: str | None
    category: str | None
    certificates: list[CertificateFacts]


class FoundProducts(Struct, frozen=True, kw_only=True):
    """By GTIN, also those that the SKUs lead to; and the GTIN of each (platform, SKU) that is registered."""

    products: dict[str, FoundProduct]
    skus: dict[tuple[int, str], str]


READ_PRODUCTS: Final = """
WITH asked AS MATERIALIZED (
    SELECT s.platform, s.sku, s.gtin
      FROM unnest($3::int[], $4::text[]) AS k (platform, sku)
      JOIN product_sku s ON s.platform = k.platform AND s.sku = k.sku AND s.program = $1
), wanted AS (
    SELECT unnest($2::text[]) AS gtin UNION SELECT gtin FROM asked
)
SELECT w.gtin, p.name, p.category, c.id, c.scheme, c.number, c.valid_from, c.valid_until, c.suspended_at, c.revoked_at,
       NULL::int AS platform, NULL::text AS sku
  FROM wanted w
  LEFT JOIN product p ON p.program = $1 AND p.gtin = w.gtin
  LEFT JOIN certificate_gtin g ON g.program = $1 AND g.gtin = w.gtin
  LEFT JOIN certificate c ON c.id = g.certificate
 WHERE p.gtin IS NOT NULL OR c.id IS NOT NULL
 UNION ALL
SELECT gtin, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, platform, sku FROM asked
 ORDER BY gtin, id
"""


async def read_products(conn: Connection, program: int, gtins: list[str], skus: list[tuple[int, str]]) -> FoundProducts:
    """What is known of these GTINs (14 digits) and (platform, SKU)s in one statement; certificates by id. Unknown ones are absent."""
    rows = await conn.fetch(READ_PRODUCTS, program, gtins, [platform for platform, _ in skus], [sku for _, sku in skus])
    found = FoundProducts(products={}, skus={})
    for row in rows:
        if row["platform"] is not None:
            found.skus[row["platform"], row["sku"]] = row["gtin"]
            continue
        product = found.products.get(row["gtin"])
        if product is None:
            product = FoundProduct(name=row["name"], category=row["category"], certificates=[])
            found.products[row["gtin"]] = product
        if row["id"] is not None:
            product.certificates.append(
                CertificateFacts(
                    id=row["id"],
                    scheme=row["scheme"],
                    number=row["number"],
                    valid_from=row["valid_from"],
                    valid_until=row["valid_until"],
                    suspended_at=row["suspended_at"],
                    revoked_at=row["revoked_at"],
                )
            )
    return found


# Versions and time ---------------------------------------------------------------------------------------

RAISE_REGISTRY_VERSION: Final = "UPDATE deployment SET registry_version = registry_version + 1"
CLOCK: Final = "SELECT now() AS now, time_zone FROM program WHERE id = $1"


async def raise_registry_version(conn: Connection) -> None:
    """Make every process forget products and certificates. Locks one row until the commit: call it last."""
    await conn.execute(RAISE_REGISTRY_VERSION)


async def clock(conn: Connection, program: int) -> tuple[datetime, str]:
    """The transaction's time and the program's time zone."""
    row = await conn.fetchrow(CLOCK, program)
    if row is None:
        raise LookupError(f"there is no program {program}")
    return row["now"], row["time_zone"]


# Certificates --------------------------------------------------------------------------------------------


class CertificateRow(Struct, frozen=True, kw_only=True):
    """A certificate as stored, its GTINs sorted."""

    id: int
    scheme: str
    number: str
    holder: str
    valid_from: date
    valid_until: date
    suspended_at: datetime | None
    revoked_at: datetime | None
    revocation_reason: str | None
    gtins: list[str]


_CERTIFICATE: Final = """
SELECT c.id, c.scheme, c.number, c.holder, c.valid_from, c.valid_until, c.suspended_at, c.revoked_at, c.revocation_reason,
       ARRAY(SELECT g.gtin FROM certificate_gtin g WHERE g.certificate = c.id ORDER BY g.gtin) AS gtins
  FROM certificate c
"""
GET_CERTIFICATE: Final = f"{_CERTIFICATE} WHERE c.program = $1 AND c.id = $2"
CERTIFICATES_BY_NUMBER: Final = f"""{_CERTIFICATE}
 WHERE c.program = $1 AND (c.scheme, c.number) IN (SELECT * FROM unnest($2::text[], $3::text[]))
"""
CERTIFICATES_OF_GTIN: Final = f"""{_CERTIFICATE}
 WHERE c.program = $1 AND c.id IN (SELECT certificate FROM certificate_gtin WHERE program = $1 AND gtin = $2)
 ORDER BY c.id
 LIMIT 200
"""
CERTIFICATE_PAGE: Final = f"""{_CERTIFICATE}
 WHERE c.program = $1 AND c.id > $2 AND ($3::text IS NULL OR c.scheme = $3)
 ORDER BY c.id
 LIMIT $4
"""
INSERT_CERTIFICATES: Final = """
INSERT INTO certificate (program, scheme, number, holder, valid_from, valid_until)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::date[], $6::date[])
RETURNING id, scheme, number
"""
UPDATE_CERTIFICATES: Final = """
UPDATE certificate c SET holder = n.holder, valid_from = n.valid_from, valid_until = n.valid_until
  FROM unnest($2::bigint[], $3::text[], $4::date[], $5::date[]) AS n (id, holder, valid_from, valid_until)
 WHERE c.program = $1 AND c.id = n.id
"""
DELETE_GTINS: Final = "DELETE FROM certificate_gtin WHERE program = $1 AND certificate = ANY($2::bigint[])"
INSERT_GTINS: Final = """
INSERT INTO certificate_gtin (program, gtin, certificate)
SELECT $1, * FROM unnest($2::text[], $3::bigint[])
"""
REVOKE: Final = "UPDATE certificate SET revoked_at = $3, revocation_reason = $4 WHERE program = $1 AND id = $2"
SUSPEND: Final = "UPDATE certificate SET suspended_at = $3 WHERE program = $1 AND id = $2"


async def certificate(conn: Connection, *, program: int, id_: int) -> CertificateRow | None:
    """One certificate of the program."""
    row = await conn.fetchrow(GET_CERTIFICATE, program, id_)
    return None if row is None else CertificateRow(**row)


async def certificates_by_number(
    conn: Connection, *, program: int, numbers: list[tuple[str, str]]
) -> dict[tuple[str, str], CertificateRow]:  # fmt: skip
    """Those that exist, by (scheme, number)."""
    rows = await conn.fetch(CERTIFICATES_BY_NUMBER, program, [scheme for scheme, _ in numbers], [number for _, number in numbers])
    return {(row["scheme"], row["number"]): CertificateRow(**row) for row in rows}


async def certificates_of_gtin(conn: Connection, *, program: int, gtin: str) -> list[CertificateRow]:
    """The certificates that name a GTIN, oldest first, at most 200."""
    return [CertificateRow(**row) for row in await conn.fetch(CERTIFICATES_OF_GTIN, program, gtin)]


async def certificate_page(conn: Connection, *, program: int, after: int, scheme: str | None, limit: int) -> list[CertificateRow]:
    """At most `limit` certificates with ids above `after`, perhaps of one scheme only."""
    return [CertificateRow(**row) for row in await conn.fetch(CERTIFICATE_PAGE, program, after, scheme, limit)]


async def insert_certificates(conn: Connection, *, program: int, certificates: list[Certificate]) -> dict[tuple[str, str], int]:
    """New certificates with their GTINs; ids by (scheme, number). The caller holds the registry lock and knows that none exists."""
    rows = await conn.fetch(
        INSERT_CERTIFICATES, program,
        [c.scheme for c in certificates], [c.number for c in certificates], [c.holder for c in certificates],
        [c.valid_from for c in certificates], [c.valid_until for c in certificates],
    )  # fmt: skip
    ids = {(row["scheme"], row["number"]): int(row["id"]) for row in rows}
    await _insert_gtins(conn, program, [(gtin, ids[c.scheme, c.number]) for c in certificates for gtin in c.gtins])
    return ids


async def update_certificates(conn: Connection, *, program: int, certificates: list[tuple[int, Certificate]]) -> None:
    """New facts and GTINs of existing certificates, by id; revocations and suspensions stay."""
    ids = [id_ for id_, _ in certificates]
    await conn.execute(
        UPDATE_CERTIFICATES, program, ids, [c.holder for _, c in certificates],
        [c.valid_from for _, c in certificates], [c.valid_until for _, c in certificates],
    )  # fmt: skip
    await conn.execute(DELETE_GTINS, program, ids)
    await _insert_gtins(conn, program, [(gtin, id_) for id_, c in certificates for gtin in c.gtins])


async def _insert_gtins(conn: Connection, program: int, gtins: list[tuple[str, int]]) -> None:
    await conn.execute(INSERT_GTINS, program, [gtin for gtin, _ in gtins], [id_ for _, id_ in gtins])


async def revoke(conn: Connection, *, program: int, id_: int, at: datetime, reason: str) -> None:
    """From `at` on the certificate counts no more."""
    await conn.execute(REVOKE, program, id_, at, reason)


async def suspend(conn: Connection, *, program: int, id_: int, at: datetime | None) -> None:
    """From `at` on the certificate does not count; None lifts the suspension."""
    await conn.execute(SUSPEND, program, id_, at)


# Products ------------------------------------------------------------------------------------------------


class ProductRow(Struct, frozen=True, kw_only=True):
    """A product as stored; `skus` are (platform code, SKU), sorted."""

    gtin: str
    name: str
    category: str | None
    skus: list[tuple[str, str]]


_PRODUCT: Final = """
SELECT p.gtin, p.name, p.category,
       ARRAY(SELECT ARRAY[f.code, s.sku] FROM product_sku s JOIN platform f ON f.id = s.platform
              WHERE s.program = p.program AND s.gtin = p.gtin ORDER BY f.code, s.sku LIMIT 1000) AS skus
  FROM product p
"""
PRODUCTS_BY_GTIN: Final = f"{_PRODUCT} WHERE p.program = $1 AND p.gtin = ANY($2::text[])"
PRODUCT_PAGE: Final = f"{_PRODUCT} WHERE p.program = $1 AND p.gtin > $2 ORDER BY p.gtin LIMIT $3"
PLATFORM_IDS: Final = "SELECT code, id FROM platform WHERE program = $1 AND code = ANY($2::text[])"
GTINS_OF_SKUS: Final = """
SELECT s.platform, s.sku, s.gtin
  FROM unnest($2::int[], $3::text[]) AS k (platform, sku)
  JOIN product_sku s ON s.platform = k.platform AND s.sku = k.sku AND s.program = $1
"""
UPSERT_PRODUCTS: Final = """
INSERT INTO product (program, gtin, name, category)
SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[])
    ON CONFLICT (program, gtin) DO UPDATE SET name = excluded.name, category = excluded.category
"""
INSERT_SKUS: Final = """
INSERT INTO product_sku (platform, sku, program, gtin)
SELECT platform, sku, $1, gtin FROM unnest($2::int[], $3::text[], $4::text[]) AS n (platform, sku, gtin)
"""


async def products_by_gtin(conn: Connection, *, program: int, gtins: list[str]) -> dict[str, ProductRow]:
    """Those that are registered, by GTIN (14 digits)."""
    return {
        row["gtin"]: _product(row["gtin"], row["name"], row["category"], row["skus"])
        for row in await conn.fetch(PRODUCTS_BY_GTIN, program, gtins)
    }


async def product_page(conn: Connection, *, program: int, after: str, limit: int) -> list[ProductRow]:
    """At most `limit` products with GTINs above `after`."""
    return [
        _product(row["gtin"], row["name"], row["category"], row["skus"]) for row in await conn.fetch(PRODUCT_PAGE, program, after, limit)
    ]


async def platform_ids(conn: Connection, *, program: int, codes: list[str]) -> dict[str, int]:
    """Ids of those of the codes that are platforms of the program."""
    return {row["code"]: row["id"] for row in await conn.fetch(PLATFORM_IDS, program, codes)}


async def gtins_of_skus(conn: Connection, *, program: int, skus: list[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """The GTIN of each (platform, SKU) that is registered."""
    rows = await conn.fetch(GTINS_OF_SKUS, program, [platform for platform, _ in skus], [sku for _, sku in skus])
    return {(row["platform"], row["sku"]): row["gtin"] for row in rows}


async def upsert_products(conn: Connection, *, program: int, products: list[Product]) -> None:
    """Name and category of products, each GTIN once."""
    await conn.execute(
        UPSERT_PRODUCTS, program, [p.gtin for p in products], [p.name for p in products], [p.category for p in products]
    )  # fmt: skip


async def insert_skus(conn: Connection, *, program: int, skus: list[tuple[int, str, str]]) -> None:
    """New (platform, SKU, GTIN)s. The caller holds the registry lock and knows that none exists."""
    await conn.execute(INSERT_SKUS, program, [s[0] for s in skus], [s[1] for s in skus], [s[2] for s in skus])


def _product(gtin: str, name: str, category: str | None, skus: list[list[str]]) -> ProductRow:
    return ProductRow(gtin=gtin, name=name, category=category, skus=[(platform, sku) for platform, sku in skus])
