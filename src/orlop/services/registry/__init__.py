"""The registry room: the distribution protocol's grammar, its client, and later its server."""
