"""Versions of a fraud model: what may be saved, which steps a version takes, how a signal is switched off."""

import re
from typing import Final, Literal

from msgspec import UNSET
from msgspec.structs import replace

from schemas.fraud_models import FraudModelAnswer, FraudModelBody, ModelState, SignalAnswer
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.fraud.model import EVEN, GROUPS, Model
from service.domain.fraud.records import KINDS
from service.domain.fraud.signals import SIGNALS

Step = Literal["running", "shadow", "retired"]

SHIPPED: Final = Model()
"""Version 0: it runs where a program has no version of its own that does."""
_BY_NAME: Final = {signal.name: signal for signal in SIGNALS}
_NUMBER: Final = re.compile(r"\{[^}]*\}")


def complete(model: Model) -> Model:
    """The model with a weight and a shape for every signal and a cap for every group, and for no others.

    A version is saved like this, so that it says the same whatever a later release gives to what it left out.
    """
    return replace(
        model,
        weights={signal.name: max(0.0, model.weights.get(signal.name, signal.weight)) for signal in SIGNALS},
        shapes={signal.name: {kind: model.shapes.get(signal.name, {}).get(kind, EVEN) for kind in KINDS} for signal in SIGNALS},
        caps={group: model.caps.get(group, 0.0) for group in GROUPS},
        kinds={kind: model.kinds.get(kind, 0.0) for kind in KINDS},
        off=frozenset(name for name in model.off if name in _BY_NAME),
    )


def drafted(body: FraudModelBody, base: Model) -> Model:
    """What is given over the model that it is based on. Raises InvalidRequest with everything that is wrong."""
    errors = [FieldError(pointer=f"/weights/{_token(name)}", detail="is no signal") for name in body.weights if name not in _BY_NAME]
    errors += [FieldError(pointer=f"/caps/{_token(name)}", detail="is no group of signals") for name in body.caps if name not in GROUPS]
    off = base.off if body.off is UNSET else frozenset(body.off)
    errors += [
        FieldError(pointer=f"/off/{i}", detail="is no signal")
        for i, name in enumerate([] if body.off is UNSET else body.off)
        if name not in _BY_NAME
    ]
    hold_bp = base.hold_bp if body.hold_bp is UNSET else body.hold_bp
    reject_bp = base.reject_bp if body.reject_bp is UNSET else body.reject_bp
    if reject_bp < hold_bp:
        errors.append(FieldError(pointer="/reject_bp", detail=f"must not be below hold_bp, which is {hold_bp}"))
    if errors:
        raise InvalidRequest.of(errors)
    of = complete(base)
    return complete(
        replace(
            of, intercept=of.intercept if body.intercept is UNSET else body.intercept, weights={**of.weights, **body.weights},
            caps={**of.caps, **body.caps}, kinds={**of.kinds, **body.kinds}, off=off, hold_bp=hold_bp, reject_bp=reject_bp,
        )
    )  # fmt: skip


def switched(model: Model, signal: str, *, on: bool) -> Model:
    """The model with one signal counting, or not; itself where that is so already."""
    if (signal not in model.off) == on:
        return model
    return replace(model, off=model.off - {signal} if on else model.off | {signal})


def needs_step(version: int, state: ModelState, step: Step) -> bool:
    """Whether the step changes anything. Raises InvalidState for one that would leave no model running, or run the shipped one beside."""
    if state == step:
        return False
    if version == SHIPPED.version and step != "running":
        raise InvalidState("The shipped model can only run: save a draft that is based on it.")
    if state == "running":
        raise InvalidState("The model that runs cannot step back: activate another version as running, or 0, the shipped one.")
    return True


def is_signal(name: str) -> bool:
    """Whether there is such a signal."""
    return name in _BY_NAME


def signals_of(model: Model) -> list[SignalAnswer]:
    """Every signal as the model has it, in the order of their groups."""
    weights = complete(model).weights
    return [
        SignalAnswer(
            name=signal.name, group=signal.group, weight=weights[signal.name], on=signal.name not in model.off,
            says=_NUMBER.sub("…", signal.says), softly=signal.softly, model=model.version,
        )
        for signal in SIGNALS
    ]  # fmt: skip


def shown(model: Model, state: ModelState) -> FraudModelAnswer:
    """A model as operators read it."""
    of = complete(model)
    shapes = {name: {kind: list(shape) for kind, shape in kinds.items()} for name, kinds in of.shapes.items()}
    return FraudModelAnswer(
        version=model.version, state=state, intercept=of.intercept, weights=of.weights, shapes=shapes, caps=of.caps, kinds=of.kinds,
        off=sorted(of.off), hold_bp=of.hold_bp, reject_bp=of.reject_bp,
    )  # fmt: skip


def _token(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")
