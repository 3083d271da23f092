"""What displays of the engine show beside its plan: the past, and the disk."""
