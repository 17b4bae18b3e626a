"""Pure rules: data and `now` in, decisions out. Nothing here waits, reads a clock or touches a service."""
