"""What follows from it: which images go, which stay, and why."""
