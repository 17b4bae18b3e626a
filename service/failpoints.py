"""Failpoints: named places between two steps at which a test ends the process as a SIGKILL would, to see what is true afterwards.

Armed by the setting `failpoints` (`name` or `name:nth`, several separated by commas), which is refused unless the setting `environment`
says `test`. Not armed, a failpoint costs the look at an empty dictionary; none stands on the path of a single event, only of batches.

To add one: its name in NAMES, `failpoints.at("name")` in the code, a row in docs/faults.md, and a scenario of
tests/system/test_failpoints.py that reaches it. tests/flows/test_failpoints_scan.py tells where one is missing.
"""

import os
from typing import Final

EXIT_CODE: Final = 86
"""Of a process that ended at a failpoint: no other end has it."""

NAMES: Final = (
    # Credit, in receive.py and batcher.py:
    "receive.referenced",
    "receive.registered",
    "receive.opened",
    "receive.known",
    "receive.locked",
    "receive.claimed",
    "receive.read",
    "receive.decided",
    "receive.stored",
    "receive.homes_set",
    "receive.hinted",
    "receive.reversed",
    "receive.posted",
    "receive.lots_used",
    "receive.parked",
    "receive.picked_up",
    "receive.written",
    "receive.scrubbed",
    "receive.committed",
    "receive.pushed",
    # An event is declared wrong, in receive.py:
    "declare.registered",
    "declare.unregistered",
    "declare.read",
    "declare.written",
    "declare.forgotten",
    "declare.unapplied",
    "declare.committed",
    # Verdicts, in judge.py:
    "judge.leased",
    "judge.asked",
    "judge.remembered",
    "judge.renewed",
    "judge.looked",
    "judge.begun",
    "judge.judged",
    "judge.held",
    "judge.moved",
    "judge.told",
    "judge.learnt",
    "judge.kept",
    "judge.filed",
    "judge.freed",
    "judge.counted",
    "judge.written",
    "judge.committed",
    "judge.saved",
    # Settling:
    "settle.locked",
    "settle.settled",
    "settle.committed",
    "settle.pushed",
    # Balances of another system:
    "openings.referenced",
    "openings.registered",
    "openings.unregistered",
    "openings.posted",
    "openings.written",
    "openings.committed",
    # Campaigns:
    "campaigns.inserted",
    "campaigns.versioned",
    "campaigns.stepped",
    "campaigns.counted",
    "campaigns.recorded",
    "campaigns.written",
    # Erasure, in erase.py:
    "erase.erased",
    "erase.written",
    "erase.committed",
    "scrub.events",
    "scrub.noted",
    "scrub.parked",
    "scrub.reasons",
    "scrub.lists",
    "scrub.forgotten",
    "scrub.finished",
    # What is too old:
    "forget.bodies",
    "retention.taken",
    "retention.scrubbed",
    "retention.noted",
    "retention.committed",
    "retention.caught_up",
    "retention.parked",
    "retention.exports",
    "fraud_retention.verdicts",
    "fraud_retention.hours",
    "fraud_retention.reasons",
    "fraud_retention.words",
    "fraud_retention.outbox",
    # Balances that a push has missed:
    "mend.read",
    "mend.pushed",
    # Spending, in redeem.py and rewards.py; what is pushed then ends at receive.pushed:
    "redeem.opened",
    "redeem.locked",
    "redeem.decided",
    "redeem.posted",
    "redeem.written",
    "redeem.counted",
    "redeem.committed",
    "rewards.taken",
    "rewards.held",
    "rewards.given",
    "rewards.given_back",
    # Reservations that nobody ends, in release.py:
    "release.leased",
    "release.held",
    "release.released",
    "release.committed",
    "release.pushed",
    # Linked accounts:
    "links.code_made",
    "links.recorded",
    "links.code_taken",
    "links.referenced",
    "links.outrun",
    "links.posted",
    "links.pending_moved",
    "links.home_set",
    "links.caps_merged",
    "links.noted",
    "links.committed",
    "links.pushed",
    "split.posted",
    "split.pending_moved",
    "split.home_set",
    "split.caps_split",
    "split.ended",
    "split.committed",
    # Adjustments and transfers, and what they have in common:
    "adjustments.posted",
    "adjustments.inserted",
    "adjustments.decided",
    "adjustments.recorded",
    "adjustments.expired",
    "transfers.posted",
    "transfers.inserted",
    "repeats.remembered",
    "repeats.committed",
    # Decisions about fraud cases, in fraud_cases.py, and what carries them out, in fraud_reject.py:
    "fraud.decided",
    "fraud.marked",
    "fraud.status_set",
    "fraud.withdrawn",
    "fraud.reopened",
    "fraud.recorded",
    "fraud.expired",
    "fraud.reversed",
    "fraud.pushed",
    "fraud.concluded",
    "fraud.told",
    "fraud.closed",
    "fraud.noted",
    "fraud.committed",
    # Objections to what fraud checks held or rejected:
    "objections.made",
    "objections.labelled",
    "objections.upheld",
    "objections.answered",
    "objections.recorded",
    "approvals.approved",
    "approvals.labelled",
    # Voucher codes:
    "vouchers.loaded",
    "vouchers.recorded",
    # How points live and die:
    "policy.inserted",
    "policy.recorded",
    "policy.written",
    "expire.leased",
    "expire.locked",
    "expire.held",
    "expire.expired",
    "expire.committed",
    "expire.pushed",
    "warn.started",
    "warn.warned",
    "warn.through",
    # Seals:
    "seal.dated",
    "seal.through",
    "seal.buckets",
    "seal.turned",
    "seal.committed",
)

_armed: Final[dict[str, int]] = {}
"""How many times each armed name is still to be passed, the last of which ends the process."""


def at(name: str) -> None:
    """End the process here if a test has armed this name."""
    if _armed and name in _armed:
        _armed[name] -= 1
        if _armed[name] == 0:
            os._exit(EXIT_CODE)  # nothing is flushed, closed or rolled back by us: so would a SIGKILL end it


def read(text: str) -> dict[str, int]:
    """What a setting arms: the names and at which time each ends the process. Raises ValueError in words."""
    found: dict[str, int] = {}
    for word in filter(None, (word.strip() for word in text.split(","))):
        name, _, nth = word.partition(":")
        if name not in NAMES:
            raise ValueError(f"there is no failpoint {name[:64]!r}: see docs/faults.md")
        if nth and not (nth.isascii() and nth.isdecimal() and 0 < int(nth) <= 1_000_000):
            raise ValueError(f"{word[:80]!r}: what stands behind the colon is at which time, from 1 on")
        found[name] = int(nth or "1")
    return found


def arm(text: str) -> None:
    """Arm these names and no others; whoever calls has made sure that this is a test. Raises ValueError."""
    found = read(text)
    _armed.clear()
    _armed.update(found)
