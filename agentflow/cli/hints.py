"""Hints: the command that comes next, with the options that lead to the same journal."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from agentflow.cli.tables import blocker_told, moment
from agentflow.core.run_row import RunRow
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

    def told(self, view: RunView, ahead: RunRow | None) -> str:
        """Say why a run does not go on, and what to do; `ahead` is the one that has its session."""
        run_id = view.row.run_id
        if ahead is not None:
            return self._behind(view.row, ahead)
        if not view.approvals:
            told = f": {view.row.reason}" if view.row.reason else ""
            return f"{run_id} is paused{told}; to go on: {self.command(f'resume {run_id}')}"
        lines = []
        for one in view.approvals:
            until = "" if one.deadline_at is None else f" until {moment(one.deadline_at)}"
            lines.append(f"{run_id} waits for approval of {one.agent} at {one.position}{until}")
            lines.append(f"    to let it run: {self.command(f'runs approve {run_id} {shlex.quote(one.position)} --continue')}")
            lines.append(f"    to refuse it:  {self.command(f'runs reject {run_id} {shlex.quote(one.position)} --continue')}")
        return "\n".join(lines)

    def _behind(self, row: RunRow, ahead: RunRow) -> str:
        first, following = ahead.run_id, self.command("resume")
        if ahead.waiting:
            go_on = f"to let {first} run: {self.command(f'runs approve {first} --continue')}; then: {following}"
        elif ahead.state == "paused":
            go_on = f"to go on with {first}: {self.command(f'resume {first}')}; then: {following}"
        else:
            go_on = f"to go on with both: {following}"
        give_up = f"to end {first}: {self.command(f'runs cancel {first}')}; then: {following}"
        return f"{row.run_id} waits behind {blocker_told(ahead)} of session {row.session_id}\n    {go_on}\n    {give_up}"
