"""What is remembered of a tree of folders from one scan to the next."""
