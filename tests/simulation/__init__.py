"""Simulation: the real engine on a host that is not real, for as many seeds as wanted.

`python -m simulation --seeds 0:5000`; what is promised, and from which moment on, stands in `truth`.
"""
