"""The master key of tests, and what seals with it."""

from service.sealing import Sealer

MASTER_KEY = "bWFkZSB1cCBmb3IgdGVzdHMsIGFuZCBub3doZXJlIGU="
SEALER = Sealer([MASTER_KEY])
