"""Packaging classes and activities of a program's own: declared, changed, retired, shown beside the reference lists.

Every change takes the catalogue lock, so that no credit is decided meanwhile; with the change commit its audit row and the versions that
make every process read again: that of the catalogue for what decides, that of callers for what checks events as they come in.
"""

from collections.abc import Iterable, Mapping
from heapq import merge
from itertools import islice
from typing import Any, TypeVar

import msgspec

from schemas.activities import ActivityKindAnswer, ActivityKindBody, ActivityKindPatch
from schemas.bounds import MAX_OWN_CLASSES, MAX_OWN_KINDS
from schemas.packaging_classes import PackagingClassAnswer, PackagingClassBody, PackagingClassPatch
from service.domain.activities import BUILT_IN, ActivityKind, check_kind
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.packaging import REFERENCE, PackagingClass, class_of
from service.domain.vocabulary import Vocabulary
from service.flows.administer import Change
from service.store import activity_kinds, audit, locks, packaging_classes
from service.store.callers import raise_version
from service.store.campaigns import raise_catalogue_version
from service.store.connection import Connection

T = TypeVar("T", PackagingClass, ActivityKind)


async def vocabulary_of(conn: Connection, program: int) -> Vocabulary:
    """What a program's events may name beside the reference lists."""
    return Vocabulary(classes=await packaging_classes.of_program(conn, program), kinds=await activity_kinds.of_program(conn, program))


# Packaging classes ---------------------------------------------------------------------------------------


async def create_class(conn: Connection, body: PackagingClassBody, *, program: int, change: Change) -> PackagingClassAnswer:
    """A new class of the program's own.

    Raises InvalidRequest (a code of the reference list, a baseline that is none), InvalidState (the code is taken, too many).
    """
    if body.code in REFERENCE:
        raise InvalidRequest.at("/code", "is a class of the reference list")
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        if await packaging_classes.get(conn, program=program, code=body.code) is not None:
            raise InvalidState(f"The packaging class {body.code!r} exists.")
        if await packaging_classes.count(conn, program) >= MAX_OWN_CLASSES:
            raise InvalidState(f"A program has at most {MAX_OWN_CLASSES} packaging classes of its own.")
        await _check_baseline(conn, program, body.code, body.baseline)
        await packaging_classes.insert(conn, body, program=program)
        await _finish(conn, program, change, "packaging-class.create", f"packaging-class:{body.code}", after=msgspec.to_builtins(body))
        return _class_answer(await _class(conn, program, body.code))


async def change_class(
    conn: Connection, code: str, patch: PackagingClassPatch, *, program: int, change: Change
) -> PackagingClassAnswer:  # fmt: skip
    """Another name, other facts, retired or in use again. What it does (`group`, `needs_asset`) stays: that would be another class.

    Raises NotFound, InvalidState (a class of the reference list), InvalidRequest (a baseline that is none).
    """
    if code in REFERENCE:
        raise InvalidState("The reference list cannot be changed: make a class of your own.")
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        before = await _class(conn, program, code)
        given = msgspec.to_builtins(patch)
        after = msgspec.convert(msgspec.to_builtins(before) | given, PackagingClass)
        if after != before:
            if after.baseline != before.baseline:
                await _check_baseline(conn, program, code, after.baseline)
            await packaging_classes.update(conn, after, program=program)
            old = msgspec.to_builtins(before)
            await _finish(
                conn, program, change, "packaging-class.change", f"packaging-class:{code}",
                before={name: old[name] for name in given}, after=given,
            )  # fmt: skip
        return _class_answer(after)


async def packaging_class(conn: Connection, code: str, *, program: int) -> PackagingClassAnswer:
    """One class, of the reference list or the program's own. Raises NotFound."""
    return _class_answer(REFERENCE.get(code) or await _class(conn, program, code))


async def packaging_classes_page(conn: Connection, *, program: int, after: str, limit: int) -> list[PackagingClassAnswer]:
    """At most `limit` classes, of the reference list and the program's own, with codes above `after`."""
    return [_class_answer(each) for each in _page(REFERENCE, await packaging_classes.of_program(conn, program), after, limit)]


async def _class(conn: Connection, program: int, code: str) -> PackagingClass:
    found = await packaging_classes.get(conn, program=program, code=code)
    if found is None:
        raise NotFound("There is no such packaging class.")
    return found


