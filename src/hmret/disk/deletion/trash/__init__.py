"""Where retired folders are kept, by which intents, and how their bytes are freed."""
