"""Impact factors of a program, and the report of what awards recorded by them.

A new version takes the catalogue lock, as a change of a campaign does: what is decided meanwhile waits, and every process reads the
factors again before it decides. Awards keep what they recorded.
"""

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from schemas.bounds import MAX_FACTOR_VERSIONS
from schemas.impact import FactorAnswer, FactorBody, FactorHistory, FactorVersion, Grams, ImpactGroup, ImpactReport, Origin
from service.domain.errors import InvalidState, NotFound
from service.domain.factors import REFERENCE, check_factor, reference_version
from service.domain.impact import report_days
from service.flows.administer import Change
from service.store import audit, campaigns, locks, registries
from service.store import impact as store
from service.store.connection import Connection


async def save_factor(conn: Connection, body: FactorBody, *, program: int, change: Change) -> tuple[FactorAnswer, bool]:
    """A new version of a factor, or the newest one again if it says the same; and whether it is new.

    Raises InvalidRequest with all its errors, InvalidState when the program has MAX_FACTOR_VERSIONS versions.
    """
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        known = await store.newest(conn, program)
        before = known.pop(body.id, None)
        check_factor(body, {id_: _body(row) for id_, row in known.items()})
        text = msgspec.json.encode(body).decode()
        new = before is None or before.body != text
        if new:
            if await store.count(conn, program) >= MAX_FACTOR_VERSIONS:
                raise InvalidState(f"The program has {MAX_FACTOR_VERSIONS:,} versions of impact factors, which is the most.")
            version = 1 if before is None else before.version + 1
            await store.insert(
                conn, program=program, id_=body.id, version=version, effective_from=body.effective_from, body=text,
                created_by=change.actor,
            )  # fmt: skip
            await audit.record(
                conn, program=program, actor=change.actor, action="impact_factor.save", subject=f"impact_factor:{body.id}",
                before=None if before is None else _plain(before), after=_plain((await store.newest(conn, program))[body.id]),
                request_id=change.request_id,
            )  # fmt: skip
            await campaigns.raise_catalogue_version(conn)
        return _answer(body.id, (await store.newest(conn, program)).get(body.id)), new


async def factors(conn: Connection, *, program: int, after: str, limit: int) -> list[FactorAnswer]:
    """At most `limit` factors with ids above `after`, by id: the reference list and the program's own in one."""
    own = await store.newest(conn, program)
    ids = sorted(id_ for id_ in REFERENCE.keys() | own.keys() if id_ > after)
    return [_answer(id_, own.get(id_)) for id_ in ids[:limit]]


async def factor(conn: Connection, id_: str, *, program: int) -> FactorHistory:
    """One factor with all versions, newest first; the reference list's is the last. Raises NotFound."""
    rows = await store.versions(conn, program=program, id_=id_)
    versions = [_version(row) for row in rows]
    if id_ in REFERENCE:
        versions.append(reference_version(REFERENCE[id_]))
    if not versions:
        raise NotFound("There is no such impact factor.")
    return FactorHistory(id=id_, origin=_origin(id_), newest=versions[0], versions=versions)


async def report(
    conn: Connection, *, program: int, from_: date | None, to: date | None, campaign: str | None, platform: str | None
) -> ImpactReport:
    """Sums by factor, version and method of what occurred in the local days [from_, to), perhaps of one campaign or platform.

    Awards that were taken back in full do not count. Raises what `report_days` raises, NotFound (no such campaign or platform).
    """
    now, time_zone = await registries.clock(conn, program)
    from_, to = report_days(from_, to, today=now.astimezone(ZoneInfo(time_zone)).date())
    campaign_id = None if campaign is None else await _campaign(conn, program, campaign)
    platform_id = None if platform is None else await _platform(conn, program, platform)
    rows = await store.groups(conn, program=program, from_=from_, to=to, campaign=campaign_id, platform=platform_id)
    return ImpactReport(from_=from_, to=to, campaign=campaign, platform=platform, groups=[_group(row) for row in rows])


async def _campaign(conn: Connection, program: int, code: str) -> int:
    row = await campaigns.get(conn, program=program, code=code)
    if row is None:
        raise NotFound("There is no such campaign.")
    return row.id


async def _platform(conn: Connection, program: int, code: str) -> int:
    found = await registries.platform_ids(conn, program=program, codes=[code])
    if code not in found:
        raise NotFound("There is no such platform.")
    return found[code]


def _group(row: store.Group) -> ImpactGroup:
    return ImpactGroup(
        factor=row.factor, version=row.version, vintage=row.vintage, method=row.method, region=row.region, source=row.source,
        awards=row.awards, awards_without_central=row.awards_without_central, mass_g=row.mass_g, plastic_g=row.plastic_g,
        co2e_g=Grams(low=row.low, central=row.central, high=row.high),
    )  # fmt: skip


def _origin(id_: str) -> Origin:
    return "reference" if id_ in REFERENCE else "program"


def _answer(id_: str, row: store.FactorRow | None) -> FactorAnswer:
    return FactorAnswer(id=id_, origin=_origin(id_), newest=reference_version(REFERENCE[id_]) if row is None else _version(row))


def _version(row: store.FactorRow) -> FactorVersion:
    body = _body(row)
    co2e = body.co2e_kg
    return FactorVersion(
        version=row.version, effective_from=row.effective_from, what=body.what, unit=body.unit,
        co2e_kg=None if co2e is None else msgspec.structs.asdict(co2e), plastic_g=body.plastic_g, method=body.method, region=body.region,
        vintage=body.vintage, usable_for=list(body.usable_for), source=body.source, verification=body.verification,
        applies_to=body.applies_to, created_at=row.created_at, created_by=row.created_by,
    )  # fmt: skip


def _body(row: store.FactorRow) -> FactorBody:
    return msgspec.json.decode(row.body, type=FactorBody)


def _plain(row: store.FactorRow) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.json.decode(row.body)
    return plain | {"version": row.version, "effective_from": row.effective_from.isoformat()}
