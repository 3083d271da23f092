"""The synchronous layer: the files on the disk, how they are read and how they are removed."""
