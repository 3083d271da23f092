"""A host's part in a fleet, as an engine has it."""
