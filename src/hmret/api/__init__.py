"""What the outside sees of the engine: its values as JSON documents, for every front end alike."""
