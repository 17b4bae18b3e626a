"""SQL of the invariants (DESIGN §6): each statement finds what breaks one and says it in words, in a column `words`.

Set by set over whole tables, so that a million events take seconds; call them in a transaction that `prepare` was called in.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Final

from msgspec import Struct

from schemas.events import Balance
from service.domain.keys import bucket_of
from service.store.connection import Connection
from service.store.lots import LAST_DAY as _LAST_DAY

STATEMENT_TIMEOUT_S: Final = 600.0
"""The longest that one statement may take."""
PAGE_ROWS: Final = 2_000

# 1. The book balances -----------------------------------------------------------------------------------

# Their sum is that of the whole book, which is therefore zero, too.
TRANSFERS = """
SELECT format('account %s: the entries of transfer %s sum to %s', account, transfer, sum(amount)) AS words
FROM entry GROUP BY bucket, account, transfer HAVING sum(amount) <> 0
"""
SEQUENCES = """
SELECT format('account %s: has %s entries, numbered %s to %s, and last_seq %s', coalesce(a.id, e.account), coalesce(e.entries, 0),
              coalesce(e.first, 0), coalesce(e.last, 0), coalesce(a.last_seq::text, 'of no account row')) AS words
FROM account a
FULL JOIN (SELECT bucket, account, count(*) AS entries, min(seq) AS first, max(seq) AS last FROM entry GROUP BY bucket, account) e
  ON e.bucket = a.bucket AND e.account = a.id
WHERE coalesce(e.entries, 0) IS DISTINCT FROM a.last_seq OR e.first <> 1 OR e.last <> e.entries
"""

# Every transfer that no event, settlement or opening causes has a row that says what it was.
TRANSFER_ROWS = """
SELECT format('account %s: transfer %s is %s of %s points, its entries say %s of %s', account, number,
              coalesce('of kind ' || t.kind, 'of no kind'), coalesce(t.points, 0), coalesce('kind ' || e.kind, 'nothing'),
              coalesce(e.points, 0)) AS words
FROM transfer t
FULL JOIN (
    SELECT bucket, account, transfer AS number, min(kind) AS kind, max(kind) AS last_kind, min(version) AS version,
           coalesce(sum(amount) FILTER (WHERE book IN (1, 3)), 0) AS points
    FROM entry WHERE kind > 3 GROUP BY bucket, account, transfer
) e USING (bucket, account, number)
-- A link may find nothing to move.
WHERE (t.kind IS DISTINCT FROM e.kind OR e.kind <> e.last_kind OR t.points <> e.points OR t.version <> e.version)
  AND NOT (e.kind IS NULL AND t.kind = 11 AND t.points = 0)
"""

# 2. Balances are what their parts add up to ---------------------------------------------------------------

BALANCES = """
SELECT format('account %s: available %s, reserved %s, debt %s, but its entries sum to %s, %s, %s', coalesce(a.id, e.account),
              a.available, a.reserved, a.debt, coalesce(e.available, 0), coalesce(e.reserved, 0), coalesce(e.debt, 0)) AS words
FROM account a
FULL JOIN (
    SELECT bucket, account, coalesce(sum(amount) FILTER (WHERE book = 1), 0) AS available,
           coalesce(sum(amount) FILTER (WHERE book = 2), 0) AS reserved, coalesce(-sum(amount) FILTER (WHERE book = 3), 0) AS debt
    FROM entry WHERE book IN (1, 2, 3) GROUP BY bucket, account
) e ON e.bucket = a.bucket AND e.account = a.id
WHERE a.available IS DISTINCT FROM coalesce(e.available, 0) OR a.reserved IS DISTINCT FROM coalesce(e.reserved, 0)
   OR a.debt IS DISTINCT FROM coalesce(e.debt, 0)
"""
PENDING = """
SELECT format('account %s: pending %s, but its awards on hold sum to %s', coalesce(a.id, p.account), a.pending, coalesce(p.points, 0)) AS words
FROM account a
FULL JOIN (
    -- On hold for whoever has the account's points.
    SELECT coalesce(o.home, d.account) AS account, sum(w.points - w.reversed) AS points
    FROM due d JOIN award w ON w.bucket = d.bucket AND w.account = d.account AND w.event = d.event AND w.due_at = d.due_at
    LEFT JOIN account o ON o.bucket = d.bucket AND o.id = d.account AND o.home IS NOT NULL
    GROUP BY 1
) p ON p.account = a.id
WHERE a.pending IS DISTINCT FROM coalesce(p.points, 0)
"""
VERSIONS = """
SELECT format('account %s: version %s, but its events and entries tell of %s changes, the newest %s', coalesce(a.id, v.account),
              a.version - a.skipped, coalesce(v.changes, 0), coalesce(v.newest, 0)) AS words
FROM account a
FULL JOIN (
    SELECT bucket, account, count(*) AS changes, max(version) AS newest
    FROM (
        SELECT CASE WHEN home IS NULL THEN bucket ELSE (home & 1023)::smallint END AS bucket, coalesce(home, account) AS account, version
        FROM event WHERE version > 0
        UNION
        SELECT bucket, account, version FROM entry
        UNION
        SELECT bucket, account, version FROM transfer
    ) u GROUP BY bucket, account
) v ON v.bucket = a.bucket AND v.account = a.id
WHERE a.version - a.skipped IS DISTINCT FROM coalesce(v.changes, 0) OR v.newest <> a.version
"""

# 3. Lots ----------------------------------------------------------------------------------------------------

LOT_USES = """
SELECT format('account %s: lot %s/%s of %s points has %s left, its uses sum to %s', account, event, n, l.amount, l.remaining,
              coalesce(u.used, 0)) AS words
