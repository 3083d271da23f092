"""How far time can be trusted: the guard against a jumping clock, and unwatched time."""
