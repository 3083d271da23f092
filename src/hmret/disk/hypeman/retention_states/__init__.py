"""The timers of images: reading, writing and removing hypeman's retention states."""
