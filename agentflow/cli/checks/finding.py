"""Finding: what a check came to, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

from agentflow.core.values import Json

Level: TypeAlias = Literal["ok", "advice", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check came to.

    Attributes:
        check: what was looked at, in a word.
        level: `ok`; `advice`: it works, and somebody should look; `problem`: something does not work.
        message: what there is, in a sentence.
        help: what to do, "" for nothing.
        run_ids: the runs that it is about.
    """

    check: str
    level: Level
    message: str
    help: str = ""
    run_ids: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Json]:
        """Return the finding as JSON."""
        return {**asdict(self), "run_ids": [*self.run_ids]}
