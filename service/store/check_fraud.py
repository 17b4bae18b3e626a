"""SQL of the invariants of fraud cases; see `service.store.check`."""

from typing import Final

# What is held stands in a case, and the other way round: what no case has nobody would ever decide.
HELD: Final = """
SELECT format('account %s: event %s %s', account, event,
              CASE WHEN e.held IS NULL THEN 'is held, but no case holds it' ELSE 'is held by a case, but may settle' END) AS words
FROM (SELECT bucket, account, event, true AS held FROM screening WHERE state = 1) s
FULL JOIN (SELECT bucket, account, event, true AS held FROM fraud_case_event WHERE state = 'held') e USING (bucket, account, event)
WHERE s.held IS NULL OR e.held IS NULL
"""
REJECTED: Final = """
SELECT format('account %s: event %s was rejected and has %s points left', e.account, e.event, a.points) AS words
FROM fraud_case_event e CROSS JOIN LATERAL (
    SELECT coalesce(sum(points - reversed), 0) AS points FROM award a WHERE a.bucket = e.bucket AND a.account = e.account AND a.event = e.event
) a
WHERE e.state = 'rejected' AND a.points <> 0
UNION ALL
SELECT format('account %s: event %s %s', account, event,
              CASE WHEN e.mark IS NULL THEN 'is marked as rejected, but no case rejected it' ELSE 'was rejected, but is not marked' END)
FROM (SELECT bucket, account, event, true AS mark FROM screening WHERE state = 2) s
FULL JOIN (SELECT bucket, account, event, true AS mark FROM fraud_case_event WHERE state = 'rejected') e USING (bucket, account, event)
WHERE s.mark IS NULL OR e.mark IS NULL
"""
STATUSES: Final = """
SELECT format('fraud case %s is %s, with %s events open and %s decisions pending', c.number, c.status, e.open, d.pending) AS words
FROM fraud_case c
CROSS JOIN LATERAL (SELECT count(*) AS open FROM fraud_case_event e WHERE e.fraud_case = c.number AND e.decided_at IS NULL) e
CROSS JOIN LATERAL (SELECT count(*) AS pending FROM fraud_decision d WHERE d.fraud_case = c.number AND d.status = 'pending') d
WHERE (c.status = 'closed') <> (e.open = 0) OR (c.status = 'proposed') <> (d.pending = 1)
"""
# A worker looks every five seconds; a minute later it should have.
OVERDUE: Final = """
SELECT format('account %s: event %s of fraud case %s could be decided until %s and is still held', account, event, fraud_case, deadline) AS words
FROM fraud_case_event WHERE state = 'held' AND deadline < now() - interval '60 seconds'
"""
UNFINISHED: Final = """
SELECT format('account %s: event %s of fraud case %s is still %s: the decision to %s of %s is not carried out', e.account, e.event, e.fraud_case, e.state, d.decision,
              d.decided_at) AS words
FROM fraud_decision d JOIN fraud_case_event e ON e.fraud_case = d.fraud_case AND e.event = ANY(d.events)
WHERE d.status = 'done' AND d.decided_at < now() - interval '60 seconds' AND e.decided_at IS NULL
"""
