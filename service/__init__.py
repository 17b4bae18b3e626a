"""greenpoints: a consumer green-points rewards backend. ARCHITECTURE.md is the map."""
