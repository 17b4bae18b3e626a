"""The last day of a lot, as SQL that several statements share."""

from typing import Final

# When a consumer last earned or spent: the newest award, and the newest reservation, spending, refund or transfer to or from somebody. Of
# linked accounts each has its own. Both are found by walking a primary key from its end. It is asked for lots of a policy of activity only.
_LAST_ACTIVE: Final = """
    SELECT max(x.at) FROM (
        SELECT l.bucket, l.account UNION ALL SELECT a.bucket, a.id FROM account a WHERE a.home = l.account
    ) m CROSS JOIN LATERAL (
        (SELECT e.received_at AS at FROM award w JOIN event e ON e.bucket = w.bucket AND e.account = w.account AND e.number = w.event
         WHERE w.bucket = m.bucket AND w.account = m.account ORDER BY w.event DESC LIMIT 1)
        UNION ALL
        (SELECT t.at FROM transfer t
         WHERE t.bucket = m.bucket AND t.account = m.account AND t.kind IN (4, 5, 7, 10) ORDER BY t.number DESC LIMIT 1)
    ) x
"""
LAST_DAY: Final = f"""
CASE WHEN l.idle_months IS NULL OR l.expires_on IS NULL THEN l.expires_on
     ELSE greatest(l.expires_on, ((({_LAST_ACTIVE}) AT TIME ZONE (SELECT g.time_zone FROM program g WHERE g.id = l.program))::date
                                  + make_interval(months => l.idle_months))::date) END
"""
"""The last local day of lot `l`: of one earned under a policy of activity, so many months after its consumer was last active, if later.

Takes the columns bucket, account, program, expires_on and idle_months of `l`.
"""
