"""HTTP: read the request, call a flow, answer."""