FROM lot l
FULL JOIN (SELECT bucket, account, event, n, sum(amount) AS used FROM lot_use GROUP BY bucket, account, event, n) u
  USING (bucket, account, event, n)
WHERE l.remaining NOT BETWEEN 0 AND l.amount OR l.amount - l.remaining IS DISTINCT FROM coalesce(u.used, 0)
"""
# Against the entries, not the account's columns: number 2 compares those two.
LOT_SUMS = """
SELECT format('account %s: its lots have %s points left, its entries say %s available and reserved', account, coalesce(l.remaining, 0),
              coalesce(e.points, 0)) AS words
FROM (SELECT bucket, account, sum(remaining) AS remaining FROM lot GROUP BY bucket, account) l
FULL JOIN (SELECT bucket, account, sum(amount) AS points FROM entry WHERE book IN (1, 2) GROUP BY bucket, account) e USING (bucket, account)
WHERE coalesce(l.remaining, 0) <> coalesce(e.points, 0)
"""

# What open reservations hold is what their lots keep apart; a redemption that is not open holds nothing, and has spent what it captured.
RESERVED = """
SELECT format('account %s: lot %s/%s keeps %s points apart, open reservations hold %s of it', account, event, n, coalesce(l.reserved, 0),
              coalesce(h.reserved, 0)) AS words
FROM (SELECT bucket, account, event, n, reserved FROM lot WHERE reserved <> 0) l
FULL JOIN (
    SELECT bucket, account, event, n, sum(reserved) AS reserved FROM redemption_lot WHERE reserved <> 0 GROUP BY bucket, account, event, n
) h USING (bucket, account, event, n)
WHERE coalesce(l.reserved, 0) <> coalesce(h.reserved, 0)
"""
RESERVED_SUMS = """
SELECT format('account %s: its entries say %s points are reserved, its lots keep %s apart', account, coalesce(e.reserved, 0),
              coalesce(l.reserved, 0)) AS words
FROM (SELECT bucket, account, sum(amount) AS reserved FROM entry WHERE book = 2 GROUP BY bucket, account) e
FULL JOIN (SELECT bucket, account, sum(reserved) AS reserved FROM lot WHERE reserved <> 0 GROUP BY bucket, account) l USING (bucket, account)
WHERE coalesce(e.reserved, 0) <> coalesce(l.reserved, 0)
"""
REDEMPTIONS = """
SELECT format('account %s: redemption %s is %s with %s points captured and %s refunded, but its lots hold %s and have spent %s', account,
              number, coalesce(r.status, 'unknown'), r.captured, r.refunded, coalesce(h.reserved, 0), coalesce(h.spent, 0)) AS words
FROM redemption r
FULL JOIN (
    SELECT bucket, account, redemption AS number, sum(reserved) AS reserved, sum(spent) AS spent FROM redemption_lot
    GROUP BY bucket, account, redemption
) h USING (bucket, account, number)
WHERE r.status IS NULL OR coalesce(h.reserved, 0) <> CASE r.status WHEN 'reserved' THEN r.points ELSE 0 END
   OR coalesce(h.spent, 0) <> r.captured - r.refunded
"""

# 4. Awards settle once, and say what they rest on -----------------------------------------------------------

# On hold: no entry, no lot. Settled: issued by one transfer, with a lot of that size, and what clawbacks left of it is what the
# award kept; nothing at all if everything had been taken back before.
SETTLEMENTS = """
SELECT format('account %s: award %s/%s of %s points, %s of them reversed, %s, has %s settling transfers, %s points issued in the book and %s',
              coalesce(a.account::text, 'unknown'), event, n, a.points, a.reversed, CASE WHEN a.points IS NULL THEN 'unknown' WHEN a.held THEN 'on hold' ELSE 'settled' END,
              coalesce(i.transfers, 0), coalesce(i.kept, 0), coalesce('a lot of ' || l.amount, 'no lot')) AS words
FROM (
    SELECT w.bucket, w.account, w.event, w.n, w.points, w.reversed, w.campaign, d.event IS NOT NULL AS held
    FROM award w LEFT JOIN due d ON d.bucket = w.bucket AND d.due_at = w.due_at AND d.event = w.event AND d.account = w.account
) a
FULL JOIN (
    -- Of a linked account the entries and the lot are its home's: the award's event and position say whose they are.
    SELECT award AS event, n, -sum(amount) AS kept, coalesce(-sum(amount) FILTER (WHERE kind = 1), 0) AS settled,
           count(*) FILTER (WHERE kind = 1) AS transfers
    FROM entry WHERE book = 4 GROUP BY award, n
) i USING (event, n)
FULL JOIN (SELECT event, n, amount, campaign FROM lot WHERE origin = 1) l USING (event, n)
WHERE CASE WHEN a.points IS NULL THEN true
           WHEN a.held THEN i.transfers IS NOT NULL OR l.amount IS NOT NULL
           WHEN i.transfers IS NULL THEN l.amount IS NOT NULL OR a.reversed <> a.points
           ELSE i.transfers <> 1 OR i.kept <> a.points - a.reversed OR l.amount IS DISTINCT FROM i.settled OR l.campaign <> a.campaign END
