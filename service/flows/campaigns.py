"""Campaigns: drafted, changed by new versions, activated, paused, ended.

Every change takes the catalogue lock first, so that no credit is decided meanwhile: counters that a new cap or budget needs
start exactly from what was awarded. The change, its audit row and the raised catalogue version commit together.
"""

from typing import Any

import msgspec

from schemas.campaigns import CampaignAnswer, CampaignBody, CampaignStatus, CampaignVersion, Multiplier
from schemas.problems import FieldError
from service import failpoints
from service.domain import preconditions
from service.domain.campaigns import Step, after_step, check_campaign, compile_campaign
from service.domain.catalogue import Catalogue, Tracked
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.flows.administer import Change
from service.store import audit, locks
from service.store import campaigns as store
from service.store.connection import Connection


async def create(conn: Connection, body: CampaignBody, *, program: int, change: Change) -> CampaignAnswer:
    """A new draft. Raises InvalidRequest with all its errors, InvalidState when the code is taken."""
    check_campaign(body)
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        await _check_references(conn, program, body)
        text = _encoded(body)
        campaign = await store.insert(
            conn, program=program, code=body.code, action=body.action, body=text, created_by=change.actor
        )  # fmt: skip
        if campaign is None:
            raise InvalidState(f"The campaign {body.code!r} exists.")
        failpoints.at("campaigns.inserted")
        await _fill_counters(conn, campaign, _tracked(campaign, []), _tracked(campaign, [text]))
        await _finish(conn, program, change, "campaign.create", body.code, before=None, after=msgspec.json.decode(text))
        return _answer(await _found(conn, program, body.code))


async def patch(
    conn: Connection, code: str, changes: dict[str, Any], *, program: int, change: Change, if_match: str | None = None
) -> CampaignAnswer:
    """A new version: the newest one with a JSON merge patch (RFC 7396) over it; another award kind replaces the whole award.

    A patch that changes nothing makes no version. Of a draft the version counts from the beginning, otherwise for what occurs
    from now on. Raises NotFound, InvalidState (ended), PreconditionFailed, InvalidRequest, msgspec.ValidationError (a field of the
    wrong type).
    """
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        row = await _found(conn, program, code)
        if row.status == "ended":
            raise InvalidState("An ended campaign cannot change.")
        preconditions.check(if_match, tag_of(row))
        before = msgspec.json.decode(row.body)
        _check_fixed_fields(before, changes)
        body = msgspec.json.decode(msgspec.json.encode(_merged(before, changes)), type=CampaignBody)
        text = _encoded(body)
        if text == row.body:
            return _answer(row)
        check_campaign(body)
        await _check_references(conn, program, body)
        bodies = await store.bodies(conn, row.id)
        await store.insert_version(
            conn, campaign=row.id, version=row.version + 1, body=text, from_now=row.status != "draft", created_by=change.actor
        )
        failpoints.at("campaigns.versioned")
        await _fill_counters(conn, row.id, _tracked(row.id, bodies), _tracked(row.id, [*bodies, text]))
        await _finish(conn, program, change, "campaign.change", code, before=before, after=msgspec.json.decode(text))
        return _answer(await _found(conn, program, code))


async def step(conn: Connection, code: str, name: Step, *, program: int, change: Change, if_match: str | None = None) -> CampaignAnswer:
    """Activate, pause or end; safe to repeat. Raises NotFound, InvalidState, PreconditionFailed."""
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        row = await _found(conn, program, code)
        status = after_step(row.status, name)
        preconditions.check(if_match, tag_of(row))
        if status != row.status:
            await store.set_status(conn, campaign=row.id, status=status)
            failpoints.at("campaigns.stepped")
            await _finish(conn, program, change, f"campaign.{name}", code, before={"status": row.status}, after={"status": status})
        return _answer(await _found(conn, program, code))


def tag_of(campaign: store.CampaignRow | CampaignAnswer) -> str:
    """The strong entity tag of a campaign: another one after every change."""
    return f'"{campaign.version}-{campaign.revision}"'


async def get(conn: Connection, code: str, *, program: int) -> CampaignAnswer:
    """A campaign in its newest version. Raises NotFound."""
    return _answer(await _found(conn, program, code))


async def page(conn: Connection, *, program: int, after: str, status: CampaignStatus | None, limit: int) -> list[CampaignAnswer]:
    """At most `limit` campaigns with codes above `after`, by code."""
    return [_answer(row) for row in await store.page(conn, program=program, after=after, status=status, limit=limit)]


