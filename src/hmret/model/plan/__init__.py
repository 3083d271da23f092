"""Planning: which images go, which stay, and why."""
