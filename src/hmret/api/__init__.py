"""The engine's external interface: its values as JSON documents, the same for every front end."""
