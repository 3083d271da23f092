"""Images that were renamed out of the cache: finished or undone after a crash, held in quarantine, restored."""
