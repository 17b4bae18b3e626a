"""The book, summed a second time: each statement finds what must not be. Small and slow on purpose; it shares nothing with the service's own check."""

from typing import Any

FAULTS = {
    "a transfer does not sum to zero": "SELECT transfer, sum(amount) FROM entry GROUP BY transfer HAVING sum(amount) <> 0",
    "available and debt are not the sums of the entries": """
        SELECT a.id, a.available, a.debt, e.available, e.debt FROM account a LEFT JOIN (
            SELECT account, sum(amount) FILTER (WHERE book = 1) AS available, sum(amount) FILTER (WHERE book = 3) AS debt FROM entry GROUP BY 1
        ) e ON e.account = a.id WHERE a.available <> coalesce(e.available, 0) OR a.debt <> -coalesce(e.debt, 0)""",
    "pending is not what is on hold": """
        SELECT a.id, a.pending, h.points FROM account a LEFT JOIN (
            SELECT coalesce(o.home, o.id) AS account, sum(w.points - w.reversed) AS points FROM award w
            JOIN due d ON d.bucket = w.bucket AND d.account = w.account AND d.event = w.event AND d.due_at = w.due_at
            JOIN account o ON o.id = w.account GROUP BY 1
        ) h ON h.account = a.id WHERE a.pending <> coalesce(h.points, 0)""",
    "lots do not hold what is available": """
        SELECT a.id, a.available, l.remaining FROM account a LEFT JOIN (SELECT account, sum(remaining) AS remaining FROM lot GROUP BY 1) l
        ON l.account = a.id WHERE a.available + a.reserved <> coalesce(l.remaining, 0)""",
    "what is reserved is not what open redemptions hold": """
        SELECT a.id, a.reserved, l.reserved, h.reserved FROM account a
        LEFT JOIN (SELECT account, sum(reserved) AS reserved FROM lot GROUP BY 1) l ON l.account = a.id
        LEFT JOIN (
            SELECT p.account, sum(p.reserved) AS reserved FROM redemption_lot p JOIN redemption r ON r.number = p.redemption
            WHERE r.status = 'reserved' GROUP BY 1
        ) h ON h.account = a.id
        WHERE a.reserved <> coalesce(l.reserved, 0) OR a.reserved <> coalesce(h.reserved, 0)""",
    "a redemption is not made of its lots": """
        SELECT r.number, r.status, r.points, r.captured, r.refunded, sum(p.reserved), sum(p.spent)
        FROM redemption r JOIN redemption_lot p ON p.redemption = r.number GROUP BY 1, 2, 3, 4, 5
        HAVING sum(p.spent) <> r.captured - r.refunded OR sum(p.reserved) <> CASE r.status WHEN 'reserved' THEN r.points ELSE 0 END""",
    "a reservation has no end": """
        SELECT r.number, r.status FROM redemption r FULL JOIN reservation_due d ON d.redemption = r.number
        WHERE (r.status = 'reserved') IS DISTINCT FROM (d.redemption IS NOT NULL)""",
    "transfers and entries do not tell the same": """
        SELECT t.number, t.points, e.points FROM transfer t FULL JOIN (
            SELECT account, transfer, sum(amount) FILTER (WHERE book IN (1, 3)) AS points FROM entry WHERE kind > 3 GROUP BY 1, 2
        ) e ON e.account = t.account AND e.transfer = t.number
        WHERE t.points IS DISTINCT FROM coalesce(e.points, 0)""",
    "what went between linked accounts did not come": "SELECT transfer, sum(amount) FROM entry WHERE book = 12 GROUP BY 1 HAVING sum(amount) <> 0",
    "a linked account has points": "SELECT id FROM account WHERE home IS NOT NULL AND (pending, available, reserved, debt) <> (0, 0, 0, 0)",
    "a lot's uses do not explain what is gone": """
        SELECT l.event, l.n, l.amount, l.remaining FROM lot l LEFT JOIN (
            SELECT bucket, account, event, n, sum(amount) AS amount FROM lot_use GROUP BY 1, 2, 3, 4
        ) u USING (bucket, account, event, n) WHERE l.amount - l.remaining <> coalesce(u.amount, 0)""",
    "sequences of entries have gaps": """
        SELECT a.id FROM account a JOIN (SELECT account, count(*) AS n, max(seq) AS top FROM entry GROUP BY 1) e ON e.account = a.id
        WHERE e.n <> e.top OR e.top <> a.last_seq""",
    "the version is not the number of changes": """
        SELECT a.id, a.version, a.skipped, v.n FROM account a LEFT JOIN (
            SELECT account, count(DISTINCT version) AS n FROM (
                SELECT coalesce(home, account) AS account, version FROM event WHERE version > 0 UNION ALL SELECT account, version FROM entry
                UNION ALL SELECT account, version FROM transfer
            ) x GROUP BY 1
        ) v ON v.account = a.id WHERE a.version - a.skipped <> coalesce(v.n, 0)""",
    "an order was paid twice": """
        SELECT platform, order_id FROM event WHERE type = 'order.paid' AND points > 0 GROUP BY 1, 2 HAVING count(*) > 1""",
    "an event is there twice": "SELECT platform, id FROM event GROUP BY 1, 2 HAVING count(*) > 1",
    "roll-ups differ from the awards": """
        SELECT campaign, r.issued, w.issued, r.reversed, w.reversed, r.pending, w.pending, r.settled, w.settled FROM (
            SELECT campaign, sum(points_issued) AS issued, sum(points_reversed) AS reversed, sum(points_pending) AS pending,
                   sum(points_settled) AS settled FROM rollup GROUP BY 1
        ) r FULL JOIN (
            SELECT w.campaign, sum(w.points) AS issued, sum(w.reversed) AS reversed,
                   coalesce(sum(w.points - w.reversed) FILTER (WHERE d.event IS NOT NULL), 0) AS pending,
                   coalesce(sum(l.amount), 0) AS settled
            FROM award w
            LEFT JOIN due d ON d.bucket = w.bucket AND d.account = w.account AND d.event = w.event AND d.due_at = w.due_at
            LEFT JOIN lot l ON l.event = w.event AND l.n = w.n AND l.origin = 1
            GROUP BY 1
        ) w USING (campaign)
        WHERE (r.issued, r.reversed, r.pending, r.settled) IS DISTINCT FROM (w.issued, w.reversed, w.pending, w.settled)""",
    "consumers of a campaign are not those that it awarded": """
        (SELECT DISTINCT campaign, account FROM award EXCEPT SELECT campaign, account FROM campaign_consumer)
        UNION ALL (SELECT DISTINCT campaign, account FROM campaign_consumer EXCEPT SELECT campaign, account FROM award)""",
}


async def faults(connection: Any) -> dict[str, list[Any]]:
    """What is wrong with the book: nothing, one hopes."""
    found = {name: [tuple(row) for row in await connection.fetch(statement + " LIMIT 3")] for name, statement in FAULTS.items()}
    return {name: rows for name, rows in found.items() if rows}
