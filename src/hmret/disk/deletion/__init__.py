"""Out of the cache, back into it, or erased."""
