"""The one exception that a person can mend: its text names the file or value, and the remedy."""


class AsdError(Exception):
    """Something a user can put right. Shown without a stack trace by the command line."""
