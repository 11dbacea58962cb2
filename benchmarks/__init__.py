"""Measurements that the README quotes, and the arithmetic behind its figures: python -m benchmarks.NAME."""
