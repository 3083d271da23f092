"""What the kernel offers: its calls, its clocks, its locks, and what it refuses."""