async def _check_baseline(conn: Connection, program: int, code: str, baseline: str | None) -> None:
    if baseline is None:
        return
    found = class_of(baseline, await packaging_classes.of_program(conn, program))
    if found is None or found.group != "baseline" or baseline == code:
        raise InvalidRequest.at("/baseline", "is not another class of the group baseline")


def _class_answer(each: PackagingClass) -> PackagingClassAnswer:
    origin = "reference" if each.code in REFERENCE else "program"
    return msgspec.convert(msgspec.to_builtins(each) | {"origin": origin}, PackagingClassAnswer)


# Activities ----------------------------------------------------------------------------------------------


async def create_kind(conn: Connection, body: ActivityKindBody, *, program: int, change: Change) -> ActivityKindAnswer:
    """A new activity of the program's own. Raises InvalidRequest with all its errors, InvalidState (the code is taken, too many)."""
    check_kind(body)
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        if await activity_kinds.get(conn, program=program, code=body.code) is not None:
            raise InvalidState(f"The activity {body.code!r} exists.")
        if await activity_kinds.count(conn, program) >= MAX_OWN_KINDS:
            raise InvalidState(f"A program has at most {MAX_OWN_KINDS} activities of its own.")
        await activity_kinds.insert(conn, body, program=program)
        await _finish(conn, program, change, "activity-kind.create", f"activity-kind:{body.code}", after=msgspec.to_builtins(body))
        return _kind_answer(await _kind(conn, program, body.code))


async def change_kind(conn: Connection, code: str, patch: ActivityKindPatch, *, program: int, change: Change) -> ActivityKindAnswer:
    """Another name or schema, retired or in use again. What it claims stays: changed, what has earned could earn again.

    Raises NotFound, InvalidState (built in), InvalidRequest with all errors of the schema.
    """
    if code in BUILT_IN:
        raise InvalidState("Activities that are built in cannot be changed: make one of your own.")
    async with conn.transaction():
        await locks.lock_catalogue(conn)
        before = await _kind(conn, program, code)
        given = msgspec.to_builtins(patch)
        old: dict[str, Any] = {"name": before.name, "schema": before.schema, "active": before.active}
        new = old | given
        if new != old:
            body = ActivityKindBody(code=code, name=new["name"], schema=new["schema"], claim=before.claim)
            check_kind(body)
            await activity_kinds.update(conn, body, program=program, active=new["active"])
            await _finish(
                conn, program, change, "activity-kind.change", f"activity-kind:{code}",
                before={name: old[name] for name in given}, after=given,
            )  # fmt: skip
        return _kind_answer(await _kind(conn, program, code))


async def kind(conn: Connection, code: str, *, program: int) -> ActivityKindAnswer:
    """One activity, built in or the program's own. Raises NotFound."""
    return _kind_answer(BUILT_IN.get(code) or await _kind(conn, program, code))


async def kinds_page(conn: Connection, *, program: int, after: str, limit: int) -> list[ActivityKindAnswer]:
    """At most `limit` activities, built in and the program's own, with codes above `after`."""
    return [_kind_answer(each) for each in _page(BUILT_IN, await activity_kinds.of_program(conn, program), after, limit)]


async def _kind(conn: Connection, program: int, code: str) -> ActivityKind:
    found = await activity_kinds.get(conn, program=program, code=code)
    if found is None:
        raise NotFound("There is no such activity.")
    return found


def _kind_answer(each: ActivityKind) -> ActivityKindAnswer:
    return ActivityKindAnswer(
        code=each.code, origin="built_in" if each.code in BUILT_IN else "program", active=each.active, name=each.name,
        schema=dict(each.schema), claim=each.claim, needs=list(each.needs),
    )  # fmt: skip


# Both ----------------------------------------------------------------------------------------------------


def _page(reference: Mapping[str, T], own: Mapping[str, T], after: str, limit: int) -> Iterable[T]:
    """Both lists are short: bounded by MAX_OWN_CLASSES and MAX_OWN_KINDS."""
    everything = merge(sorted(reference.items()), sorted(own.items()), key=lambda item: item[0])
    return islice((each for code, each in everything if code > after), limit)


async def _finish(
    conn: Connection, program: int, change: Change, action: str, subject: str, *,
    after: dict[str, Any], before: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """The audit row, then the versions that make every process read again (last: they lock one row until the commit)."""
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=subject,
        before=before, after=after, request_id=change.request_id,
    )  # fmt: skip
    await raise_version(conn)
    await raise_catalogue_version(conn)