"""
# Taken over: each row once in its registry, in the book by one transfer of its own, and as a lot of that size and last day. Of no campaign.
OPENINGS = """
SELECT format('account %s: opening balance %s of %s points has %s, %s points taken over in the book and %s', account, number, o.points,
              CASE WHEN r.number IS NULL THEN 'no key' ELSE 'the key ' || r.key END, coalesce(e.points, 0),
              coalesce('a lot of ' || l.amount, 'no lot')) AS words
FROM opening o
FULL JOIN (SELECT bucket, account, number, program, key FROM registry WHERE kind = 3) r USING (bucket, account, number)
FULL JOIN (
    SELECT bucket, account, award AS number, -sum(amount) FILTER (WHERE book = 5) AS points, min(version) AS version,
           bool_and(kind = 3 AND transfer = award AND event = award AND n = 0 AND campaign = 0) AND min(version) = max(version) AS own
    FROM entry WHERE book = 5 OR kind = 3 OR (campaign = 0 AND award <> 0) GROUP BY bucket, account, award
) e USING (bucket, account, number)
FULL JOIN (SELECT bucket, account, event AS number, n, amount, expires_on, campaign FROM lot WHERE origin = 3) l USING (bucket, account, number)
WHERE o.points IS NULL OR r.key IS DISTINCT FROM o.platform || ':' || o.id OR r.program <> o.program
   OR e.points IS DISTINCT FROM o.points OR e.version <> o.version OR NOT e.own
   OR l.amount IS DISTINCT FROM o.points OR l.n <> 0 OR l.campaign <> 0 OR (l.expires_on IS NULL) <> (o.expires_on IS NULL)
   OR l.expires_on < o.expires_on
"""
EMPTY_HOLDS = """
SELECT format('account %s: event %s is on hold without an award', d.account, d.event) AS words
FROM due d LEFT JOIN award w ON w.bucket = d.bucket AND w.account = d.account AND w.event = d.event AND w.due_at = d.due_at
WHERE w.event IS NULL
"""
PINS = """
SELECT format('account %s: award %s/%s rests on campaign %s version %s and certificate %s, and one of them does not exist', w.account,
              w.event, w.n, w.campaign, w.version, coalesce(w.certificate::text, 'none')) AS words
FROM award w
LEFT JOIN campaign_version v ON v.campaign = w.campaign AND v.version = w.version
LEFT JOIN campaign p ON p.id = w.campaign AND p.program = w.program
LEFT JOIN certificate c ON c.id = w.certificate AND c.program = w.program
WHERE v.campaign IS NULL OR p.id IS NULL OR (w.certificate IS NOT NULL AND c.id IS NULL)
"""
EVENT_POINTS = """
SELECT format('account %s: event %s says %s points, its awards sum to %s', account, number, e.points, coalesce(w.points, 0)) AS words
FROM event e
FULL JOIN (SELECT bucket, account, event AS number, sum(points) AS points FROM award GROUP BY bucket, account, event) w
  USING (bucket, account, number)
WHERE e.type IS NULL
   OR (e.type NOT IN ('order.fulfilled', 'order.refunded', 'order.cancelled', 'event.error_declared', 'packaging.reassigned')
       AND e.points <> coalesce(w.points, 0))
