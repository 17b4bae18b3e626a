"""Certificates: whether one counts for something that happened at a given time."""

from datetime import date, datetime

from msgspec import Struct

from schemas.registries import CertificateStatus


class CertificateFacts(Struct, frozen=True, kw_only=True, gc=False):
    """What decides whether a certificate counts."""

    id: int
    scheme: str
    number: str
    valid_from: date
    """Its first day in the program's time zone."""
    valid_until: date
    """Its last day in the program's time zone."""
    suspended_at: datetime | None = None
    """From then on it does not count; None: not suspended (a suspension that was lifted leaves no trace here)."""
    revoked_at: datetime | None = None
    """From then on it counts no more, for ever."""


def state_at(cert: CertificateFacts, occurred_at: datetime, day: date) -> CertificateStatus:
    """Its state at that time, which is on that local day; revoked outweighs suspended, and both outweigh what the calendar says."""
    if cert.revoked_at is not None and cert.revoked_at <= occurred_at:
        return "revoked"
    if cert.suspended_at is not None and cert.suspended_at <= occurred_at:
        return "suspended"
    if day < cert.valid_from:
        return "not_yet_valid"
    if day > cert.valid_until:
        return "expired"
    return "valid"
