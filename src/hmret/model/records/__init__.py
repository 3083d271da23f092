"""Values that are remembered from one sweep to the next."""
