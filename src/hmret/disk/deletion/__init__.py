"""Moving images out of the cache, putting them back, and erasing them."""