"""
# What refunds and cancellations took back belongs to several awards: it adds up per account.
EVENT_SUMS = """
SELECT format('account %s: its events say %s points in all, its awards %s', account, coalesce(e.points, 0), coalesce(w.points, 0)) AS words
FROM (SELECT bucket, account, sum(points) AS points FROM event GROUP BY bucket, account) e
FULL JOIN (SELECT bucket, account, sum(points - reversed) AS points FROM award GROUP BY bucket, account) w USING (bucket, account)
WHERE coalesce(e.points, 0) <> coalesce(w.points, 0)
"""

# 5. Caps and budgets ------------------------------------------------------------------------------------------

# What a version bounds, and what is counted because any version of the campaign bounds it. A window is judged by the widest bound
# of the versions that awarded in it: a version that lowers the bound takes nothing back.
_LIMITS = """
limits AS MATERIALIZED (
    SELECT campaign, version, b.body #>> '{caps,order}' AS per_order, b.body #>> '{caps,consumer_day}' AS per_day,
           b.body #>> '{caps,consumer_year}' AS per_year, b.body #>> '{caps,consumer_total}' AS in_all,
           b.body #>> '{budget,points}' AS budget, b.body #>> '{budget,per_day}' AS budget_day
    FROM campaign_version v CROSS JOIN LATERAL (SELECT v.body::jsonb AS body) b
), tracked AS MATERIALIZED (
    SELECT campaign, count(per_day) > 0 AS per_day, count(per_year) > 0 AS per_year, count(in_all) > 0 AS in_all,
           count(budget) > 0 AS budget, count(budget_day) > 0 AS budget_day
    FROM limits GROUP BY campaign
)"""
_WIDEST = "max(coalesce({0}::bigint, 9223372036854775807)) AS {0}"
# Counted for whoever has the account's points. What linked accounts had earned before may be more than one person would have been given.
CAPS = f"""
WITH {_LIMITS}, linked AS MATERIALIZED (
    SELECT id, home FROM account WHERE home IS NOT NULL
), homes AS MATERIALIZED (SELECT account AS id FROM account_link UNION SELECT home FROM account_link), own AS (
    SELECT coalesce(k.home & 1023, w.bucket)::smallint AS bucket, coalesce(k.home, w.account) AS account, w.campaign, w.version, w.day,
           w.points - w.reversed AS points
    FROM award w LEFT JOIN linked k ON k.id = w.account
), days AS MATERIALIZED (
    SELECT w.bucket, w.account, w.campaign, w.day, sum(w.points)::bigint AS used,
           {_WIDEST.format("per_day")}, {_WIDEST.format("per_year")}, {_WIDEST.format("in_all")}
    FROM own w JOIN limits l USING (campaign, version)
    WHERE campaign IN (SELECT campaign FROM tracked WHERE per_day OR per_year OR in_all)
    GROUP BY w.bucket, w.account, w.campaign, w.day
), windows AS (
    SELECT bucket, account, campaign, 1::smallint AS span, day, used, per_day AS bound
    FROM days WHERE campaign IN (SELECT campaign FROM tracked WHERE per_day)
    UNION ALL
    SELECT bucket, account, campaign, 2::smallint, date_trunc('year', day::timestamp)::date, sum(used)::bigint, max(per_year)
    FROM days WHERE campaign IN (SELECT campaign FROM tracked WHERE per_year) GROUP BY 1, 2, 3, 5
    UNION ALL
    SELECT bucket, account, campaign, 3::smallint, date '-infinity', sum(used)::bigint, max(in_all)
    FROM days WHERE campaign IN (SELECT campaign FROM tracked WHERE in_all) GROUP BY 1, 2, 3
)
SELECT format('account %s: campaign %s, %s from %s: counted %s, its awards sum to %s, the cap is %s', account, campaign,
              CASE span WHEN 1 THEN 'day' WHEN 2 THEN 'year' ELSE 'whole life' END, day, coalesce(c.used, 0), coalesce(w.used, 0),
              coalesce(nullif(w.bound, 9223372036854775807)::text, 'none')) AS words
FROM windows w FULL JOIN cap_usage c USING (bucket, account, campaign, span, day)
WHERE coalesce(c.used, 0) <> coalesce(w.used, 0) OR (w.used > w.bound AND account NOT IN (SELECT id FROM homes))
"""
ORDER_CAPS = f"""
WITH {_LIMITS}
SELECT format('account %s: campaign %s awarded %s points for event %s, more than its cap of %s per order', w.account, w.campaign,
              sum(w.points), w.event, l.per_order) AS words
FROM award w JOIN limits l USING (campaign, version) JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.number = w.event
WHERE l.per_order IS NOT NULL
-- Some events carry awards for others, each with a cap of its own.
GROUP BY w.bucket, w.account, w.event, w.campaign, l.per_order,
         CASE WHEN e.type IN ('order.fulfilled', 'event.error_declared', 'packaging.reassigned') THEN concat(w.line, ':', w.item) END
HAVING sum(w.points) > l.per_order::bigint
"""
BUDGETS = f"""
WITH {_LIMITS}, days AS MATERIALIZED (
    SELECT w.campaign, w.day, sum(w.points - w.reversed)::bigint AS used, {_WIDEST.format("budget")}, {_WIDEST.format("budget_day")}
    FROM award w JOIN limits l USING (campaign, version)
    WHERE campaign IN (SELECT campaign FROM tracked WHERE budget OR budget_day)
    GROUP BY w.campaign, w.day
), windows AS (
    SELECT campaign, day, used, budget_day AS bound FROM days WHERE campaign IN (SELECT campaign FROM tracked WHERE budget_day)
    UNION ALL
    SELECT campaign, date '-infinity', sum(used)::bigint, max(budget)
    FROM days WHERE campaign IN (SELECT campaign FROM tracked WHERE budget) GROUP BY campaign
)
SELECT format('campaign %s, %s: counted %s against its budget, its awards sum to %s, the budget is %s', campaign,
              CASE WHEN isfinite(day) THEN day::text ELSE 'whole life' END, coalesce(b.used, 0), coalesce(w.used, 0),
              coalesce(nullif(w.bound, 9223372036854775807)::text, 'none')) AS words
FROM windows w FULL JOIN budget b USING (campaign, day)
WHERE coalesce(b.used, 0) <> coalesce(w.used, 0) OR w.used > w.bound
"""

# 6. Facts and targets (the targets themselves are computed by the domain) ---------------------------------------

REVERSALS = """
SELECT format('account %s: award %s/%s of %s points has %s reversed', account, event, n, points, reversed) AS words
FROM award WHERE reversed NOT BETWEEN 0 AND points
"""
UNFOUNDED_REVERSALS = """
SELECT format('account %s: %s points of award %s/%s are reversed, but nothing was refunded, cancelled or declared wrong', w.account,
              w.reversed, w.event, w.n) AS words
