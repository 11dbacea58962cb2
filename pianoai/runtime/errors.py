"""The one exception for input that a person can mend."""


class InputError(ValueError):
    """Bad input: its message is one line that names the file, key or field and says what to do."""
