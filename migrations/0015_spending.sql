-- Spending: reservations over lots, redemptions, transfers that no event causes, answers to repeat, the points policy, linked accounts.

-- Linked accounts: facts stay with the account that they came for, its points are another's. Null: it has them itself.
ALTER TABLE account ADD COLUMN home bigint;
CREATE INDEX account_home ON account (home) WHERE home IS NOT NULL;

ALTER TABLE lot
    -- Of what remains: allocated to open reservations. It does not expire, and no clawback takes it.
    ADD COLUMN reserved    bigint NOT NULL DEFAULT 0,
    -- What made it: service.domain.ledger.Kind (1 an award that settled, 3 taken over, 9 an adjustment, 10 another consumer, 11 a link).
    ADD COLUMN origin      smallint NOT NULL DEFAULT 1,
    -- Earned under a policy of activity: it lives on while its consumer is active. Months without activity after which it ends.
    ADD COLUMN idle_months smallint CHECK (idle_months > 0),
    ADD CONSTRAINT lot_reserved CHECK (reserved BETWEEN 0 AND remaining);
UPDATE lot SET origin = 3 WHERE campaign = 0;
-- A lot is its own deadline: the sweep finds it by its last day.
CREATE INDEX lot_expiry ON lot (bucket, expires_on) WHERE remaining > reserved AND expires_on IS NOT NULL;

-- One row per transfer that no event, settlement or opening causes: spending, giving back, expiry, adjustments, between consumers, links.
CREATE TABLE transfer (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    number     bigint NOT NULL,
    kind       smallint NOT NULL,                      -- service.domain.ledger.Kind
    program    integer NOT NULL,
    platform   integer NOT NULL,                       -- through which it came; 0: none
    points     bigint NOT NULL,                        -- signed change of what the consumer can spend, debt counted
    redemption bigint,                                 -- the number of the redemption that it is about
    reason     text,                                   -- in words that the consumer may read
    version    bigint NOT NULL,                        -- of the account after it
    at         timestamptz NOT NULL,
    PRIMARY KEY (bucket, account, number)
);
CREATE INDEX transfer_at ON transfer (at);

CREATE TABLE redemption (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,                        -- that pays
    number     bigint NOT NULL,                        -- of its registry row (kind 5) and of its first transfer
    program    integer NOT NULL,
    platform   integer NOT NULL,
    id         text NOT NULL,
    status     text NOT NULL CHECK (status IN ('reserved', 'captured', 'cancelled', 'expired')),
    points     bigint NOT NULL CHECK (points > 0),     -- asked for
    captured   bigint NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND points),
    refunded   bigint NOT NULL DEFAULT 0 CHECK (refunded BETWEEN 0 AND captured),
    reference  text,                                   -- the platform's own name for it; forgotten with the person
    reward     bigint,
    cause      bigint,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,                   -- a reservation releases itself then
    ended_at   timestamptz,                            -- when it was captured, cancelled or released
    PRIMARY KEY (bucket, account, number),
    CHECK ((status = 'reserved') = (ended_at IS NULL)),
    CHECK (status = 'captured' OR captured = 0)
) WITH (fillfactor = 80);
CREATE INDEX redemption_platform ON redemption (platform, number);

-- Of which lots a redemption is made: what it holds, and what it has spent and not given back.
CREATE TABLE redemption_lot (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    redemption bigint NOT NULL,
    event      bigint NOT NULL,                        -- the lot's
    n          smallint NOT NULL,
    reserved   bigint NOT NULL CHECK (reserved >= 0),
    spent      bigint NOT NULL CHECK (spent >= 0),
    PRIMARY KEY (bucket, account, redemption, event, n)
) WITH (fillfactor = 80);

-- Open reservations by their end; the row goes when the reservation does.
CREATE TABLE reservation_due (
    bucket     smallint NOT NULL,
    due_at     timestamptz NOT NULL,
    account    bigint NOT NULL,
    redemption bigint NOT NULL,
    PRIMARY KEY (bucket, due_at, redemption)
);

-- First answers of requests that carried an Idempotency-Key and were carried out; kept for ever, as ids of events are.
CREATE TABLE idempotent_request (
    program      integer NOT NULL,
    key          text COLLATE "C" NOT NULL,            -- begins with whose it is: service.domain.idempotency
    request_hash bytea NOT NULL,
    status       smallint NOT NULL,
    answer       text NOT NULL,
    bucket       smallint NOT NULL,
    account      bigint NOT NULL,
    at           timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, key)
);
CREATE INDEX idempotent_request_account ON idempotent_request (bucket, account);

-- How points of a program live and die, versioned; a version counts for what is received from `effective_from` on, never before.
CREATE TABLE points_policy (
    program        integer NOT NULL REFERENCES program,
    version        integer NOT NULL,
    effective_from timestamptz NOT NULL,
    body           text NOT NULL,                      -- JSON of schemas.points_policy.PointsPolicy
    created_by     text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, version)
);

ALTER TABLE rollup
    ADD COLUMN points_redeemed bigint NOT NULL DEFAULT 0,  -- of the campaign's lots: spent, less what was given back
    ADD COLUMN points_expired  bigint NOT NULL DEFAULT 0;

-- Rows that purses are written back as; a changed shape becomes a new type, so that old code still runs on a newer schema.
CREATE TYPE new_entry AS (
    bucket smallint, account bigint, seq bigint, transfer bigint, kind smallint, book smallint, amount bigint, program integer,
    platform integer, campaign integer, event bigint, award bigint, n smallint, version bigint
);
CREATE TYPE new_transfer AS (
    bucket smallint, account bigint, number bigint, kind smallint, program integer, platform integer, points bigint, redemption bigint,
    reason text, version bigint
);
CREATE TYPE lot_change AS (
    bucket smallint, account bigint, event bigint, n smallint, remaining bigint, reserved bigint, expires_on date
);
CREATE TYPE new_lot AS (
    bucket smallint, account bigint, event bigint, n smallint, program integer, platform integer, campaign integer, origin smallint,
    amount bigint, remaining bigint, expires_on date, idle_months smallint
);
CREATE TYPE new_lot_use AS (bucket smallint, account bigint, event bigint, n smallint, transfer bigint, amount bigint);
CREATE TYPE purse_change AS (
    bucket smallint, id bigint, available bigint, reserved bigint, debt bigint, version bigint, last_seq bigint
);
CREATE TYPE redemption_row AS (
    bucket smallint, account bigint, number bigint, program integer, platform integer, id text, status text, points bigint, captured bigint,
    refunded bigint, reference text, reward bigint, cause bigint, created_at timestamptz, expires_at timestamptz, ended_at timestamptz,
    is_new boolean
);
CREATE TYPE redemption_part AS (
    bucket smallint, account bigint, redemption bigint, event bigint, n smallint, reserved bigint, spent bigint
);
