"""The exception for errors that the user can fix: its message names the file or value, and the remedy."""


class AsdError(Exception):
    """An error that the user can fix. The command line shows it without a stack trace."""


class OutdatedDetectorError(AsdError):
    """A detector that an older version made, in a format that this one does not read."""
