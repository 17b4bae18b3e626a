-- Callers: sandboxes, when keys were last used, sessions and named tokens of operators, access tokens, attempts to sign in.

-- A sandbox is for trying things out: its platforms get gpk_test_ keys, which work nowhere else. Never changed once the program is there.
ALTER TABLE program ADD COLUMN sandbox boolean NOT NULL DEFAULT false;

ALTER TABLE api_key ADD COLUMN last_used_at timestamptz;   -- written by each process every half minute, at most once a minute

ALTER TABLE operator_token
    ADD COLUMN id           bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ADD COLUMN name         text,                          -- what a person calls it; null for sessions
    ADD COLUMN session      boolean NOT NULL DEFAULT false, -- made by signing in; ends with the password
    ADD COLUMN program      integer REFERENCES program,    -- null: the operator's
    ADD COLUMN last_used_at timestamptz;
CREATE INDEX operator_token_operator ON operator_token (operator);

-- OAuth 2 client credentials: short-lived tokens that stand for an API key. Expired ones are deleted when the key asks for the next.
CREATE TABLE access_token (
    hash       bytea PRIMARY KEY,                          -- SHA-256 of the whole token
    api_key    integer NOT NULL REFERENCES api_key,
    scopes     text[] NOT NULL,                            -- empty: everything a platform may do
    expires_at timestamptz NOT NULL
);
CREATE INDEX access_token_api_key ON access_token (api_key, expires_at);

-- Failed attempts to sign in, by account, whether it exists or not; a row is forgotten some time after its window.
CREATE TABLE sign_in_attempt (
    account  bytea PRIMARY KEY,                            -- SHA-256 of the address in lower case
    attempts integer NOT NULL,
    began_at timestamptz NOT NULL
);
CREATE INDEX sign_in_attempt_began ON sign_in_attempt (began_at);

-- People do not remember how they once wrote their address.
CREATE INDEX operator_email ON operator (lower(email));
