-- What points can be spent on: rewards of a catalogue, with voucher codes where they have any, and public-welfare causes.

CREATE TABLE reward (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program      integer NOT NULL REFERENCES program,
    code         text COLLATE "C" NOT NULL,
    name         text NOT NULL,
    description  text NOT NULL,
    points       bigint NOT NULL CHECK (points > 0),   -- its price
    stock        bigint CHECK (stock >= 0),            -- how often it can be redeemed in all; null: without end
    taken        bigint,                               -- how often it is, reserved or given out; counted where the stock has an end
    per_consumer bigint CHECK (per_consumer > 0),      -- how often one consumer can have it; null: without end
    valid_from   timestamptz,                          -- from then on
    valid_until  timestamptz,                          -- before then
    platforms    integer[],                            -- where it is offered; null: on all
    sealed_key   text,                                 -- gives out codes: the key of their hashes, sealed with the master key
    active       boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (program, code),
    CHECK ((stock IS NULL) = (taken IS NULL)),
    CONSTRAINT reward_stock CHECK (taken BETWEEN 0 AND stock),
    CHECK (valid_until > valid_from)
) WITH (fillfactor = 70);

-- One row for each redemption of a reward, under its account's lock.
CREATE TABLE reward_use (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    redemption bigint NOT NULL,
    reward     integer NOT NULL,
    state      text NOT NULL CHECK (state IN ('reserved', 'given', 'returned')),
    at         timestamptz NOT NULL,
    PRIMARY KEY (bucket, account, redemption)
) WITH (fillfactor = 80);
CREATE INDEX reward_use_account ON reward_use (bucket, account, reward) WHERE state <> 'returned';
CREATE INDEX reward_use_reward ON reward_use (reward, state);

-- Codes are bearer values: sealed with the master key, told apart by a keyed hash.
CREATE TABLE voucher (
    reward     integer NOT NULL REFERENCES reward,
    number     bigint GENERATED ALWAYS AS IDENTITY,    -- the order in which they were loaded and are given out
    sealed     text NOT NULL,
    hash       bytea NOT NULL,
    state      text NOT NULL DEFAULT 'free' CHECK (state IN ('free', 'reserved', 'given', 'void')),
    bucket     smallint,                               -- whose: of the redemption that reserved it, was given it or saw it
    account    bigint,
    redemption bigint,
    voided_at  timestamptz,                            -- it was given out and its redemption refunded: somebody has seen it
    PRIMARY KEY (reward, number),
    UNIQUE (reward, hash),
    CHECK ((state = 'free') = (redemption IS NULL)),
    CHECK ((redemption IS NULL) = (account IS NULL) AND (account IS NULL) = (bucket IS NULL)),
    CHECK ((state = 'void') = (voided_at IS NOT NULL))
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX voucher_redemption ON voucher (redemption) WHERE redemption IS NOT NULL;
CREATE INDEX voucher_free ON voucher (reward, number) WHERE state = 'free';
CREATE INDEX voucher_void ON voucher (reward, number) WHERE state = 'void';

CREATE TABLE cause (
    id          integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program     integer NOT NULL REFERENCES program,
    code        text COLLATE "C" NOT NULL,
    name        text NOT NULL,
    description text NOT NULL,
    url         text,
    active      boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE (program, code)
);

-- What was given to a cause, less what was refunded: the sum of its stripes, so that donations do not wait for each other. What one stripe
-- counted another may take back.
CREATE TABLE cause_total (
    cause     integer NOT NULL REFERENCES cause,
    stripe    smallint NOT NULL,
    points    bigint NOT NULL,
    donations bigint NOT NULL,
    PRIMARY KEY (cause, stripe)
) WITH (fillfactor = 70);
