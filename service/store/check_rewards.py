"""SQL of the invariants of rewards, voucher codes and causes, as `service.store.check` has those of everything else."""

# Every use of a reward is one redemption's, in its state.
REWARD_USES = """
SELECT format('account %s: redemption %s of reward %s is %s, its use of reward %s %s', account, redemption, coalesce(d.reward::text, 'none'),
              coalesce(d.state, 'unknown'), coalesce(u.reward::text, 'none'), coalesce(u.state, 'unknown')) AS words
FROM (
    SELECT bucket, account, number AS redemption, reward,
           CASE WHEN status = 'reserved' THEN 'reserved' WHEN status = 'captured' AND refunded < captured THEN 'given' ELSE 'returned' END AS state
    FROM redemption WHERE reward IS NOT NULL
) d
FULL JOIN reward_use u USING (bucket, account, redemption)
WHERE d.reward IS DISTINCT FROM u.reward OR d.state IS DISTINCT FROM u.state
"""
# What is taken of a stock is what its uses say.
REWARD_STOCKS = """
SELECT format('reward %s: %s of its stock of %s are taken, its uses are %s', r.id, r.taken, r.stock, coalesce(u.uses, 0)) AS words
FROM reward r
LEFT JOIN (SELECT reward, count(*) AS uses FROM reward_use WHERE state <> 'returned' GROUP BY reward) u ON u.reward = r.id
WHERE r.taken <> coalesce(u.uses, 0)
"""
# A code is held by the use that holds it: given out with it, void once it came back. Each use of a reward with codes has one.
VOUCHERS = """
SELECT format('reward %s: its code %s of redemption %s is %s, the use %s', reward, coalesce(v.number::text, 'none'), redemption,
              coalesce(v.state, 'missing'), coalesce(u.state, 'missing')) AS words
FROM (SELECT reward, number, state, bucket, account, redemption FROM voucher WHERE redemption IS NOT NULL) v
FULL JOIN (
    SELECT u.reward, u.bucket, u.account, u.redemption, u.state FROM reward_use u JOIN reward r ON r.id = u.reward WHERE r.sealed_key IS NOT NULL
) u USING (bucket, account, redemption, reward)
WHERE CASE WHEN u.state IS NULL THEN true
           WHEN v.state IS NULL THEN u.state <> 'returned'
           ELSE v.state <> CASE u.state WHEN 'returned' THEN 'void' ELSE u.state END END
"""
# What was given to a cause is what the book says of its redemptions.
CAUSES = """
SELECT format('cause %s: its total is %s points of %s donations, the book says %s of %s', cause, coalesce(t.points, 0),
              coalesce(t.donations, 0), coalesce(d.points, 0), coalesce(d.donations, 0)) AS words
FROM (SELECT cause, sum(points) AS points, sum(donations) AS donations FROM cause_total GROUP BY cause) t
FULL JOIN (
    SELECT coalesce(d.cause, 0) AS cause, coalesce(sum(e.points), 0) AS points,
           count(*) FILTER (WHERE d.status = 'captured' AND d.refunded < d.captured) AS donations
    FROM (SELECT number, cause, status, captured, refunded FROM redemption WHERE cause IS NOT NULL) d
    FULL JOIN (SELECT event AS number, sum(amount) AS points FROM entry WHERE book = 7 GROUP BY event) e USING (number)
    GROUP BY 1
) d USING (cause)
WHERE coalesce(t.points, 0) <> coalesce(d.points, 0) OR coalesce(t.donations, 0) <> coalesce(d.donations, 0)
"""