async def versions(conn: Connection, code: str, *, program: int, before: int, limit: int) -> list[CampaignVersion]:
    """At most `limit` versions of a campaign below `before`, newest first. Raises NotFound."""
    row = await _found(conn, program, code)
    found = await store.versions(conn, campaign=row.id, before=before, limit=limit)
    return [
        CampaignVersion(
            version=v.version, effective_from=v.effective_from, created_at=v.created_at, created_by=v.created_by,
            body=msgspec.json.decode(v.body, type=CampaignBody),
        )
        for v in found
    ]  # fmt: skip


async def _found(conn: Connection, program: int, code: str) -> store.CampaignRow:
    row = await store.get(conn, program=program, code=code)
    if row is None:
        raise NotFound("There is no such campaign.")
    return row


async def _finish(
    conn: Connection, program: int, change: Change, action: str, code: str, *, before: dict[str, Any] | None, after: dict[str, Any]
) -> None:
    """The audit row, then the version that makes every process look again (last: it locks one row until the commit)."""
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=f"campaign:{code}",
        before=before, after=after, request_id=change.request_id,
    )  # fmt: skip
    failpoints.at("campaigns.recorded")
    await store.raise_catalogue_version(conn)
    failpoints.at("campaigns.written")


async def _check_references(conn: Connection, program: int, body: CampaignBody) -> None:
    """Platforms and multiplied campaigns must be the program's own; a multiplier multiplies the same action's other awards."""
    errors: list[FieldError] = []
    platforms = body.platforms or []
    known = await store.known_platforms(conn, program=program, codes=platforms) if platforms else set()
    for i, platform in enumerate(platforms):
        if platform not in known:
            errors.append(FieldError(pointer=f"/platforms/{i}", detail="is not a platform of this program"))
    if isinstance(body.award, Multiplier):
        actions = await store.actions(conn, program=program, codes=body.award.of)
        for i, code in enumerate(body.award.of):
            if code not in actions:
                errors.append(FieldError(pointer=f"/award/of/{i}", detail="is not a campaign of this program"))
            elif actions[code][0] != body.action:
                errors.append(FieldError(pointer=f"/award/of/{i}", detail=f"is a campaign for {actions[code][0]}, not for {body.action}"))
            elif isinstance(msgspec.json.decode(actions[code][1], type=CampaignBody).award, Multiplier):
                errors.append(FieldError(pointer=f"/award/of/{i}", detail="is a multiplier itself"))
    if errors:
        raise InvalidRequest.of(errors)


def _tracked(campaign: int, bodies: list[str]) -> Tracked:
    """What is counted for a campaign with these versions."""
    if not bodies:
        return Tracked(day=False, year=False, total=False, budget_total=False, budget_day=False)
    versions = [(0, compile_campaign(campaign, "draft", n, None, body)) for n, body in enumerate(bodies, start=1)]
    return Catalogue(0, [], versions).tracked(campaign)


async def _fill_counters(conn: Connection, campaign: int, before: Tracked, after: Tracked) -> None:
    """Counters of windows that no version before has counted start from what was awarded and not taken back."""
    for span, new in ((1, after.day and not before.day), (2, after.year and not before.year), (3, after.total and not before.total)):
        if new:
            await store.fill_cap(conn, campaign, span)
    if after.budget_total and not before.budget_total:
        await store.fill_budget(conn, campaign, total=True)
    if after.budget_day and not before.budget_day:
        await store.fill_budget(conn, campaign, total=False)
    failpoints.at("campaigns.counted")


def _check_fixed_fields(before: dict[str, Any], changes: dict[str, Any]) -> None:
    errors = [
        FieldError(pointer=f"/{name}", detail="cannot change: create another campaign")
        for name in ("code", "action")
        if name in changes and changes[name] != before[name]
    ]
    if errors:
        raise InvalidRequest.of(errors)


def _merged(before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """RFC 7396 for a document whose objects are one level deep; fields of another award kind are not inherited."""
    merged = dict(before)
    for name, value in changes.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict) and value.get("kind", old.get("kind")) == old.get("kind"):
            merged[name] = {key: item for key, item in {**old, **value}.items() if item is not None}
        elif value is None:
            merged.pop(name, None)
        else:
            merged[name] = value
    return merged


def _encoded(body: CampaignBody) -> str:
    return msgspec.json.encode(body).decode()


def _answer(row: store.CampaignRow) -> CampaignAnswer:
    body = msgspec.json.decode(row.body, type=CampaignBody)
    return CampaignAnswer(
        code=row.code, status=row.status, version=row.version, revision=row.revision, created_at=row.created_at,
        name=body.name, action=body.action,
        starts_at=body.starts_at, ends_at=body.ends_at, award=body.award, platforms=body.platforms, segment=body.segment,
        when=body.when, caps=body.caps, budget=body.budget, stacking=body.stacking, priority=body.priority, hold=body.hold,
        expires_after=body.expires_after,
    )  # fmt: skip
