-- Privacy: erasure of persons, legal holds, what platforms ask for, retention.

-- Raised by every erasure: a process that has seen an older one forgets which account a reference had.
ALTER TABLE deployment ADD COLUMN vault_version bigint NOT NULL DEFAULT 0;
-- What comes of later events of a reference that was erased.
ALTER TABLE program ADD COLUMN erased_reference text NOT NULL DEFAULT 'new_account' CHECK (erased_reference IN ('new_account', 'refuse'));

-- A parked fact has no account yet: the hash finds those of a person who is erased meanwhile.
ALTER TABLE parked ADD COLUMN consumer_hash bytea, ADD COLUMN scrubbed_at timestamptz;
CREATE INDEX parked_consumer ON parked (platform, consumer_hash) WHERE consumer_hash IS NOT NULL;
CREATE INDEX parked_unscrubbed ON parked (received_at) WHERE scrubbed_at IS NULL;

-- A person whom a platform had erased: the row of the vault is gone, what is left is scrubbed by a worker.
CREATE TABLE erasure (
    bucket        smallint NOT NULL,
    account       bigint NOT NULL,
    id            bigint GENERATED ALWAYS AS IDENTITY,
    program       integer NOT NULL,
    platform      integer NOT NULL,                    -- whose reference went, and whose facts are scrubbed
    state         text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done')),
    request       bigint,                              -- the privacy_request that it belongs to
    through       bigint NOT NULL DEFAULT 0,           -- events up to this number are scrubbed
    consumer_hash bytea,                               -- finds parked facts while it is running; null when done
    begun_at      timestamptz NOT NULL DEFAULT now(),
    done_at       timestamptz,
    PRIMARY KEY (bucket, account, id)
);
CREATE INDEX erasure_running ON erasure (id) WHERE state = 'running';
CREATE INDEX erasure_request ON erasure (request) WHERE state = 'running';

-- References of which a program wants no events any more, as keyed hashes.
CREATE TABLE erased_reference (
    platform  integer NOT NULL,
    hash      bytea NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (platform, hash)
);

CREATE TABLE legal_hold (
    bucket    smallint NOT NULL,
    account   bigint NOT NULL,
    id        bigint GENERATED ALWAYS AS IDENTITY,
    program   integer NOT NULL,
    reason    text NOT NULL,
    placed_by text NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now(),
    lifted_by text,
    lifted_at timestamptz,
    caught_up boolean NOT NULL DEFAULT false,          -- retention has looked at the account again since it was lifted
    PRIMARY KEY (bucket, account, id)
);
CREATE UNIQUE INDEX legal_hold_open ON legal_hold (bucket, account) WHERE lifted_at IS NULL;
CREATE INDEX legal_hold_lifted ON legal_hold (id) WHERE lifted_at IS NOT NULL AND NOT caught_up;

-- What a platform asks for by webhook: to erase or to hand out what is known of a person, or to erase everybody.
CREATE TABLE privacy_request (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program     integer NOT NULL,
    platform    integer NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('erase', 'export', 'erase_all')),
    state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'running', 'on_hold', 'done', 'cancelled')),
    source_key  text,                                  -- tells a repeated delivery
    bucket      smallint,
    account     bigint,                                -- whom it is about, null: nobody who is known, or everybody
    orders      text[] COLLATE "C" NOT NULL DEFAULT '{}', -- that are still to be scrubbed, whoever's they are
    received_at timestamptz NOT NULL DEFAULT now(),
    not_before  timestamptz NOT NULL DEFAULT now(),
    deadline    timestamptz NOT NULL,
    done_at     timestamptz,
    consumers   integer NOT NULL DEFAULT 0,            -- references erased, or persons to hand out
    scrubbed    integer NOT NULL DEFAULT 0,            -- orders scrubbed by themselves
    UNIQUE (platform, kind, source_key)
);
CREATE INDEX privacy_request_open ON privacy_request (id) WHERE state NOT IN ('done', 'cancelled');
CREATE INDEX privacy_request_page ON privacy_request (program, platform, id);

-- How far retention has come with the events, by kind of data.
CREATE TABLE retention (
    kind        text PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT '2000-01-01',
    number      bigint NOT NULL DEFAULT 0
);
