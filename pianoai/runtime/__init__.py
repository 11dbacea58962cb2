"""Everything that also runs on Lambda: NumPy, never torch."""
