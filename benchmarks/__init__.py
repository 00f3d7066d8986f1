"""Benchmarks: what fsvc costs in time, bytes and memory, as ratios to plain Parquet measured beside it."""
