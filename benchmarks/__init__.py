"""The library beside its peers, measured: `python -m benchmarks`."""
