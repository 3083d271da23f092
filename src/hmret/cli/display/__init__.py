"""What people see: tables, words, lists and progress."""
