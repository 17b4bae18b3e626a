-- What a batch of credits writes costs less.

-- A bulk body of the same consumers changes every row of a page at once. With half of the page free all of these updates stay on it and
-- touch no index; with a fifth of it free six of ten changes of a used cap wrote to the index, too.
ALTER TABLE account SET (fillfactor = 50);
ALTER TABLE cap_usage SET (fillfactor = 50);

-- A cap to read, and its new value: the bucket follows from the account, so it is not sent. Old code goes on with `cap_change`.
CREATE TYPE cap_key AS (account bigint, campaign integer, span smallint, day date);
CREATE TYPE cap_value AS (account bigint, campaign integer, span smallint, day date, used bigint);
