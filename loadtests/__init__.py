"""Benchmarks: ratios against a baseline in the same run, both sides printed. `make bench`."""
