"""The caches of Numba and Matplotlib, for a user without a writable home directory."""

import os
import tempfile
from pathlib import Path


def provide_caches() -> None:
    """Give Numba and Matplotlib a temporary folder if they have no writable one. Call it before importing librosa.

    Without one, librosa cannot even be imported ("no locator available"): as a service, as a user of a container, or
    where ``HOME`` is read-only.
    """
    if _writable(_usual_folder()):
        return
    # One per user: that of another user is not writable, and must not be trusted.
    folder = Path(tempfile.gettempdir()) / f"asd-cache-{os.geteuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise PermissionError
    except OSError:
        folder = Path(tempfile.mkdtemp(prefix="asd-cache-"))
    for name, below in (("NUMBA_CACHE_DIR", "numba"), ("MPLCONFIGDIR", "matplotlib")):
        os.environ.setdefault(name, str(folder / below))


def _usual_folder() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # The user has no entry in the user database.
        return None


def _writable(folder: Path | None) -> bool:
    """Whether files can be written there, or the folder can be made."""
    if folder is None:
        return False
    there = next(place for place in (folder, *folder.parents) if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
