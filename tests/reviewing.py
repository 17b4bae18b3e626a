"""Events under review, as the judge and those who decide leave them behind."""

import itertools
import json
from datetime import timedelta
from typing import Any

from service.domain.fraud.signals import SIGNALS
from service.flows.reviews import UNUSUAL
from tests.worlds import World, cancelled

SIGNAL = {signal.name: signal.softly for signal in SIGNALS}
REASONS = [
    {"signal": "crowded_device", "sentence": "9 accounts on one device.", "share": 0.6},
    {"signal": "same_path", "sentence": "9 accounts did the same.", "share": 0.2},
    {"signal": "of_another_age", "sentence": "Seen before.", "share": 0.1},
    {"signal": "of_yet_another", "sentence": "Seen twice.", "share": 0.1},
]
SOFT = [SIGNAL["crowded_device"], SIGNAL["same_path"], UNUSUAL]
_seqs = itertools.count(1)


async def event_of(world: World, id_: str, platform: str = "shop") -> dict[str, Any]:
    """The stored event that a platform reported under this id."""
    (row,) = await world.rows("SELECT * FROM event WHERE id = $1 AND platform = $2", id_, world.platforms[platform].platform)
    return row


async def hold(world: World, *ids: str, platform: str = "shop", for_: timedelta = timedelta(days=7), at_deadline: str = "release") -> int:
    """Put events into a case, held; its number."""
    events = [await event_of(world, id_, platform) for id_ in ids]
    (case,) = await world.rows(
        """INSERT INTO fraud_case (number, program, ring, status, score, opened_at, updated_at)
           VALUES (nextval('number'), $1, $2, 'open', 9000, now(), now()) RETURNING number""",
        world.program, events[0]["account"],
    )  # fmt: skip
    for event in events:
        await world.rows(
            """INSERT INTO screening (bucket, account, event, program, state) VALUES ($1, $2, $3, $4, 1)
               ON CONFLICT (bucket, event) DO UPDATE SET state = 1""",
            event["bucket"], event["account"], event["number"], world.program,
        )  # fmt: skip
        await world.rows(
            """INSERT INTO fraud_case_event (bucket, account, event, program, fraud_case, points, score, reasons, found, state, held_at,
                                             deadline, at_deadline)
               VALUES ($1, $2, $3, $4, $5, $6, 9000, $7, 'arrival', 'held', now(), now() + $8, $9)""",
            event["bucket"], event["account"], event["number"], world.program, case["number"], event["points"], json.dumps(REASONS), for_,
            at_deadline,
        )  # fmt: skip
        await verdict(world, event)
    return int(case["number"])


async def verdict(world: World, event: dict[str, Any], *, outcome: int = 2, enforced: bool = True, days_ago: int = 0) -> None:
    """What the checks said of an event."""
    await world.rows(
        """INSERT INTO verdict (program, seq, bucket, account, event, points, outcome, enforced, model, score, own, strengths, judged_at)
           SELECT $1, coalesce(max(seq), 0) + 1, $2, $3, $4, $5, $6, $7, 0, 9000, 9000, '{"crowded_device": 4}', now() - make_interval(days => $8)
           FROM verdict WHERE program = $1""",
        world.program, event["bucket"], event["account"], event["number"], event["points"], outcome, enforced, days_ago,
    )  # fmt: skip


async def reject(world: World, paid: dict[str, Any], *, by: int, also_by: int | None = None, days_ago: int = 0) -> None:
    """Reject a held order as operators do: its points are taken back by a fact of its own, and a mark stays."""
    event = await event_of(world, paid["id"])
    reversal = f"review:{next(_seqs)}"
    await world.credit(cancelled(paid) | {"id": reversal})
    (decision,) = await world.rows(
        """INSERT INTO fraud_decision (number, program, fraud_case, decision, events, points, alone, status, proposed_by, proposed_at,
                                       decided_by, decided_at)
           SELECT nextval('number'), program, fraud_case, 'reject', ARRAY[event], points, $3::integer IS NULL, 'done', $2::integer, now(), $3, now()
           FROM fraud_case_event WHERE event = $1 RETURNING number""",
        event["number"], by, also_by,
    )  # fmt: skip
    await world.rows("UPDATE screening SET state = 2 WHERE event = $1", event["number"])
    await world.rows(
        """UPDATE fraud_case_event SET state = 'rejected', deadline = NULL, at_deadline = NULL, decision = $2,
                  decided_at = now() - make_interval(days => $3), reversal = $4 WHERE event = $1""",
        event["number"], decision["number"], days_ago, reversal,
    )  # fmt: skip
    await world.rows(
        """UPDATE fraud_case c SET status = 'closed', closed_at = now() FROM fraud_case_event e
           WHERE e.event = $1 AND c.number = e.fraud_case
             AND NOT EXISTS (SELECT FROM fraud_case_event o WHERE o.fraud_case = c.number AND o.state IN ('held', 'settled'))""",
        event["number"],
    )  # fmt: skip
    await world.rows(
        """INSERT INTO fraud_label (program, event, fraud, points, score, strengths, source)
           SELECT program, event, true, points, score, '{}', 'decision' FROM fraud_case_event WHERE event = $1""",
        event["number"],
    )  # fmt: skip


async def listed(world: World, kind: str, value: str, *, removed_days_ago: int | None = None, until_days_ago: int | None = None) -> None:
    """An entry of the block list, perhaps one that was taken off, or ended."""
    await world.rows(
        """INSERT INTO fraud_list (number, program, list, kind, value, reason, until, removed_at)
           VALUES (nextval('number'), $1, 'block', $2, $3, 'seen', now() - make_interval(days => $5), now() - make_interval(days => $4))""",
        world.program, kind, value, removed_days_ago, until_days_ago,
    )  # fmt: skip


async def states(world: World, id_: str) -> dict[str, Any]:
    """What became of an event: its screening, its state in the case, the case, the label, the objection."""
    (row,) = await world.rows(
        """SELECT (SELECT state FROM screening s WHERE s.event = e.number) AS screening,
                  (SELECT state FROM fraud_case_event c WHERE c.event = e.number) AS event,
                  (SELECT f.status FROM fraud_case_event c JOIN fraud_case f ON f.number = c.fraud_case WHERE c.event = e.number) AS case,
                  (SELECT fraud FROM fraud_label l WHERE l.event = e.number) AS label,
                  (SELECT status FROM fraud_objection o WHERE o.event = e.number) AS objection
           FROM event e WHERE e.id = $1""",
        id_,
    )  # fmt: skip
    return row
