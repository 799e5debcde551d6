"""Errors that the user can fix, whose message names the file or value and the remedy; and recordings that are bad."""


class AsdError(Exception):
    """An error that the user can fix. The command line shows it without a stack trace."""


class OutdatedDetectorError(AsdError):
    """A detector that an older version made, in a format that this one does not read."""


class BadRecording(Exception):
    """A recording that must not be used; the text says why and what was measured."""
