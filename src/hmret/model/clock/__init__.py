"""Time as it can be trusted: the guard against a jumped clock, and time that nobody watched."""
