"""Mutation proof: each guard of the ledger is taken out of a copy of the project, and a test must go red (docs/guards.md)."""
