"""PianoAI: learn to continue piano music, and run the result in 128 MB."""

__version__ = "0.1.0"
