"""The format of fsvc: pure functions between bytes and values, without I/O, clock or environment."""
