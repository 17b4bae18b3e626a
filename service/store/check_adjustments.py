"""SQL of the invariants of adjustments and transfers between consumers; see `service.store.check`.

That a row of `transfer` says what its entries say is checked there, for all kinds.
"""

from typing import Final

import msgspec

from schemas.points_policy import PointsPolicy

_ALONE: Final = msgspec.to_builtins(PointsPolicy())["adjustment_alone"]

# Over both sides: one number, two accounts, the giver's row, and lots for all that was received.
BETWEEN_CONSUMERS: Final = """
SELECT format('transfer %s between consumers: %s points given by account %s to %s; the book has %s given and %s received on %s accounts, '
              'its lots %s', number, coalesce(g.points::text, 'no'), coalesce(g.account::text, 'nobody'),
              coalesce(g.to_account::text, 'nobody'), coalesce(e.given, 0), coalesce(e.received, 0), coalesce(e.accounts, 0),
              coalesce(l.points, 0)) AS words
FROM consumer_transfer g
FULL JOIN (
    SELECT transfer AS number, coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS given,
           coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS received, count(DISTINCT account) AS accounts,
           min(account) FILTER (WHERE amount > 0) AS giver, min(account) FILTER (WHERE amount < 0) AS receiver, bool_and(kind = 10) AS own
    FROM entry WHERE book = 11 GROUP BY transfer
) e USING (number)
FULL JOIN (SELECT event AS number, sum(amount) AS points, bool_and(account = a.to_account) AS own
           FROM lot LEFT JOIN (SELECT number, to_account FROM consumer_transfer) a ON a.number = lot.event WHERE origin = 10 GROUP BY event) l
  USING (number)
WHERE g.points IS NULL OR e.given IS DISTINCT FROM g.points OR e.received IS DISTINCT FROM g.points OR e.accounts <> 2 OR NOT e.own
   OR e.giver <> g.account OR e.receiver <> g.to_account OR l.points IS DISTINCT FROM g.points OR NOT l.own
"""
# Carried out: by exactly one transfer of its points, on one account, and what was given is a lot; not carried out: by none.
ADJUSTMENTS: Final = """
SELECT format('adjustment %s of %s points is %s; transfer %s has %s points on %s accounts in the book and lots of %s',
              coalesce(a.number::text, 'that nobody made'), coalesce(a.points, 0), coalesce(a.status, 'nowhere'), transfer,
              coalesce(e.points, 0), coalesce(e.accounts, 0), coalesce(l.points, 0)) AS words
FROM (SELECT * FROM adjustment WHERE transfer IS NOT NULL) a
FULL JOIN (
    SELECT transfer, -sum(amount) AS points, count(DISTINCT account) AS accounts, bool_and(kind = 9) AS own
    FROM entry WHERE book = 10 GROUP BY transfer
) e USING (transfer)
FULL JOIN (SELECT event AS transfer, sum(amount) AS points FROM lot WHERE origin = 9 GROUP BY event) l USING (transfer)
WHERE a.points IS NULL OR a.status <> 'done' OR e.points IS DISTINCT FROM a.points OR e.accounts <> 1 OR NOT e.own
   OR coalesce(l.points, 0) <> greatest(a.points, 0)
UNION ALL
SELECT format('transfer %s carries out %s adjustments', transfer, count(*)) FROM adjustment WHERE transfer IS NOT NULL
GROUP BY transfer HAVING count(*) > 1
"""
FOUR_EYES: Final = f"""
SELECT format('adjustment %s of %s points was made by operator %s alone, who may do %s alone', a.number, a.points, a.proposed_by,
              coalesce(p.alone, {_ALONE})) AS words
FROM adjustment a
LEFT JOIN LATERAL (
    SELECT (body::jsonb ->> 'adjustment_alone')::bigint AS alone FROM points_policy p
    WHERE p.program = a.program AND p.effective_from <= a.proposed_at ORDER BY p.version DESC LIMIT 1
) p ON true
WHERE a.status = 'done' AND a.decided_by IS NULL AND abs(a.points) > coalesce(p.alone, {_ALONE})
"""
# A worker looks once a minute; a second one later it should have.
OVERDUE: Final = """
SELECT format('account %s: adjustment %s could be decided until %s and is still open', account, number, open_until) AS words
FROM adjustment WHERE status = 'pending' AND open_until < now() - interval '2 minutes'
"""
