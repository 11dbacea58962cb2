"""What is said of a model in numbers."""
