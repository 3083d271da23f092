"""Reads flags, environment variables and config files into the settings of an engine."""
