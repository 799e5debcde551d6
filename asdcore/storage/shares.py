"""Network shares, on which SQLite and file locks cannot be relied on."""

import re
from pathlib import Path

SHARES = frozenset({"cifs", "smb3", "smbfs", "nfs", "nfs4", "9p", "afs", "ceph", "glusterfs", "lustre"})
"""types of file systems in Linux's table of mounts; those in user space, ``fuse.*``, count as well"""
LOCAL_IN_USER_SPACE = frozenset({"fuse.fuseblk", "fuse.ntfs-3g", "fuse.overlayfs", "fuse.fuse-overlayfs", "fuse.lxcfs"})
MOUNTS = Path("/proc/self/mounts")


def share_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the network share that a folder is on, such as ``cifs``; None: it is on none, or that is not known.

    Only known on Linux.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    place, found = folder.resolve(), ""
    longest = -1
    for _, point, kind, *_ in (line.split(" ") for line in lines if line.count(" ") >= 3):
        at = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), point))
        # The last of several mounts at the same place hides the others.
        if place.is_relative_to(at) and len(at.parts) >= longest:
            longest, found = len(at.parts), kind
    shared = found in SHARES or (found.startswith("fuse.") and found not in LOCAL_IN_USER_SPACE)
    return found if shared else None