FROM award w
JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.number = w.event
JOIN campaign c ON c.id = w.campaign
WHERE w.reversed > 0 AND CASE WHEN c.action IN ('purchase', 'packaging') THEN NOT EXISTS (
    SELECT FROM event f
    WHERE f.type IN ('order.refunded', 'order.cancelled', 'order.fulfilled', 'event.error_declared') AND f.bucket = e.bucket
      AND f.account = e.account AND f.platform = e.platform AND f.order_id = e.order_id
) ELSE w.reversed <> w.points END
"""
WAITING_IN_VAIN = """
SELECT format('platform %s: fact %s still waits for its order, which is known', p.platform, p.number) AS words
FROM parked p JOIN registry r ON r.program = p.program AND r.kind = 2 AND r.key = p.platform || ':' || p.order_id
WHERE r.account IS NOT NULL AND NOT p.declared_wrong
"""
REFUNDED_ORDERS = """
WITH orders AS MATERIALIZED (
    SELECT DISTINCT bucket, account, platform, order_id FROM event
    WHERE type IN ('order.refunded', 'order.cancelled', 'order.fulfilled', 'event.error_declared') AND order_id IS NOT NULL
), facts AS (
    SELECT bucket, account, platform, order_id, array_agg(e.facts ORDER BY e.version = 0, e.number) AS facts
    FROM orders JOIN event e USING (bucket, account, platform, order_id)
    WHERE e.type IN ('order.paid', 'order.refunded', 'order.cancelled', 'order.fulfilled', 'event.error_declared')
    GROUP BY bucket, account, platform, order_id
), awards AS (
    SELECT e.bucket, e.account, e.platform, e.order_id, array_agg(w.event) AS events, array_agg(w.n) AS ns, array_agg(w.line) AS lines,
           array_agg(c.action) AS actions, array_agg(w.points) AS points, array_agg(w.reversed) AS reversed
    FROM orders JOIN event e USING (bucket, account, platform, order_id)
    JOIN award w ON w.bucket = e.bucket AND w.account = e.account AND w.event = e.number
    JOIN campaign c ON c.id = w.campaign AND c.action IN ('purchase', 'packaging')
    GROUP BY e.bucket, e.account, e.platform, e.order_id
)
SELECT account, facts, events, ns, actions, lines, points, reversed FROM facts JOIN awards USING (bucket, account, platform, order_id)
"""

# 7. What counts once ------------------------------------------------------------------------------------------

EVENT_KEYS = """
SELECT format('event %s: %s', number, CASE
           WHEN r.key IS NULL THEN format('is not registered: %s of program %s', e.key, e.program)
           WHEN e.key IS NULL THEN format('is registered as %s of program %s, but neither stored nor parked', r.key, r.program)
           ELSE format('is stored as %s of program %s, account %s, but registered as %s of program %s, account %s', e.key, e.program,
                       coalesce(e.account::text, 'unknown'), r.key, r.program, coalesce(r.account::text, 'unknown')) END) AS words
FROM (
    SELECT number, program, platform || ':' || id AS key, account FROM event
    UNION ALL
    SELECT number, program, platform || ':' || id, NULL FROM parked
) e
FULL JOIN (SELECT number, program, key, account FROM registry WHERE kind IN (1, 4)) r USING (number)
WHERE e.key IS DISTINCT FROM r.key OR e.program <> r.program OR r.account <> e.account
"""
STORED_ONCE = """
SELECT format('event %s: is stored or parked %s times', number, count(*)) AS words
FROM (SELECT number FROM event UNION ALL SELECT number FROM parked) e GROUP BY number HAVING count(*) > 1
"""
# An order.paid of another consumer may be stored, without an award, on that consumer's account: the first one fixed the order's.
ORDER_KEYS = """
SELECT format('order %s of program %s: account %s has %s awarded order.paid, %s others and %s facts about it; it is registered for account %s',
              key, program, account, coalesce(e.awarded, 0), coalesce(e.unawarded, 0), coalesce(e.about, 0),
              coalesce((SELECT k.account::text FROM registry k
                        WHERE k.program = coalesce(e.program, r.program) AND k.kind = 2 AND k.key = coalesce(e.key, r.key)), 'none')) AS words
FROM (
    SELECT program, platform || ':' || order_id AS key, account, count(*) FILTER (WHERE type = 'order.paid' AND version > 0) AS awarded,
           count(*) FILTER (WHERE type = 'order.paid' AND version = 0) AS unawarded, count(*) FILTER (WHERE type <> 'order.paid') AS about
    FROM event WHERE order_id IS NOT NULL GROUP BY 1, 2, 3
) e
FULL JOIN (SELECT program, key, account, true AS known FROM registry WHERE kind = 2 AND account IS NOT NULL) r USING (program, key, account)
WHERE CASE WHEN r.known AND e.awarded IS NOT NULL THEN e.awarded > 1 OR e.awarded + e.unawarded = 0
           WHEN r.known THEN true
           ELSE e.awarded + e.about > 0
                OR NOT EXISTS (SELECT FROM registry k WHERE k.program = e.program AND k.kind = 2 AND k.key = e.key AND k.account IS NOT NULL) END
"""
LINES = """
SELECT format('account %s: campaign %s awarded %s of order %s of platform %s %s times', e.account, w.campaign,
              coalesce('line ' || w.line, 'the whole'), e.order_id, e.platform, count(*)) AS words
FROM award w JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.number = w.event
JOIN campaign c ON c.id = w.campaign AND c.action IN ('purchase', 'packaging')
WHERE e.order_id IS NOT NULL AND w.reversed < w.points
GROUP BY e.bucket, e.account, e.platform, e.order_id, w.campaign, w.line HAVING count(*) > 1
"""
# A claim is there exactly while an award stands that was earned by it.
CLAIMS = """
SELECT format('program %s: a claim of kind %s is held by account %s for item %s of event %s, which has no points left', c.program, c.kind,
              c.account, c.item, c.event) AS words
