"""Measurements that the README and docs quote, and the arithmetic behind its figures: python -m benchmarks.NAME."""
