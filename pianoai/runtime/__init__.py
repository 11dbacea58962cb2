"""Everything that also runs on Lambda: NumPy and mido, never torch."""
