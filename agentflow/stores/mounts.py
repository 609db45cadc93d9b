"""Mounts: which filesystem a path is on. SQLite's log needs locks and shared memory that network filesystems do not give."""

from __future__ import annotations

from pathlib import Path

_TABLE = Path("/proc/self/mounts")  # also there where a service sees of /proc only its own processes
_NETWORK = {"afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gfs2", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb3", "smbfs"}
_NETWORK |= {"fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"}


def network_filesystem(path: Path, table: Path = _TABLE) -> str:
    """Return the name of the network filesystem that holds `path`, "" when it is local or the system does not tell."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place, found = path.resolve(), ("", "")
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 2:
            mount = fields[1].replace("\\040", " ")
            if len(mount) >= len(found[0]) and place.is_relative_to(mount):
                found = mount, fields[2]
    return found[1] if found[1] in _NETWORK else ""
