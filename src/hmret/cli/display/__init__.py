"""Output for people: tables, words, lists and progress."""
