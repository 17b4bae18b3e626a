"""Inbound connectors: prove a delivery's sender, then say in our events what it reports. Pure: no I/O, no clock.

A new platform is one module with `verify` and `translate` and one line in CONNECTORS.
"""

from datetime import datetime

from service.domain.connectors import epcis, shopify, standard
from service.domain.connectors.base import (
    Association,
    BadSignature,
    Connector,
    Demand,
    Headers,
    Hook,
    StaleSignature,
    Translated,
    Untranslatable,
)

__all__ = [
    "CONNECTORS", "Association", "BadSignature", "Connector", "Demand", "Headers", "Hook", "StaleSignature", "Translated", "Untranslatable",
    "translate", "verify",
]  # fmt: skip

CONNECTORS: dict[str, Connector] = {
    "epcis": Connector(epcis.verify, epcis.translate),
    "shopify": Connector(shopify.verify, shopify.translate),
    "standard": Connector(standard.verify, standard.translate),
}


def verify(hook: Hook, headers: Headers, body: bytes, now: datetime) -> None:
    """Raise BadSignature unless one of the hook's secrets signed these raw bytes. Header names are lower-case."""
    connector = CONNECTORS.get(hook.connector)
    if connector is None:
        raise BadSignature("the hook's connector is not known, so nothing can prove the sender")
    connector.verify(hook, headers, body, now)


def translate(hook: Hook, headers: Headers, body: bytes) -> Translated:
    """What a delivery that verified reports. Raises Untranslatable, and nothing else, whatever the body is.

    Deterministic: a repeat, or another topic about the same fact, gives the same event ids.
    """
    connector = CONNECTORS.get(hook.connector)
    if connector is None:
        raise Untranslatable("the hook's connector is not known")
    return connector.translate(hook, headers, body)
