"""The JSON documents of the API: encoding, decoding and schemas."""
