"""DuckDB and fsspec: reading text files, and serving snapshots as virtual Parquet files."""
