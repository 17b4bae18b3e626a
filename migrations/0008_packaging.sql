-- Packaging: reusable assets and their trips, claims that earn once, returns that wait for a shipment, what was sent to whom.

ALTER TABLE program
    -- Whose points a reusable asset earns: whoever brings it back, or the consumer that it was shipped to.
    ADD COLUMN return_earner text NOT NULL DEFAULT 'returner' CHECK (return_earner IN ('returner', 'recipient')),
    -- How long single-use packaging can be given back after it was shipped; null: returns are not compared with shipments.
    ADD COLUMN return_window_days integer DEFAULT 90 CHECK (return_window_days BETWEEN 1 AND 3660);

-- A piece of reusable packaging. Its row is locked by whoever changes its trips.
CREATE TABLE asset (
    program       integer NOT NULL,
    key           text COLLATE "C" NOT NULL,           -- the canonical form: service.domain.identifiers
    class         text NOT NULL,
    state         text NOT NULL DEFAULT 'registered' CHECK (state IN ('registered', 'shipped', 'returned', 'inspected', 'retired', 'lost')),
    state_at      timestamptz,                         -- when that happened, as reported; null: registered
    max_trips     integer CHECK (max_trips > 0),       -- trips beyond it earn nothing; null: no limit
    registered_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, key)
) WITH (fillfactor = 90);

-- One shipment of an asset to a consumer, and the return that ended it: the one record that points and deposit share.
CREATE TABLE trip (
    program          integer NOT NULL,
    asset            text COLLATE "C" NOT NULL,
    shipped_event    bigint NOT NULL,                  -- the order.fulfilled that named it
    shipped_at       timestamptz NOT NULL,
    platform         integer NOT NULL,
    order_id         text NOT NULL,
    bucket           smallint NOT NULL,                -- of the consumer that it was shipped to
    account          bigint NOT NULL,
    void             boolean NOT NULL DEFAULT false,   -- the shipment was declared wrong
    returned_event   bigint,                           -- null: not back, as far as known
    returned_item    smallint,
    returned_at      timestamptz,
    returned_bucket  smallint,                         -- of the consumer that it counts for
    returned_account bigint,
    returned_platform integer,                         -- that reported it
    awarded_event    bigint,                           -- the event that carries its awards; null: it earned nothing
    awarded_item     smallint,
    deposit          numeric,                          -- what is to be paid out for this return, in major units
    deposit_currency text,
    PRIMARY KEY (program, asset, shipped_event),
    CHECK ((returned_event IS NULL) = (returned_at IS NULL)),
    CHECK (NOT void OR returned_event IS NULL)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX trip_return ON trip (program, asset, returned_event, returned_item) WHERE returned_event IS NOT NULL;
CREATE INDEX trip_account ON trip (bucket, account);

-- Returned items whose asset is not out, as far as is known: its shipment picks them up. The facts are in `parked`.
CREATE TABLE waiting_return (
    program     integer NOT NULL,
    asset       text COLLATE "C" NOT NULL,
    number      bigint NOT NULL,
    item        smallint NOT NULL,
    platform    integer NOT NULL,
    occurred_at timestamptz NOT NULL,
    bucket      smallint,                              -- of the consumer that it names; null: it names none
    account     bigint,
    PRIMARY KEY (program, asset, number, item)
);
CREATE INDEX waiting_return_number ON waiting_return (program, number);
ALTER TABLE parked ADD COLUMN declared_wrong boolean NOT NULL DEFAULT false;  -- by a later event: nothing picks it up any more
CREATE INDEX parked_number ON parked (number);

-- What earns once in the whole program, whoever reports it. A row is here exactly while its award stands.
CREATE TABLE claim (
    program     integer NOT NULL,
    kind        smallint NOT NULL,                     -- service.domain.claims.Kind
    fingerprint bytea NOT NULL,                        -- keyed hash of the canonical form
    bucket      smallint NOT NULL,
    account     bigint NOT NULL,
    event       bigint NOT NULL,
    item        smallint NOT NULL,                     -- position within its event
    PRIMARY KEY (program, kind, fingerprint)
);
CREATE INDEX claim_event ON claim (bucket, account, event);

-- Single-use packaging sent to a consumer, by class and local day; what came back of it.
CREATE TABLE packaging_sent (
    bucket   smallint NOT NULL,
    account  bigint NOT NULL,
    class    text NOT NULL,
    day      date NOT NULL,
    units    numeric NOT NULL,
    returned numeric NOT NULL DEFAULT 0 CHECK (returned BETWEEN 0 AND units),
    PRIMARY KEY (bucket, account, class, day)
) WITH (fillfactor = 80);
-- Which of it a return counts as given back.
CREATE TABLE packaging_back (
    bucket  smallint NOT NULL,
    account bigint NOT NULL,
    event   bigint NOT NULL,
    item    smallint NOT NULL,
    class   text NOT NULL,
    day     date NOT NULL,                             -- on which it was sent
    units   numeric NOT NULL CHECK (units > 0),
    PRIMARY KEY (bucket, account, event, item, day)
);

-- Which item of its event an award is for, and the impact that was recorded with it (JSON of schemas.impact.ImpactRecord, pinned).
ALTER TABLE award ADD COLUMN item smallint, ADD COLUMN impact text;
CREATE TYPE new_award_2 AS (
    bucket smallint, account bigint, event bigint, n smallint, program integer, platform integer, campaign integer, version integer,
    line text, points bigint, reversed bigint, day date, due_at timestamptz, expires_on date, certificate bigint,
    item smallint, co2e_g bigint, plastic_g bigint, impact text
);

-- An award for how an order was really packed names the event that told so. What was told and counted for nothing, because checkout
-- had earned before, stays without effect: from now on what was really used stands in place of what was chosen at checkout.
UPDATE award a SET line = e.id FROM event e
WHERE e.bucket = a.bucket AND e.account = a.account AND e.number = a.event AND e.type = 'order.fulfilled' AND a.line IS NULL;
UPDATE event SET facts = ((facts::jsonb) - 'packaging')::text WHERE type = 'order.fulfilled' AND version = 0 AND points = 0;
