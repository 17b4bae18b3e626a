-- The main job: callers, catalogue, registry, accounts, events, awards, ledger, roll-ups.
--
-- `bucket` (account id modulo 1,024) leads the key of everything that belongs to a consumer; it is the
-- distribution column of a Citus cluster. Reference tables (program, platform, campaign, certificate, …)
-- are small and copied to every node. Registry rows are distributed by their own key.

-- One row: counters that tell a process that what it has cached is out of date.
CREATE TABLE deployment (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch             integer NOT NULL DEFAULT 1,      -- part of every Redis key; raised after a restore
    catalogue_version bigint  NOT NULL DEFAULT 1,      -- campaigns, programs
    registry_version  bigint  NOT NULL DEFAULT 1,      -- products, certificates
    callers_version   bigint  NOT NULL DEFAULT 1,      -- platforms, keys, hooks, operators
    hash_key          bytea   NOT NULL                 -- keys the hashes of device, address, payment, ip, region
);
INSERT INTO deployment (hash_key) VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

CREATE TABLE program (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code       text NOT NULL UNIQUE,
    name       text NOT NULL,
    currency   text NOT NULL,                          -- what its points are called
    time_zone  text NOT NULL,                          -- IANA name; days and years of caps and expiry
    parked_for interval NOT NULL DEFAULT '90 days',    -- how long a refund waits for its order before it is ignored
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE platform (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program    integer NOT NULL REFERENCES program,
    code       text NOT NULL UNIQUE,                   -- the `iss` of its consumer tokens, hence unique in the deployment
    name       text NOT NULL,
    active     boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE api_key (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    platform   integer NOT NULL REFERENCES platform,
    hash       bytea NOT NULL UNIQUE,                  -- SHA-256 of the whole key
    hint       text NOT NULL,                          -- its last four characters
    scopes     text[] NOT NULL DEFAULT '{}',           -- empty: everything a platform may do
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE signing_key (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    platform    integer NOT NULL REFERENCES platform,
    kid         text,
    algorithm   text NOT NULL CHECK (algorithm IN ('EdDSA', 'ES256', 'RS256')),
    public_pem  text,
    jwks_url    text,
    private_pem text,                                  -- the development key behind `greenpoints token`; never a platform's own
    created_at  timestamptz NOT NULL DEFAULT now(),
    revoked_at  timestamptz,
    CHECK ((public_pem IS NULL) <> (jwks_url IS NULL))
);
CREATE INDEX signing_key_platform ON signing_key (platform);

CREATE TABLE hook (
    id         text PRIMARY KEY,
    platform   integer NOT NULL REFERENCES platform,
    connector  text NOT NULL,
    secrets    text[] NOT NULL,                        -- newest first; several while one is rotated
    settings   text NOT NULL DEFAULT '{}',             -- JSON, e.g. the connector's packaging mapping
    active     boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE operator (
    id            integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program       integer REFERENCES program,          -- null: every program
    email         text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    role          text NOT NULL CHECK (role IN ('viewer', 'analyst', 'campaigns', 'fraud', 'admin')),
    active        boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE operator_token (
    hash       bytea PRIMARY KEY,                      -- SHA-256 of the whole token
    operator   integer NOT NULL REFERENCES operator,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    program    integer,
    actor      text NOT NULL,                          -- 'operator:7', 'platform:demo-shop', 'command'
    action     text NOT NULL,
    subject    text NOT NULL,
    before     jsonb,
    after      jsonb,
    request_id text
);

-- What is certified -----------------------------------------------------------------------------------

CREATE TABLE certificate (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program           integer NOT NULL REFERENCES program,
    scheme            text NOT NULL,
    number            text NOT NULL,
    holder            text NOT NULL,
    valid_from        date NOT NULL,
    valid_until       date NOT NULL,
    suspended_at      timestamptz,
    revoked_at        timestamptz,
    revocation_reason text,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (program, scheme, number),
    CHECK (valid_from <= valid_until)
);
CREATE TABLE certificate_gtin (
    program     integer NOT NULL,
    gtin        text COLLATE "C" NOT NULL,             -- 14 digits
    certificate bigint NOT NULL REFERENCES certificate,
    PRIMARY KEY (program, gtin, certificate)
);
CREATE TABLE product (
    program    integer NOT NULL REFERENCES program,
    gtin       text COLLATE "C" NOT NULL,
    name       text NOT NULL,
    category   text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, gtin)
);
CREATE TABLE product_sku (
    platform integer NOT NULL REFERENCES platform,
    sku      text COLLATE "C" NOT NULL,
    program  integer NOT NULL,
    gtin     text COLLATE "C" NOT NULL,
    PRIMARY KEY (platform, sku)
);
CREATE INDEX product_sku_gtin ON product_sku (program, gtin);

-- What earns ------------------------------------------------------------------------------------------

CREATE TABLE campaign (
    id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program    integer NOT NULL REFERENCES program,
    code       text NOT NULL,
    action     text NOT NULL CHECK (action IN ('purchase', 'packaging', 'return', 'activity')),
    status     text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'running', 'paused', 'ended')),
    version    integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (program, code)
);
CREATE TABLE campaign_version (
    campaign       integer NOT NULL REFERENCES campaign,
    version        integer NOT NULL,
    body           text NOT NULL,                      -- JSON of schemas.campaigns.CampaignBody
    effective_from timestamptz NOT NULL,               -- events that occurred from then on; the first version: -infinity
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text NOT NULL,
    PRIMARY KEY (campaign, version)
);
-- Counted for a campaign with a budget; `day` is '-infinity' for the whole life. Locked once per batch.
CREATE TABLE budget (
    campaign integer NOT NULL,
    day      date NOT NULL,
    used     bigint NOT NULL DEFAULT 0 CHECK (used >= 0),
    PRIMARY KEY (campaign, day)
) WITH (fillfactor = 50);

-- Keys that count once, for ever ----------------------------------------------------------------------

-- Numbers events and transfers alike: a transfer that an event causes directly carries that event's number.
CREATE SEQUENCE number;

CREATE TABLE registry (
    program      integer NOT NULL,
    kind         smallint NOT NULL,                    -- 1 event id, 2 order: see service.domain.keys
    key          text COLLATE "C" NOT NULL,            -- begins with the platform's id where the key is a platform's own
    number       bigint NOT NULL DEFAULT nextval('number'),
    request_hash bytea,
    bucket       smallint,
    account      bigint,                               -- null: not known yet (a parked fact)
    PRIMARY KEY (program, kind, key)
);

-- Consumers -------------------------------------------------------------------------------------------

CREATE TABLE account (
    bucket     smallint NOT NULL,
    id         bigint NOT NULL,                        -- random; says nothing about the person
    program    integer NOT NULL,
    pending    bigint NOT NULL DEFAULT 0 CHECK (pending >= 0),
    available  bigint NOT NULL DEFAULT 0 CHECK (available >= 0),
    reserved   bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    debt       bigint NOT NULL DEFAULT 0 CHECK (debt >= 0),
    version    bigint NOT NULL DEFAULT 0,              -- number of changes
    last_seq   bigint NOT NULL DEFAULT 0,              -- sequence of its newest entry
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket, id),
    CHECK (bucket = (id & 1023))
) WITH (fillfactor = 70);

-- The vault: the only place that knows a platform's name for a person.
CREATE TABLE consumer_reference (
    platform   integer NOT NULL,
    reference  text COLLATE "C" NOT NULL,
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (platform, reference)
);
CREATE INDEX consumer_reference_account ON consumer_reference (bucket, account);

-- Facts and awards, as decided; written once (but `award.reversed`) -----------------------------------

CREATE TABLE event (
    bucket      smallint NOT NULL,
    account     bigint NOT NULL,
    number      bigint NOT NULL,
    program     integer NOT NULL,
    platform    integer NOT NULL,
    id          text NOT NULL,
    type        text NOT NULL,
    order_id    text COLLATE "C",
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    points      bigint NOT NULL,                       -- the signed change
    version     bigint NOT NULL,                       -- of the account after it; 0: it changed nothing
    facts       text NOT NULL,                         -- JSON of schemas.events.Event, minimised
    answer      text NOT NULL,                         -- JSON of schemas.events.EventAnswer: the first answer
    outcome     text,                                  -- the same of a fact that was parked at first: what came of it
    PRIMARY KEY (bucket, account, number)
);
CREATE INDEX event_order ON event (bucket, platform, order_id) WHERE order_id IS NOT NULL;
CREATE INDEX event_platform ON event (platform, number);
CREATE INDEX event_received ON event USING brin (received_at) WITH (pages_per_range = 16);

-- Facts that came before the order they depend on; order.paid picks them up.
CREATE TABLE parked (
    program     integer NOT NULL,
    platform    integer NOT NULL,
    order_id    text COLLATE "C" NOT NULL,
    number      bigint NOT NULL,
    id          text NOT NULL,
    type        text NOT NULL,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    ignored_at  timestamptz,                           -- set after program.parked_for; a late order still picks it up
    facts       text NOT NULL,
    answer      text NOT NULL,
    PRIMARY KEY (program, platform, order_id, number)
);
CREATE INDEX parked_received ON parked (received_at) WHERE ignored_at IS NULL;

CREATE TABLE award (
    bucket      smallint NOT NULL,
    account     bigint NOT NULL,
    event       bigint NOT NULL,
    n           smallint NOT NULL,
    program     integer NOT NULL,
    platform    integer NOT NULL,
    campaign    integer NOT NULL,
    version     integer NOT NULL,
    line        text,
    points      bigint NOT NULL CHECK (points > 0),
    reversed    bigint NOT NULL DEFAULT 0 CHECK (reversed BETWEEN 0 AND points),
    day         date NOT NULL,                         -- of occurred_at in the program's time zone: its cap and budget windows
    due_at      timestamptz NOT NULL,
    expires_on  date,                                  -- last day on which its points can be spent; null: never
    certificate bigint,
    co2e_g      bigint NOT NULL DEFAULT 0,
    plastic_g   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (bucket, account, event, n)
) WITH (fillfactor = 90);

-- What is on hold; deleted when it settles.
CREATE TABLE due (
    bucket  smallint NOT NULL,
    due_at  timestamptz NOT NULL,
    account bigint NOT NULL,
    event   bigint NOT NULL,
    PRIMARY KEY (bucket, due_at, event)
);
CREATE INDEX due_account ON due (bucket, account);

CREATE TABLE cap_usage (
    bucket   smallint NOT NULL,
    account  bigint NOT NULL,
    campaign integer NOT NULL,
    span     smallint NOT NULL,                        -- 1 day, 2 year, 3 total
    day      date NOT NULL,                            -- first day of the window; total: '-infinity'
    used     bigint NOT NULL CHECK (used >= 0),
    PRIMARY KEY (bucket, account, campaign, span, day)
) WITH (fillfactor = 80);

-- The ledger ------------------------------------------------------------------------------------------

-- Double entry, append-only: the entries of a transfer sum to zero. Counter-accounts have no row of their
-- own: their side is an entry of the same consumer's book, told apart by `book`.
CREATE TABLE entry (
    bucket   smallint NOT NULL,
    account  bigint NOT NULL,
    seq      bigint NOT NULL,                          -- gapless per account
    transfer bigint NOT NULL,
    kind     smallint NOT NULL,                        -- service.domain.ledger.Kind
    book     smallint NOT NULL,                        -- service.domain.ledger.Book
    amount   bigint NOT NULL CHECK (amount <> 0),
    program  integer NOT NULL,
    platform integer NOT NULL,
    campaign integer NOT NULL,
    event    bigint NOT NULL,                          -- the event that caused it
    award    bigint NOT NULL,                          -- event number of the award that it settles or takes back
    n        smallint NOT NULL,                        -- and that award's position
    version  bigint NOT NULL,                          -- of the account after it
    at       timestamptz NOT NULL,
    PRIMARY KEY (bucket, account, seq)
);
CREATE INDEX entry_at ON entry USING brin (at) WITH (pages_per_range = 16);

-- A parcel of points, one per settled award; FIFO by (expires_on, event, n).
CREATE TABLE lot (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    event      bigint NOT NULL,
    n          smallint NOT NULL,
    program    integer NOT NULL,
    platform   integer NOT NULL,
    campaign   integer NOT NULL,
    amount     bigint NOT NULL CHECK (amount > 0),
    remaining  bigint NOT NULL CHECK (remaining BETWEEN 0 AND amount),
    expires_on date,
    PRIMARY KEY (bucket, account, event, n)
) WITH (fillfactor = 80);
CREATE INDEX lot_open ON lot (bucket, account, expires_on) WHERE remaining > 0;

CREATE TABLE lot_use (
    bucket   smallint NOT NULL,
    account  bigint NOT NULL,
    event    bigint NOT NULL,
    n        smallint NOT NULL,
    transfer bigint NOT NULL,
    amount   bigint NOT NULL CHECK (amount <> 0),      -- positive: used; negative: given back
    PRIMARY KEY (bucket, account, event, n, transfer)
);

-- Rows of a credit batch -------------------------------------------------------------------------------

-- What one parameter of the batch's statements is an array of; a changed shape becomes a new type, so that old code
-- still runs on a newer schema.
CREATE TYPE new_key AS (program integer, kind smallint, key text, request_hash bytea, bucket smallint, account bigint);
CREATE TYPE new_event AS (
    bucket smallint, account bigint, number bigint, program integer, platform integer, id text, type text, order_id text,
    occurred_at timestamptz, received_at timestamptz, points bigint, version bigint, facts text, answer text, outcome text
);
CREATE TYPE new_award AS (
    bucket smallint, account bigint, event bigint, n smallint, program integer, platform integer, campaign integer, version integer,
    line text, points bigint, reversed bigint, day date, due_at timestamptz, expires_on date, certificate bigint
);
CREATE TYPE account_change AS (
    bucket smallint, id bigint, pending bigint, available bigint, debt bigint, version bigint, last_seq bigint
);
CREATE TYPE cap_change AS (bucket smallint, account bigint, campaign integer, span smallint, day date, used bigint);

-- Statistics ------------------------------------------------------------------------------------------

-- Written at credit, reversal and settlement by each writer in its own stripe; summed on read.
CREATE TABLE rollup (
    campaign        integer NOT NULL,
    hour            timestamptz NOT NULL,              -- start of the hour in the program's time zone
    platform        integer NOT NULL,
    stripe          integer NOT NULL,
    events          bigint NOT NULL DEFAULT 0,
    points_issued   bigint NOT NULL DEFAULT 0,
    points_pending  bigint NOT NULL DEFAULT 0,         -- signed: sums to what is on hold
    points_settled  bigint NOT NULL DEFAULT 0,
    points_reversed bigint NOT NULL DEFAULT 0,
    co2e_g          bigint NOT NULL DEFAULT 0,
    plastic_g       bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (campaign, hour, platform, stripe)
) WITH (fillfactor = 50);

-- Who was awarded by a campaign in an hour: unique consumers, exact for any range of hours.
CREATE TABLE campaign_consumer (
    bucket   smallint NOT NULL,
    campaign integer NOT NULL,
    hour     timestamptz NOT NULL,
    account  bigint NOT NULL,
    platform integer NOT NULL,
    PRIMARY KEY (bucket, campaign, hour, account, platform)
);

-- Inbound deliveries that verified but could not be translated; kept so that they can be replayed.
CREATE TABLE delivery (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program     integer NOT NULL,
    platform    integer NOT NULL,
    hook        text NOT NULL,
    topic       text,
    delivery_id text,
    received_at timestamptz NOT NULL DEFAULT now(),
    outcome     text NOT NULL,
    detail      text NOT NULL,
    body        bytea NOT NULL
);
CREATE INDEX delivery_platform ON delivery (platform, id);
