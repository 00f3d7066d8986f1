"""Bytes at keys: the storage contract and its implementations. Knows nothing of the format."""
