"""Advisory locks, held until the transaction ends. Take them before any row lock."""

from typing import Final

from service.store.connection import Connection

CATALOGUE_LOCK: Final = 7305
"""Exclusive for a change of campaigns, shared for credits: a changed campaign is never half seen."""
REGISTRY_LOCK: Final = 7306
"""Exclusive among changes of certificates and products; credits do not take it."""
SETTLEMENT_LOCK: Final = 7307
"""With the first bucket of a group: one worker settles a group at a time. Spares the others a wait, guards nothing."""

LOCK_CATALOGUE = f"SELECT pg_advisory_xact_lock({CATALOGUE_LOCK})"
SHARE_CATALOGUE = f"SELECT pg_advisory_xact_lock_shared({CATALOGUE_LOCK})"
LOCK_REGISTRIES = f"SELECT pg_advisory_xact_lock({REGISTRY_LOCK})"


async def lock_catalogue(conn: Connection) -> None:
    """Wait until no credit is being decided, and keep the next ones waiting until the commit."""
    await conn.execute(LOCK_CATALOGUE)


async def share_catalogue(conn: Connection) -> None:
    """Keep campaigns as they are, and everybody in the vault, until the commit."""
    await conn.execute(SHARE_CATALOGUE)


async def lock_registries(conn: Connection) -> None:
    """One change of the registries at a time, so that bulk imports need no retries."""
    await conn.execute(LOCK_REGISTRIES)
