"""What is remembered from one sweep to the next."""
