"""The same changes in other stores: ``python -m benchmarks.peers``, or ``make bench-peers``."""
