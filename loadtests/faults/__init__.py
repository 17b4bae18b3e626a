"""Faults on a real system under load, and a journal of what its callers were told, compared with the ledger afterwards."""