FROM claim c
LEFT JOIN (
    SELECT w.bucket, w.account, w.event, coalesce(w.item, 0) AS item, sum(w.points - w.reversed) AS left
    FROM award w JOIN campaign p ON p.id = w.campaign AND p.action <> 'purchase'
    GROUP BY w.bucket, w.account, w.event, coalesce(w.item, 0)
) a USING (bucket, account, event, item)
WHERE coalesce(a.left, 0) = 0
"""
# What earned for a returned asset belongs to the one trip that it ended, and stands as long as that.
TRIPS = """
SELECT format('asset %s: its trip of event %s %s', t.asset, t.shipped_event, CASE
           WHEN t.void AND t.returned_event IS NOT NULL THEN 'was declared wrong, and has a return'
           WHEN t.returned_at < t.shipped_at THEN 'ended before it began'
           ELSE format('earned by item %s of event %s, whose awards have %s points left', t.awarded_item, t.awarded_event, coalesce(a.left, 0))
       END) AS words
FROM trip t
LEFT JOIN (
    SELECT w.account, w.event, w.item, sum(w.points - w.reversed) AS left
    FROM award w JOIN campaign p ON p.id = w.campaign AND p.action = 'return'
    GROUP BY w.account, w.event, w.item
) a ON a.account = t.returned_account AND a.event = t.awarded_event AND a.item = t.awarded_item
WHERE (t.void AND t.returned_event IS NOT NULL) OR t.returned_at < t.shipped_at OR (t.awarded_event IS NOT NULL AND coalesce(a.left, 0) = 0)
"""
RETURNS = """
SELECT format('account %s: an award for returned packaging stands with event %s, item %s, which ended %s trips', w.account, w.event, w.item,
              count(DISTINCT (t.program, t.asset, t.shipped_event)) FILTER (WHERE t.asset IS NOT NULL)) AS words
FROM award w
JOIN campaign p ON p.id = w.campaign AND p.action = 'return'
JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.number = w.event
LEFT JOIN trip t ON t.awarded_event = w.event AND t.awarded_item = w.item AND t.returned_account = w.account
WHERE w.reversed < w.points AND w.item IS NOT NULL
  AND (e.type <> 'packaging.returned' OR (e.facts::jsonb -> 'returns' -> w.item::int ->> 'asset') IS NOT NULL)
GROUP BY w.account, w.event, w.item HAVING count(DISTINCT (t.program, t.asset, t.shipped_event)) FILTER (WHERE t.asset IS NOT NULL) <> 1
"""
SENT = """
SELECT format('account %s: %s of class %s sent on %s count as given back, its returns say %s', account, coalesce(s.returned, 0), class, day,
              coalesce(b.units, 0)) AS words
FROM packaging_sent s
FULL JOIN (SELECT bucket, account, class, day, sum(units) AS units FROM packaging_back GROUP BY bucket, account, class, day) b
  USING (bucket, account, class, day)
WHERE coalesce(s.returned, 0) <> coalesce(b.units, 0)
"""

# 9. Nothing is late ---------------------------------------------------------------------------------------------

OVERDUE = """
SELECT format('account %s: event %s was due at %s and is not settled', account, event, due_at) AS words
FROM due WHERE due_at < now() - interval '60 seconds'
  AND NOT EXISTS (SELECT FROM screening s WHERE s.bucket = due.bucket AND s.event = due.event AND s.state = 1)
"""
# A worker looks once a minute; a second one later it should have.
OVERDUE_PARKED = """
SELECT format('platform %s: fact %s waits for its order since %s, longer than its program allows', p.platform, p.number, p.received_at) AS words
FROM parked p JOIN program g ON g.id = p.program
WHERE p.ignored_at IS NULL AND p.received_at < now() - g.parked_for - interval '2 minutes'
"""

# A day ends with the program's; an hour later a worker should have been there.
UNEXPIRED = f"""
SELECT format('account %s: lot %s/%s has %s free points, its last day %s is over', l.account, l.event, l.n, l.remaining - l.reserved,
              d.last_day) AS words
FROM lot l JOIN program g ON g.id = l.program CROSS JOIN LATERAL (SELECT {_LAST_DAY} AS last_day) d
WHERE l.remaining > l.reserved AND l.expires_on IS NOT NULL
  AND l.expires_on < ((now() - interval '1 hour') AT TIME ZONE g.time_zone)::date
  AND d.last_day < ((now() - interval '1 hour') AT TIME ZONE g.time_zone)::date
"""
UNRELEASED = """
SELECT format('account %s: redemption %s has been reserved beyond its end at %s', account, number, expires_at) AS words
FROM redemption WHERE status = 'reserved' AND expires_at < now() - interval '60 seconds'
"""
# What no row says is due, no sweep finds.
RESERVATION_ENDS = """
SELECT format('account %s: redemption %s is %s, and %s', account, number, coalesce('reserved until ' || r.expires_at, 'not reserved'),
              coalesce('due at ' || d.due_at, 'never due')) AS words
