"""The wiring: which actor is started when, what a sweep asks of them, and what an embedder holds."""
