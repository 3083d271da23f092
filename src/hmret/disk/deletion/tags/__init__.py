"""The tags of an image that is deleted, in both layouts: found, set aside, put back or removed."""
