"""Wires the actors together: their start and stop order, the sweeps, and the API for embedders."""
