"""hypeman's files as they are, in both of its layouts."""