FROM (SELECT bucket, account, number, expires_at FROM redemption WHERE status = 'reserved') r
FULL JOIN (SELECT bucket, account, redemption AS number, due_at FROM reservation_due) d USING (bucket, account, number)
WHERE d.due_at IS DISTINCT FROM r.expires_at
"""

# 10. Statistics -----------------------------------------------------------------------------------------------------

ROLLUPS = """
SELECT format('campaign %s, platform %s: roll-ups say %s events, %s issued, %s pending, %s settled, %s reversed, %s g CO2e, %s g plastic; '
              'awards and entries say %s, %s, %s, %s, %s, %s g, %s g',
              campaign, platform, coalesce(r.events, 0), coalesce(r.issued, 0), coalesce(r.pending, 0), coalesce(r.settled, 0),
              coalesce(r.reversed, 0), coalesce(r.co2e_g, 0), coalesce(r.plastic_g, 0), coalesce(w.events, 0), coalesce(w.issued, 0),
              coalesce(w.pending, 0), coalesce(s.points, 0), coalesce(w.reversed, 0), coalesce(w.co2e_g, 0), coalesce(w.plastic_g, 0)) AS words
FROM (
    SELECT campaign, platform, sum(events) AS events, sum(points_issued) AS issued, sum(points_pending) AS pending,
           sum(points_settled) AS settled, sum(points_reversed) AS reversed, sum(co2e_g) AS co2e_g, sum(plastic_g) AS plastic_g
    FROM rollup GROUP BY campaign, platform
) r
FULL JOIN (
    SELECT w.campaign, w.platform, count(DISTINCT w.event) AS events, sum(w.points) AS issued, sum(w.reversed) AS reversed,
           sum(w.points - w.reversed) FILTER (WHERE d.event IS NOT NULL) AS pending,
           sum(w.co2e_g) FILTER (WHERE w.reversed < w.points) AS co2e_g, sum(w.plastic_g) FILTER (WHERE w.reversed < w.points) AS plastic_g
    FROM award w LEFT JOIN due d ON d.bucket = w.bucket AND d.due_at = w.due_at AND d.event = w.event AND d.account = w.account
    GROUP BY w.campaign, w.platform
) w USING (campaign, platform)
FULL JOIN (SELECT campaign, platform, -sum(amount) AS points FROM entry WHERE kind = 1 AND book = 4 GROUP BY campaign, platform) s
  USING (campaign, platform)
WHERE (coalesce(r.events, 0), coalesce(r.issued, 0), coalesce(r.pending, 0), coalesce(r.settled, 0), coalesce(r.reversed, 0),
       coalesce(r.co2e_g, 0), coalesce(r.plastic_g, 0))
   <> (coalesce(w.events, 0), coalesce(w.issued, 0), coalesce(w.pending, 0), coalesce(s.points, 0), coalesce(w.reversed, 0),
       coalesce(w.co2e_g, 0), coalesce(w.plastic_g, 0))
"""
# Of a campaign's lots: what redemptions have spent and not given back, and what expired.
SPENT_ROLLUPS = """
SELECT format('campaign %s, platform %s: roll-ups say %s points redeemed and %s expired, its lots %s and %s', campaign, platform,
              coalesce(r.redeemed, 0), coalesce(r.expired, 0), coalesce(s.points, 0), coalesce(x.points, 0)) AS words
