"""Where retired folders stand, by which intents, and how their bytes are freed."""
