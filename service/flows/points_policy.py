"""The points policy: how points of a program live and die, in versions that count from some seconds after they were saved.

A version is never applied backwards. It depends on the moment alone which one counts, so that every process decides alike.
"""

from typing import Any, Final

import msgspec

from schemas.bounds import MAX_POLICY_VERSIONS
from schemas.points_policy import PointsPolicy, PointsPolicyAnswer, PointsPolicyPatch, PointsPolicyRecord, PointsPolicyVersion
from service import failpoints
from service.domain.errors import InvalidState
from service.domain.points_policy import DEFAULT, PointsPolicies, PolicyVersion, changed
from service.flows.administer import Change
from service.store import audit, locks
from service.store import points_policy as store
from service.store.campaigns import raise_catalogue_version
from service.store.connection import Connection

EFFECT_AFTER_S: Final = 10.0
"""From then on a saved version counts. Every batch that begins later knows it: it loads the catalogue again when that has changed."""

_decode = msgspec.json.Decoder(PointsPolicy).decode


async def policy(conn: Connection, *, program: int) -> PointsPolicyAnswer:
    """The version in force, and the one that was saved last if it is not in force yet."""
    return await _answer(conn, await store.of_program(conn, program))


async def versions(conn: Connection, *, program: int, before: int, limit: int) -> list[PointsPolicyRecord]:
    """At most `limit` versions below `before`, newest first."""
    return [
        PointsPolicyRecord(
            **_fields(_decode(row.body)), version=row.version, effective_from=row.effective_from, created_by=row.created_by,
            created_at=row.created_at,
        )
        for row in await store.page(conn, program, before=before, limit=limit)
    ]  # fmt: skip


async def change_policy(conn: Connection, patch: PointsPolicyPatch, *, program: int, change: Change) -> PointsPolicyAnswer:
    """Save a new version made of the last one and what is given; the same again changes nothing.

    Raises InvalidRequest with all its errors, InvalidState when the program has MAX_POLICY_VERSIONS versions.
    """
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        policies = await store.of_program(conn, program)
        last = policies.versions[-1] if policies.versions else None
        before = DEFAULT if last is None else last.body
        after = changed(before, patch)
        if after != before:
            if len(policies.versions) >= MAX_POLICY_VERSIONS:
                raise InvalidState(f"The program has {MAX_POLICY_VERSIONS:,} versions of its points policy, which is the most.")
            version = 1 if last is None else last.version + 1
            body = msgspec.json.encode(after).decode()
            effective_from = await store.insert(
                conn, program, version=version, after_s=EFFECT_AFTER_S, body=body, created_by=change.actor
            )  # fmt: skip
            failpoints.at("policy.inserted")
            await audit.record(
                conn, program=program, actor=change.actor, action="points_policy.change", subject="program",
                before=_plain(before), after=_plain(after) | {"version": version, "effective_from": effective_from},
                request_id=change.request_id,
            )  # fmt: skip
            failpoints.at("policy.recorded")
            await raise_catalogue_version(conn)
            failpoints.at("policy.written")
            policies = await store.of_program(conn, program)
        return await _answer(conn, policies)


async def _answer(conn: Connection, policies: PointsPolicies) -> PointsPolicyAnswer:
    current = policies.version_at(await store.now(conn))
    last = policies.versions[-1] if policies.versions else None
    version = PointsPolicyVersion() if current is None else _version(current)
    return PointsPolicyAnswer(**_fields(version), next=None if last is None or last is current else _version(last))


def _version(found: PolicyVersion) -> PointsPolicyVersion:
    return PointsPolicyVersion(**_fields(found.body), version=found.version, effective_from=found.effective_from)


def _fields(policy: PointsPolicy) -> dict[str, Any]:
    return {name: getattr(policy, name) for name in policy.__struct_fields__}


def _plain(policy: PointsPolicy) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(policy)
    return plain
