"""hmret's own records in `system/hmret/`: what must be known after a restart."""
