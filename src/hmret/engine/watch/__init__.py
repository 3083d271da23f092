"""What is watched from one sweep to the next: the disk, the brake, folders, looks, and what failed."""
