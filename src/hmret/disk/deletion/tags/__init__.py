"""The tags of an image that goes, in both layouts: found, set aside, put back or removed."""
