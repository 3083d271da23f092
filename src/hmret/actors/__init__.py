"""The concurrent layer: independent tasks, each with its own mailbox and its own state."""
