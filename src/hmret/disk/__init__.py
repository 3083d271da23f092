"""The synchronous layer: what lies on the disk, how it is read and how it is removed."""
