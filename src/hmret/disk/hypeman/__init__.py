"""Reading and writing hypeman's files, in both of its layouts."""
