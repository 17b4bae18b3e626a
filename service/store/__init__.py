"""SQL: each statement a named constant beside the typed function that runs it on a connection."""