FROM (SELECT campaign, platform, sum(points_redeemed) AS redeemed, sum(points_expired) AS expired FROM rollup GROUP BY campaign, platform) r
FULL JOIN (
    SELECT l.campaign, l.platform, sum(h.spent) AS points FROM redemption_lot h JOIN lot l USING (bucket, account, event, n)
    WHERE l.campaign <> 0 GROUP BY l.campaign, l.platform
) s USING (campaign, platform)
FULL JOIN (
    SELECT l.campaign, l.platform, sum(u.amount) AS points
    FROM lot_use u JOIN transfer t ON t.bucket = u.bucket AND t.account = u.account AND t.number = u.transfer AND t.kind = 8
    JOIN lot l ON l.bucket = u.bucket AND l.account = u.account AND l.event = u.event AND l.n = u.n
    WHERE l.campaign <> 0 GROUP BY l.campaign, l.platform
) x USING (campaign, platform)
WHERE coalesce(r.redeemed, 0) <> coalesce(s.points, 0) OR coalesce(r.expired, 0) <> coalesce(x.points, 0)
"""
# What an award is summed by is what it recorded.
IMPACT = """
SELECT format('account %s: award %s/%s counts %s g CO2e and %s g plastic, its record says %s and %s', account, event, n, co2e_g, plastic_g,
              coalesce(impact::json #>> '{co2e_g,central}', '0'), coalesce(impact::json ->> 'plastic_g', '0')) AS words
FROM award
WHERE (impact IS NOT NULL OR co2e_g <> 0 OR plastic_g <> 0)
  AND (co2e_g, plastic_g) <> (coalesce((impact::json #>> '{co2e_g,central}')::bigint, 0), coalesce((impact::json ->> 'plastic_g')::bigint, 0))
"""
CONSUMERS = """
SELECT format('account %s, platform %s: %s', account, platform, CASE WHEN c.known THEN format('counts as a consumer of campaign %s without an award', campaign)
              ELSE format('does not count as a consumer of campaign %s that awarded it', campaign) END) AS words
FROM (SELECT DISTINCT bucket, campaign, account, platform, true AS known FROM campaign_consumer) c
FULL JOIN (SELECT DISTINCT bucket, campaign, account, platform, true AS known FROM award) w USING (bucket, campaign, account, platform)
WHERE c.known IS DISTINCT FROM w.known
"""

# Running them -------------------------------------------------------------------------------------------------------

# Hash joins whatever the planner expects: keys of several columns that depend on each other look rarer to it than they are, and right
# after a bulk load it knows nothing at all; then it loops over, or sorts, millions of rows.
PREPARE = f"""
SELECT set_config(name, value, true) FROM (VALUES
    ('work_mem', '256MB'), ('enable_nestloop', 'off'), ('enable_mergejoin', 'off'), ('jit', 'off'), ('statement_timeout', '{STATEMENT_TIMEOUT_S:.0f}s')
) AS s (name, value)
"""
EXPORT_SNAPSHOT = "SELECT pg_export_snapshot(), now()"


async def prepare(connection: Connection) -> None:
    """Settings of this transaction: much memory for hashes and sorts, much time for a statement."""
    await connection.execute(PREPARE)


async def export_snapshot(connection: Connection) -> tuple[str, datetime]:
    """A name by which other transactions see exactly what this one sees, and its time."""
    row = await connection.fetchrow(EXPORT_SNAPSHOT)
    assert row is not None
    return row[0], row[1]


async def import_snapshot(connection: Connection, name: str) -> None:
    """See what the other transaction sees. Must be a transaction's first statement."""
    await connection.execute(f"SET TRANSACTION SNAPSHOT '{name}'")


async def broken(connection: Connection, statement: str, shown: int) -> tuple[list[str], int]:
    """The first rows that a statement finds, in words, and how many it finds."""
    rows = await connection.fetch(
        f"SELECT words, count(*) OVER () AS found FROM ({statement}) AS rows LIMIT {shown}",
        timeout=STATEMENT_TIMEOUT_S,
    )
    return [r["words"] for r in rows], rows[0]["found"] if rows else 0


COUNTED: Final = ("account", "event", "award", "entry", "lot", "opening")


async def count(connection: Connection, table: str) -> int:
    """How many rows one of the COUNTED tables has."""
    if table not in COUNTED:
        raise ValueError(table)
    number: int = await connection.fetchval(f"SELECT count(*) FROM {table}", timeout=STATEMENT_TIMEOUT_S)
    return number


class RefundedOrder(Struct, frozen=True, kw_only=True, gc=False):
    """An order that something was taken back of: its facts (JSON, those that count first) and its awards as posted."""

    account: int
    facts: list[str]
    awards: list[tuple[int, int, str, str | None, int, int]]
    """event, n, action, line, points, reversed; of purchases and packaging"""


async def refunded_orders(connection: Connection) -> AsyncIterator[RefundedOrder]:
    """Every order with an award and a fact that may take some of it back."""
    async for r in connection.cursor(REFUNDED_ORDERS, prefetch=PAGE_ROWS, timeout=STATEMENT_TIMEOUT_S):
        awards = list(zip(r["events"], r["ns"], r["actions"], r["lines"], r["points"], r["reversed"], strict=True))
        yield RefundedOrder(account=r["account"], facts=r["facts"], awards=awards)


# 8. What Redis is compared with: balances as the snapshot has them, then (where Redis differs) as they are now.

ACCOUNTS = "SELECT id, pending, available, reserved, debt, version FROM account WHERE home IS NULL"


async def account_pages(connection: Connection) -> AsyncIterator[list[tuple[int, Balance]]]:
    """All balances, page by page."""
    page: list[tuple[int, Balance]] = []
    async for id_, pending, available, reserved, debt, version in connection.cursor(
        ACCOUNTS, prefetch=PAGE_ROWS, timeout=STATEMENT_TIMEOUT_S
    ):
        page.append((id_, Balance(pending=pending, available=available, reserved=reserved, debt=debt, version=version)))
        if len(page) == PAGE_ROWS:
            yield page
            page = []
    if page:
        yield page


QUIET_BALANCES = """
SELECT a.id, a.pending, a.available, a.reserved, a.debt, a.version, NOT EXISTS (
           SELECT FROM event e WHERE e.bucket = a.bucket AND e.account = a.id AND e.received_at > now() - interval '5 seconds'
       ) AND NOT EXISTS (
           SELECT FROM entry e WHERE e.bucket = a.bucket AND e.account = a.id AND e.at > now() - interval '5 seconds'
       ) AND NOT EXISTS (
           SELECT FROM event e WHERE e.home = a.id AND e.received_at > now() - interval '5 seconds'
       ) AS quiet
FROM unnest($1::smallint[], $2::bigint[]) AS w (bucket, id) JOIN account a USING (bucket, id)
"""


async def quiet_balances(connection: Connection, accounts: Sequence[int]) -> dict[int, tuple[Balance, bool]]:
    """Balances as they are now, and whether nothing has changed them for 5 s."""
    rows = await connection.fetch(QUIET_BALANCES, [bucket_of(a) for a in accounts], accounts, timeout=STATEMENT_TIMEOUT_S)
    return {
        r["id"]: (
            Balance(pending=r["pending"], available=r["available"], reserved=r["reserved"], debt=r["debt"], version=r["version"]),
            r["quiet"],
        )
        for r in rows
    }
