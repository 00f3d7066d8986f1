"""The engine: objects, refs, writing, reading, history and verification on a storage."""
