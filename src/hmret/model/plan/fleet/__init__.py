"""What a fleet keeps: the steps of a plan, and what they say of an image."""
