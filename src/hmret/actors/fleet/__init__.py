"""The fleet keeper: this host's membership in a fleet, in tasks of its own that nothing else waits for."""
