"""Versions of a program's fraud model: drafted, tried beside the running one, run, retired; its signals switched off and on.

Judges ask which versions count within seconds. What was decided stays as it was. The audit names versions and signals; what operators
wrote is the version's note.
"""

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from schemas.bounds import MAX_FRAUD_MODELS
from schemas.fraud_models import FraudModelAnswer, FraudModelBody, FraudModelDetails, SignalAnswer
from service.domain import fraud_models as rules
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.fraud.model import Model
from service.domain.fraud_models import SHIPPED, Step
from service.flows.administer import Change
from service.store import audit, locks
from service.store import fraud_models as store
from service.store.connection import Connection
from service.store.fraud_models import Saved

NEWEST: Final = 2**31 - 1


async def read(conn: Connection, version: int, *, program: int) -> FraudModelDetails:
    """One version; 0 is the shipped one. Raises NotFound."""
    return _details(await _found(conn, program, version))


async def page(conn: Connection, *, program: int, before: int, limit: int) -> list[FraudModelAnswer]:
    """At most `limit` versions below `before`, newest first; the shipped one is the last."""
    rows = [_answer(row) for row in await store.page(conn, program, before=before, limit=limit)]
    if before > SHIPPED.version and len(rows) < limit:
        rows.append(_answer(await _shipped(conn, program)))
    return rows


async def draft(conn: Connection, body: FraudModelBody, *, program: int, operator: int, change: Change) -> FraudModelAnswer:
    """Save a new version that nobody asks yet. Each call makes one.

    Raises InvalidRequest with all its errors, InvalidState (MAX_FRAUD_MODELS versions).
    """
    async with conn.transaction():
        await locks.lock_fraud_settings(conn, program)
        base = await _base(conn, program, body.base)
        model = await _insert(conn, rules.drafted(body, base), program=program, note=body.note, report=None, operator=operator)
        after = {"version": model.version, "base": base.version, "hold_bp": model.hold_bp, "reject_bp": model.reject_bp}
        await _record(conn, program, "fraud_model.draft", model.version, change, after=after)
        return _answer(await _found(conn, program, model.version))


async def save_tuned(conn: Connection, model: Model, *, program: int, report: str, note: str | None, change: Change) -> int:
    """Save what tuning found as a draft, with its report (JSON); the version. Raises InvalidState (MAX_FRAUD_MODELS versions)."""
    async with conn.transaction():
        await locks.lock_fraud_settings(conn, program)
        saved = await _insert(conn, rules.complete(model), program=program, note=note, report=report, operator=None)
        await _record(conn, program, "fraud_model.tune", saved.version, change, after={"version": saved.version, "hold_bp": saved.hold_bp})
        return saved.version


async def activate(conn: Connection, version: int, step: Step, *, program: int, change: Change) -> FraudModelAnswer:
    """Let a version run or be asked beside, or retire it; what ran or stood beside before is retired. A repeat changes nothing.

    Raises NotFound, InvalidState (the running one steps back, the shipped one is to stand beside).
    """
    async with conn.transaction():
        await locks.lock_fraud_settings(conn, program)
        row = await _found(conn, program, version)
        if not rules.needs_step(version, row.state, step):
            return _answer(row)
        before = _versions(await store.active(conn, program))
        await store.set_state(conn, program, version, step)
        after = _versions(await store.active(conn, program)) | {"version": version, "as": step}
        await _record(conn, program, "fraud_model.activate", version, change, before=before, after=after)
        return _answer(await _found(conn, program, version))


async def signals(conn: Connection, *, program: int) -> list[SignalAnswer]:
    """Every signal as the running model has it."""
    return rules.signals_of((await store.active(conn, program)).running)


async def switch(conn: Connection, name: str, *, on: bool, reason: str, program: int, operator: int, change: Change) -> SignalAnswer:
    """Let a signal count or not, from seconds later on: a new version runs that is the running one but for that. A repeat changes nothing.

    Raises NotFound (no such signal), InvalidState (MAX_FRAUD_MODELS versions).
    """
    if not rules.is_signal(name):
        raise NotFound("There is no such signal.")
    async with conn.transaction():
        await locks.lock_fraud_settings(conn, program)
        running = (await store.active(conn, program)).running
        model = rules.switched(running, name, on=on)
        if model is not running:
            model = await _insert(conn, rules.complete(model), program=program, note=reason, report=None, operator=operator)
            await store.set_state(conn, program, model.version, "running")
            await audit.record(
                conn, program=program, actor=change.actor, action="fraud_signal.switch", subject=f"fraud_signal:{name}",
                before={"on": not on, "model": running.version}, after={"on": on, "model": model.version}, request_id=change.request_id,
            )  # fmt: skip
        return next(signal for signal in rules.signals_of(model) if signal.name == name)


async def _insert(conn: Connection, model: Model, *, program: int, note: str | None, report: str | None, operator: int | None) -> Model:
    """The model under the next version, saved. The caller holds the lock."""
    last = await store.last(conn, program)
    if last >= MAX_FRAUD_MODELS:
        raise InvalidState(f"The program has {MAX_FRAUD_MODELS:,} versions of its fraud model, which is the most.")
    model = replace(model, version=last + 1)
    await store.insert(conn, program, model, note=note, report=report, created_by=operator)
    return model


async def _base(conn: Connection, program: int, version: int | None) -> Model:
    """What a draft lies over. Raises InvalidRequest."""
    if version is None:
        return (await store.active(conn, program)).running
    try:
        return (await _found(conn, program, version)).model
    except NotFound:
        raise InvalidRequest.at("/base", "is no version of this program's model") from None


async def _found(conn: Connection, program: int, version: int) -> Saved:
    if version == SHIPPED.version:
        return await _shipped(conn, program)
    row = await store.find(conn, program, version) if version <= NEWEST else None
    if row is None:
        raise NotFound("There is no such version of the model.")
    return row


async def _shipped(conn: Connection, program: int) -> Saved:
    runs = (await store.active(conn, program)).running.version == SHIPPED.version
    return Saved(model=SHIPPED, state="running" if runs else "retired")


def _versions(active: store.Active) -> dict[str, int | None]:
    return {"running": active.running.version, "shadow": None if active.shadow is None else active.shadow.version}


def _answer(row: Saved) -> FraudModelAnswer:
    return replace(rules.shown(row.model, row.state), **_made(row))


def _details(row: Saved) -> FraudModelDetails:
    shown = rules.shown(row.model, row.state)
    fields = {name: getattr(shown, name) for name in shown.__struct_fields__}
    report = None if row.report is None else msgspec.Raw(row.report.encode())
    return FraudModelDetails(**fields | _made(row), report=report)


def _made(row: Saved) -> dict[str, Any]:
    by = "command" if row.created_by is None else f"operator:{row.created_by}"
    return {
        "note": row.note, "created_by": by if row.created_at else None, "created_at": row.created_at, "changed_at": row.changed_at,
    }  # fmt: skip


async def _record(
    conn: Connection,
    program: int,
    action: str,
    version: int,
    change: Change,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any],
) -> None:
    await audit.record(
        conn, program=program, actor=change.actor, action=action, subject=f"fraud_model:{version}", before=before, after=after,
        request_id=change.request_id,
    )  # fmt: skip
