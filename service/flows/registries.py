"""Certificates and products: registered one by one or in bulk, revoked, suspended, shown.

Every change takes the registry lock, so that one sees what the other did; the change, its audit row and the raised registry
version, which makes every process forget what it read, commit together.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from schemas.problems import FieldError
from schemas.registries import (
    CertificateAnswer,
    CertificateBody,
    ImportAnswer,
    ImportResult,
    ProductAnswer,
    ProductBody,
    ProductCertificates,
    Revocation,
    Sku,
)
from service.domain.certificates import CertificateFacts, state_at
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.gtin import normalise_gtin
from service.domain.registrations import Certificate, Product, check_certificate, check_product
from service.flows.administer import BY_COMMAND, Change
from service.store import audit, locks
from service.store import registries as store
from service.store.connection import Connection

T = TypeVar("T")

# Certificates --------------------------------------------------------------------------------------------


async def register_certificate(conn: Connection, body: CertificateBody, *, program: int, change: Change) -> CertificateAnswer:
    """A new certificate. Raises InvalidRequest with all its errors, InvalidState when scheme and number are registered."""
    certificate, warnings = check_certificate(body)
    async with conn.transaction():
        await locks.lock_registries(conn)
        key = (certificate.scheme, certificate.number)
        if await store.certificates_by_number(conn, program=program, numbers=[key]):
            raise InvalidState(f"The certificate {key[0]} {key[1]} is registered.")
        ids = await store.insert_certificates(conn, program=program, certificates=[certificate])
        await _finish(conn, program, change, "certificate.create", f"certificate:{ids[key]}", after=_plain(certificate))
        return await _certificate_answer(conn, program, ids[key], warnings)


async def import_certificates(
    conn: Connection, rows: Sequence[CertificateBody | FieldError], *, program: int, change: Change = BY_COMMAND
) -> ImportAnswer:
    """Register or update (by scheme and number: holder, validity, GTINs) each row; safe to repeat. A bad row stops no other."""
    results: dict[int, ImportResult] = {}
    checked: dict[tuple[str, str], tuple[int, Certificate, list[str]]] = {}
    for n, row in enumerate(rows):
        try:
            certificate, warnings = check_certificate(_usable(row))
        except InvalidRequest as error:
            results[n] = ImportResult(row=n, status="rejected", errors=error.errors)
            continue
        key = (certificate.scheme, certificate.number)
        if key in checked:
            detail = f"is the certificate of row {checked[key][0]}, too"
            results[n] = ImportResult(row=n, status="rejected", errors=[FieldError(pointer="/number", detail=detail)])
        else:
            checked[key] = (n, certificate, warnings)
    async with conn.transaction():
        await locks.lock_registries(conn)
        known = await store.certificates_by_number(conn, program=program, numbers=list(checked))
        new = [c for key, (_, c, _) in checked.items() if key not in known]
        changed = [(known[key], c) for key, (_, c, _) in checked.items() if key in known and _certificate_of(known[key]) != c]
        if new or changed:
            ids = await store.insert_certificates(conn, program=program, certificates=new)
            await store.update_certificates(conn, program=program, certificates=[(row.id, c) for row, c in changed])
            await _finish(
                conn, program, change, "certificate.import", "certificates",
                before={str(row.id): _plain(_certificate_of(row)) for row, _ in changed},
                after={str(ids[c.scheme, c.number]): _plain(c) for c in new} | {str(row.id): _plain(c) for row, c in changed},
            )  # fmt: skip
        else:
            ids = {}
    updated = {row.id for row, _ in changed}
    for key, (n, _, warnings) in checked.items():
        if key in ids:
            results[n] = ImportResult(row=n, status="created", id=str(ids[key]), warnings=warnings)
        else:
            results[n] = ImportResult(
                row=n, status="updated" if known[key].id in updated else "unchanged", id=str(known[key].id), warnings=warnings
            )  # fmt: skip
    return _import_answer(results)


async def revoke_certificate(conn: Connection, id_: int, body: Revocation, *, program: int, change: Change) -> CertificateAnswer:
    """From `at` on, which may be past or to come, the certificate counts no more. The first revocation stands; a repeat of it is fine.

    Raises NotFound, InvalidState (revoked at another time).
    """
    async with conn.transaction():
        await locks.lock_registries(conn)
        row = await _certificate(conn, program, id_)
        if row.revoked_at is not None and (row.revoked_at, row.revocation_reason) != (body.at, body.reason):
            raise InvalidState(f"The certificate is revoked from {row.revoked_at.isoformat()} on; a revocation cannot change.")
        if row.revoked_at is None:
            await store.revoke(conn, program=program, id_=id_, at=body.at, reason=body.reason)
            await _finish(conn, program, change, "certificate.revoke", f"certificate:{id_}", after=_plain(body))
        return await _certificate_answer(conn, program, id_)


async def suspend_certificate(conn: Connection, id_: int, body: Revocation, *, program: int, change: Change) -> CertificateAnswer:
    """From `at` on the certificate does not count until it is resumed. Raises NotFound, InvalidState (suspended, revoked)."""
    async with conn.transaction():
        await locks.lock_registries(conn)
        row = await _certificate(conn, program, id_)
        if row.revoked_at is not None:
            raise InvalidState("The certificate is revoked.")
        if row.suspended_at is not None and row.suspended_at != body.at:
            raise InvalidState(f"The certificate is suspended from {row.suspended_at.isoformat()} on.")
        if row.suspended_at is None:
            await store.suspend(conn, program=program, id_=id_, at=body.at)
            await _finish(conn, program, change, "certificate.suspend", f"certificate:{id_}", after=_plain(body))
        return await _certificate_answer(conn, program, id_)


async def resume_certificate(conn: Connection, id_: int, *, program: int, change: Change) -> CertificateAnswer:
    """Lift a suspension, as if it had not been: purchases of that time that are still to come count. Raises NotFound, InvalidState."""
    async with conn.transaction():
        await locks.lock_registries(conn)
        row = await _certificate(conn, program, id_)
        if row.revoked_at is not None:
            raise InvalidState("The certificate is revoked.")
        if row.suspended_at is not None:
            await store.suspend(conn, program=program, id_=id_, at=None)
            before = {"suspended_at": row.suspended_at.isoformat()}
            await _finish(conn, program, change, "certificate.resume", f"certificate:{id_}", before=before, after={"suspended_at": None})
        return await _certificate_answer(conn, program, id_)


async def certificate(conn: Connection, id_: int, *, program: int) -> CertificateAnswer:
    """One certificate in its present state. Raises NotFound."""
    return await _certificate_answer(conn, program, id_)


async def certificates(conn: Connection, *, program: int, after: int, scheme: str | None, limit: int) -> list[CertificateAnswer]:
    """At most `limit` certificates with ids above `after`, in their present states."""
    now, zone = await _clock(conn, program)
    rows = await store.certificate_page(conn, program=program, after=after, scheme=scheme, limit=limit)
    return [_shown(row, now, zone) for row in rows]


# Products ------------------------------------------------------------------------------------------------


class _Registered(Struct, frozen=True, kw_only=True):
    """The products of some rows as they were, and the platforms and SKUs that the rows name."""

    before: dict[str, store.ProductRow]
    platforms: dict[str, int]
    skus: dict[tuple[int, str], str]


async def register_product(conn: Connection, body: ProductBody, *, program: int, change: Change) -> tuple[ProductAnswer, bool]:
    """Register a product or change its name and category; SKUs are added. Also says whether it is new.

    Raises InvalidRequest: a wrong GTIN, an unknown platform, a SKU that names another product.
    """
    checked = check_product(body)
    async with conn.transaction():
        await locks.lock_registries(conn)
        registered = await _registered(conn, program, [checked])
        errors = _sku_errors(checked, registered)
        if errors:
            raise InvalidRequest.of(errors)
        status = await _save_products(conn, program, change, {0: checked}, registered)
    return (await product(conn, checked.gtin, program=program)), status[0] == "created"


async def import_products(
    conn: Connection, rows: Sequence[ProductBody | FieldError], *, program: int, change: Change = BY_COMMAND
) -> ImportAnswer:
    """Register or update each row as `register_product` does, in order; safe to repeat. A bad row stops no other."""
    results: dict[int, ImportResult] = {}
    checked: dict[int, Product] = {}
    for n, row in enumerate(rows):
        try:
            checked[n] = check_product(_usable(row))
        except InvalidRequest as error:
            results[n] = ImportResult(row=n, status="rejected", errors=error.errors)
    async with conn.transaction():
        await locks.lock_registries(conn)
        registered = await _registered(conn, program, list(checked.values()))
        for n, new in list(checked.items()):
            if errors := _sku_errors(new, registered):
                results[n] = ImportResult(row=n, status="rejected", errors=errors)
                del checked[n]
            else:
                registered.skus.update({(registered.platforms[code], sku): new.gtin for code, sku in new.skus})
        statuses = await _save_products(conn, program, change, checked, registered)
    for n, new in checked.items():
        results[n] = ImportResult(row=n, status=statuses[n], id=new.gtin)
    return _import_answer(results)


async def product(conn: Connection, gtin: str, *, program: int) -> ProductAnswer:
    """One product, by a GTIN however written. Raises NotFound."""
    found = await store.products_by_gtin(conn, program=program, gtins=[_gtin(gtin)])
    if not found:
        raise NotFound("There is no such product.")
    return next(_product(row) for row in found.values())


async def products(conn: Connection, *, program: int, after: str, limit: int) -> list[ProductAnswer]:
    """At most `limit` products with GTINs above `after`."""
    return [_product(row) for row in await store.product_page(conn, program=program, after=after, limit=limit)]


async def product_certificates(conn: Connection, gtin: str, *, program: int, as_of: datetime | None) -> ProductCertificates:
    """The certificates that name a GTIN, in their states at `as_of` (None: now). Raises NotFound when nobody knows the GTIN."""
    normalised = _gtin(gtin)
    now, zone = await _clock(conn, program)
    rows = await store.certificates_of_gtin(conn, program=program, gtin=normalised)
    if not rows and not await store.products_by_gtin(conn, program=program, gtins=[normalised]):
        raise NotFound("There is no such product.")
    items = [_shown(row, as_of or now, zone) for row in rows]
    return ProductCertificates(gtin=normalised, as_of=as_of or now, certified=any(item.status == "valid" for item in items), items=items)


async def _registered(conn: Connection, program: int, rows: list[Product]) -> _Registered:
    named = {sku for row in rows for sku in row.skus}
    platforms = await store.platform_ids(conn, program=program, codes=sorted({code for code, _ in named})) if named else {}
    skus = [(platforms[code], sku) for code, sku in sorted(named) if code in platforms]
    return _Registered(
        before=await store.products_by_gtin(conn, program=program, gtins=sorted({row.gtin for row in rows})),
        platforms=platforms,
        skus=await store.gtins_of_skus(conn, program=program, skus=skus) if skus else {},
    )


def _sku_errors(row: Product, registered: _Registered) -> list[FieldError]:
    errors = []
    for i, (code, sku) in enumerate(row.skus):
        platform = registered.platforms.get(code)
        if platform is None:
            errors.append(FieldError(pointer=f"/skus/{i}/platform", detail="is not a platform of this program"))
        elif registered.skus.get((platform, sku), row.gtin) != row.gtin:
            errors.append(FieldError(pointer=f"/skus/{i}/sku", detail=f"names the product {registered.skus[platform, sku]}"))
    return errors


async def _save_products(
    conn: Connection, program: int, change: Change, rows: dict[int, Product], registered: _Registered
) -> dict[int, Literal["created", "updated", "unchanged"]]:
    """Write what differs; the outcome of each row, by its number."""
    state = {gtin: Product(gtin=gtin, name=p.name, category=p.category, skus=p.skus) for gtin, p in registered.before.items()}
    statuses: dict[int, Literal["created", "updated", "unchanged"]] = {}
    skus: list[tuple[int, str, str]] = []
    for n, row in rows.items():
        old = state.get(row.gtin)
        added = [sku for sku in row.skus if old is None or sku not in old.skus]
        if old is not None and not added and (old.name, old.category) == (row.name, row.category):
            statuses[n] = "unchanged"
            continue
        statuses[n] = "created" if old is None else "updated"
        skus += [(registered.platforms[code], sku, row.gtin) for code, sku in added]
        state[row.gtin] = msgspec.structs.replace(row, skus=[*(old.skus if old else []), *added])
    changed = {rows[n].gtin for n, status in statuses.items() if status != "unchanged"}
    if changed:
        await store.upsert_products(conn, program=program, products=[state[gtin] for gtin in sorted(changed)])
        await store.insert_skus(conn, program=program, skus=skus)
        await _finish(
            conn, program, change, "product.register", "products",
            before={gtin: _plain(_product(registered.before[gtin])) for gtin in sorted(changed & registered.before.keys())},
            after={gtin: _plain(state[gtin]) for gtin in sorted(changed)},
        )  # fmt: skip
    return statuses


# Both ----------------------------------------------------------------------------------------------------


def _usable(row: T | FieldError) -> T:
    """Raises InvalidRequest for a row that could not be read."""
    if isinstance(row, FieldError):
        raise InvalidRequest(row.detail, [row])
    return row


def _import_answer(results: dict[int, ImportResult]) -> ImportAnswer:
    ordered = [results[n] for n in sorted(results)]
    counts = Counter(result.status for result in ordered)
    return ImportAnswer(
        created=counts["created"], updated=counts["updated"], unchanged=counts["unchanged"], rejected=counts["rejected"], results=ordered
    )


async def _finish(
    conn: Connection, program: int, change: Change, action: str, subject: str, *,
    after: dict[str, Any], before: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """The audit row, then the version that makes every process read again (last: it locks one row until the commit)."""
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=subject,
        before=before, after=after, request_id=change.request_id,
    )  # fmt: skip
    await store.raise_registry_version(conn)


async def _certificate(conn: Connection, program: int, id_: int) -> store.CertificateRow:
    row = await store.certificate(conn, program=program, id_=id_)
    if row is None:
        raise NotFound("There is no such certificate.")
    return row


async def _certificate_answer(conn: Connection, program: int, id_: int, warnings: Sequence[str] = ()) -> CertificateAnswer:
    now, zone = await _clock(conn, program)
    return _shown(await _certificate(conn, program, id_), now, zone, warnings)


async def _clock(conn: Connection, program: int) -> tuple[datetime, ZoneInfo]:
    now, zone = await store.clock(conn, program)
    return now, ZoneInfo(zone)


def _certificate_of(row: store.CertificateRow) -> Certificate:
    return Certificate(
        scheme=row.scheme, number=row.number, holder=row.holder, valid_from=row.valid_from, valid_until=row.valid_until, gtins=row.gtins
    )


def _shown(row: store.CertificateRow, at: datetime, zone: ZoneInfo, warnings: Sequence[str] = ()) -> CertificateAnswer:
    facts = CertificateFacts(
        id=row.id, scheme=row.scheme, number=row.number, valid_from=row.valid_from, valid_until=row.valid_until,
        suspended_at=row.suspended_at, revoked_at=row.revoked_at,
    )  # fmt: skip
    return CertificateAnswer(
        id=str(row.id), status=state_at(facts, at, at.astimezone(zone).date()), scheme=row.scheme, number=row.number, holder=row.holder,
        valid_from=row.valid_from, valid_until=row.valid_until, gtins=row.gtins, suspended_at=row.suspended_at,
        revoked_at=row.revoked_at, revocation_reason=row.revocation_reason, warnings=list(warnings),
    )  # fmt: skip


def _product(row: store.ProductRow) -> ProductAnswer:
    skus = [Sku(platform=platform, sku=sku) for platform, sku in row.skus]
    return ProductAnswer(gtin=row.gtin, name=row.name, category=row.category, skus=skus)


def _gtin(text: str) -> str:
    """A GTIN from the path. Raises NotFound for what is none."""
    try:
        return normalise_gtin(text)
    except ValueError:
        raise NotFound("There is no such product.") from None


def _plain(value: Struct) -> dict[str, Any]:
    """A Struct as JSON-like data, for the audit."""
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain
