"""JournalChoice: which journal a configuration comes to, once defaults and folders are filled in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agentflow.config.model import JournalConfig

IN_MEMORY = "memory:"
BESIDE_THE_FILE = "sqlite:.agentflow/journal.db"


@dataclass(frozen=True, slots=True)
class JournalChoice:
    """Where runs are recorded, how safely, and for how long.

    Attributes:
        path: the journal's file, absolute; None: it is in memory.
        durability: "full", "relaxed" or "none"; "none" where it is in memory, and nowhere else.
        snapshot_every: how many records of a run lie between two snapshots.
        retention_days: how many days a run that has ended is kept.
    """

    path: Path | None
    durability: str
    snapshot_every: int
    retention_days: int

    @property
    def url(self) -> str:
        """`memory:`, or `sqlite:` and the path."""
        return IN_MEMORY if self.path is None else f"sqlite:{self.path}"


def journal_of(config: JournalConfig, default: str, folder: Callable[[], Path], project_folder: Path) -> JournalChoice:
    """Return the journal of a configuration.

    A url that is given holds. Without one, a durability decides: "none" is kept in memory, "full" and "relaxed" ask for a
    file. Without either it is the default.

    Args:
        config: the section [journal].
        default: the url where neither url nor durability is given.
        folder: finds where a relative path of the given url starts.
        project_folder: where the relative path of a url that is not given starts.
    """
    url, start = config.url, project_folder
    if url is not None:
        start = folder()
    elif config.durability is None:
        url = default
    else:
        url = IN_MEMORY if config.durability == "none" else BESIDE_THE_FILE
    if url == IN_MEMORY:
        return JournalChoice(None, "none", config.snapshot_every, config.retention_days)
    path = start / url.partition(":")[2]
    with suppress(OSError):  # the current folder may be gone
        path = path.absolute()
    return JournalChoice(path, config.durability or "full", config.snapshot_every, config.retention_days)
