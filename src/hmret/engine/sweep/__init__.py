"""One sweep: what goes, what is held, and what is written down of it."""
