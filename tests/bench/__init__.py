"""Benchmarks of the control plane: `make bench`, or `python -m tests.bench`."""
