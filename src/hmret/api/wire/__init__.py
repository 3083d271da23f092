"""The JSON documents that go over the wire: written, read back, and described."""
