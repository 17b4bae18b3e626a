"""One file per story. A flow opens its transaction, visibly, and makes no network call inside one."""
