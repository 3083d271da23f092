"""What is kept of a tree of folders from one scan to the next."""
