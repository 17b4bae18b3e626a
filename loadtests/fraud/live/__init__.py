"""The evaluation on a running system: events go in by the API, as platforms send them, and workers judge them. docs/fraud-live.md."""
