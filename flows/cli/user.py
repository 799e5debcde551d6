"""Who is at the terminal."""

import getpass


def user_name() -> str:
    """The name of the user; a label and a promotion carry it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # No name for this user id, as in some containers.
        return "an unnamed user"
