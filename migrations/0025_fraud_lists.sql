-- Every process remembers the lists of the fraud checks until this number rises: each change of a list raises it.
ALTER TABLE deployment ADD COLUMN fraud_version bigint NOT NULL DEFAULT 0;

CREATE INDEX fraud_list_program ON fraud_list (program, number);
-- What is about a person goes with them.
CREATE INDEX fraud_list_account ON fraud_list (value) WHERE kind = 'account';
