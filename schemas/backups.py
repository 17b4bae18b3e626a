"""A backup's manifest, the list of who was erased, and what a restore answers with `--json`."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from schemas.base import Body

FORMAT = 1
"""Raised when a manifest or a list of erasures changes its meaning."""

Hex = Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f]+$(?!\n)")]


class AppliedMigration(Body, frozen=True, kw_only=True):
    """A migration that the database had, with the SHA-256 of its file in hex."""

    name: str
    sha256: Hex


class Manifest(Body, frozen=True, kw_only=True):
    """What a backup is: enough to see, before anything is touched, whether it is whole and fits."""

    format: int
    id: Hex
    """Tells one backup from another."""
    made_by: str
    """The release of greenpoints."""
    deployment: Hex
    """A fingerprint of the deployment that was backed up."""
    master_keys: list[Hex]
    """Fingerprints of the master keys that were set, newest first; empty: none was known. The keys are not in the backup."""
    snapshot_at: datetime
    """PostgreSQL's time when the snapshot was taken."""
    complete_until: datetime
    """Whatever was acknowledged before is in it; what came later must be reported again. A second or more before `snapshot_at`."""
    epoch: int
    server_version: int
    """Of PostgreSQL, such as 180004."""
    tool_version: int
    """Major version of the pg_dump that wrote the file: an older pg_restore cannot read it."""
    schema: str
    """PostgreSQL's schema that holds the tables."""
    migrations: list[AppliedMigration]
    bytes: int
    """Of the file `database.dump`, as is the next."""
    sha256: Hex
    rows: dict[str, int]
    """By table, in the snapshot."""


class Erased(Body, frozen=True, kw_only=True):
    """A person whom a platform had erased. Names nobody: an account is a random number."""

    account: int
    platform: int
    at: datetime
    kept: list[Hex] = []
    """Keyed hashes of names that the platform still has for the account: those are not erased."""


class Refused(Body, frozen=True, kw_only=True):
    """The keyed hash of a reference of which a program wants no events any more."""

    platform: int
    hash: Hex
    at: datetime


class Erasures(Body, frozen=True, kw_only=True):
    """Everybody who was erased so far, to be erased again after a restore."""

    format: int
    deployment: Hex
    at: datetime
    erased: list[Erased]
    refused: list[Refused]


class Restored(Body, frozen=True, kw_only=True):
    """What a restore did, and whether every invariant holds."""

    backup: Hex
    snapshot_at: datetime
    complete_until: datetime
    epoch: int
    rows: int
    migrated: list[str]
    erased_again: int
    """Persons who were erased after the backup, and are erased again."""
    balances: int
    """Written to Redis."""
    overdue: int
    """What came due since the snapshot, while nobody worked: the workers do it once they start."""
    ok: bool
    """Whether every invariant holds but for that."""
    broken: dict[str, int]
    """Rows that break another invariant, by its name."""
    took_s: float
