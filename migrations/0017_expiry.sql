-- Expiry: leases of workers, lots by their last day, warnings before it.

-- Who does a part of some work right now. The token rises with every taker, and a transaction of the work looks at it under the locks that
-- it needs: a worker that was paused and whose lease another has taken writes nothing.
CREATE TABLE lease (
    work  text NOT NULL,                               -- 'expire', 'release'
    part  smallint NOT NULL,                           -- first bucket of the group
    token bigint NOT NULL,
    until timestamptz NOT NULL,                        -- by PostgreSQL's clock; from then on anybody may take it
    PRIMARY KEY (work, part)
) WITH (fillfactor = 50);

-- The sweep looks by program, for its local day decides: what is over in one time zone must not be passed again and again in another.
DROP INDEX lot_expiry;
CREATE INDEX lot_last_day ON lot (bucket, program, expires_on) WHERE remaining > reserved AND expires_on IS NOT NULL;

-- Months of a policy of activity, so that settling need not read bodies.
ALTER TABLE points_policy ADD COLUMN idle_months smallint
    GENERATED ALWAYS AS (CASE WHEN body::jsonb #>> '{expiry,kind}' = 'activity' THEN (body::jsonb #>> '{expiry,months}')::smallint END) STORED;

-- A consumer was told that points end soon: once for each last day.
CREATE TABLE expiry_warning (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    expires_on date NOT NULL,
    program    integer NOT NULL,
    number     bigint NOT NULL DEFAULT nextval('number'), -- its place among events and transfers
    points     bigint NOT NULL CHECK (points > 0),     -- free points with this last day when it was written
    at         timestamptz NOT NULL,
    PRIMARY KEY (bucket, account, expires_on)
);
CREATE INDEX expiry_warning_account ON expiry_warning (bucket, account, number);

-- How far warning has come: each local day once through all buckets.
CREATE TABLE expiry_watch (
    program integer PRIMARY KEY REFERENCES program,
    day     date NOT NULL,                             -- the local day that was looked at last
    bucket  smallint NOT NULL                          -- all buckets below were looked at on it; 1,024: all
);
