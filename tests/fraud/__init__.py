"""The fraud checks: pure, so that no test here needs a server."""
