"""The pure layer: values, policy and `plan()`; no I/O, no clock, no framework."""
