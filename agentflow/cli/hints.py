"""Hints: the command that comes next, with the options that lead to the same journal."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from agentflow.cli.tables import moment
from agentflow.core.run_view import RunView


@dataclass(frozen=True)
class Hint:
    """Writes commands for whoever gave these options."""

    config: Path | None = None
    journal: Path | None = None

    def command(self, words: str) -> str:
        """Return `agentflow WORDS` with the options."""
        options = (("--config", self.config), ("--journal", self.journal))
        return " ".join(["agentflow", words, *(f"{name} {shlex.quote(str(path))}" for name, path in options if path is not None)])

    def told(self, view: RunView) -> str:
        """Say why a run does not go on, and what to do."""
        run_id = view.row.run_id
        if view.row.state == "pending":
            return f"{run_id} waits for a paused run of its session; then: {self.command(f'resume {run_id}')}"
        if not view.approvals:
            told = f": {view.row.reason}" if view.row.reason else ""
            return f"{run_id} is paused{told}; to go on: {self.command(f'resume {run_id}')}"
        lines = []
        for one in view.approvals:
            until = "" if one.deadline_at is None else f" until {moment(one.deadline_at)}"
            lines.append(f"{run_id} waits for approval of {one.agent} at {one.position}{until}")
            lines.append(f"    to let it run: {self.command(f'runs approve {run_id} {one.position} --continue')}")
            lines.append(f"    to refuse it:  {self.command(f'runs reject {run_id} {one.position} --continue')}")
        return "\n".join(lines)
