"""What crosses a boundary: events, API bodies and answers, partner payloads, job arguments."""
