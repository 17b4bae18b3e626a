-- Collection stations: what they take and when, their keys, what came in on a day.

CREATE TABLE station (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program      integer NOT NULL REFERENCES program,
    code         text COLLATE "C" NOT NULL,
    name         text NOT NULL,
    platform     integer REFERENCES platform,          -- null: of the whole program
    time_zone    text NOT NULL,                        -- IANA name; its opening hours and its days are in it
    location     text,                                 -- for people
    hours        text,                                 -- JSON of schemas.stations.OpeningHours; null: always open
    classes      text[],                               -- packaging that it takes; null: all
    max_units    numeric CHECK (max_units >= 0),       -- on one of its days; null: no limit
    max_mass_g   numeric CHECK (max_mass_g >= 0),
    needs_proof  boolean NOT NULL DEFAULT true,        -- of a return that a platform reports
    proof_life_s integer NOT NULL DEFAULT 120 CHECK (proof_life_s BETWEEN 10 AND 86400),
    late_h       integer NOT NULL DEFAULT 72 CHECK (late_h BETWEEN 1 AND 720), -- how long after it a return may still be reported
    active       boolean NOT NULL DEFAULT true,
    public_pem   text NOT NULL,                        -- verifies its one-time tokens
    private_pem  text NOT NULL,                        -- signs them; sealed
    created_at   timestamptz NOT NULL DEFAULT now(),
    UNIQUE (program, code)
);

CREATE TABLE station_key (
    id           integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    station      integer NOT NULL REFERENCES station,
    hash         bytea NOT NULL UNIQUE,                -- SHA-256 of the whole key
    hint         text NOT NULL,                        -- its last four characters
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz                           -- written by each process every half minute, at most once a minute
);
CREATE INDEX station_key_station ON station_key (station, id);

-- What came in at a station on one of its days, of what counted. Written under its row lock, by the credit that counts it.
CREATE TABLE station_day (
    program integer NOT NULL,
    station integer NOT NULL REFERENCES station,
    day     date NOT NULL,
    units   numeric NOT NULL DEFAULT 0 CHECK (units >= 0),
    mass_g  numeric NOT NULL DEFAULT 0 CHECK (mass_g >= 0),
    PRIMARY KEY (program, station, day)
) WITH (fillfactor = 80);
