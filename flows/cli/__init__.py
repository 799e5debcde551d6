"""The command line: every command is one call that a notebook could make."""
