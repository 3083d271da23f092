"""What is tracked from one sweep to the next: the disk, the brake, folders, looks, and failures."""
