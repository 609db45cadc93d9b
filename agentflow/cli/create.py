"""`agentflow create`: a new project that runs at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import tomli

from agentflow import app
from agentflow.cli import terminal
from agentflow.cli.scaffold import Blueprint
from agentflow.cli.usage import CreateError
from agentflow.config.display import quoted
from agentflow.config.source import reason_of
from agentflow.core.diagram import mermaid

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_AGENT = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TESTABLE = re.compile(r"[A-Za-z0-9]")

SIDE_BY_SIDE = ("analyzer", "validator", "enricher")
IN_TURN = ("collector", "transformer", "publisher")
AFTERWARDS = ("synthesizer", "formatter", "publisher")
AGAIN = "improver"
ROUTED = ("analyzer", "writer")


@dataclass(frozen=True)
class Wanted:
    """What the flags of `create` say; lists are names parted by commas, None where a flag is not given."""

    name: str
    mode: str | None = None
    collaborative: str | None = None
    sequential: str | None = None
    loop_agent: str | None = None

    def blueprint(self) -> Blueprint:
        """Return the project, with agents of usual names where none are given.

        Raises:
            CreateError: a name cannot be used.
        """
        if not _NAME.fullmatch(self.name):
            raise CreateError(f"a project cannot be named {self.name!r}", hint="use a letter, then letters, digits, - and _")
        side, turn = _names("--collaborative-agents", self.collaborative), _names("--sequential-agents", self.sequential)
        loop = next(iter(_names("--loop-agent", self.loop_agent)), "")
        mode = "collaborative" if self.mode == "collaborate" else self.mode or _mode_of(side, turn, loop)
        plan = Blueprint(self.name, mode, side, turn, loop)
        if mode == "collaborative" and not side:
            return replace(plan, collaborative=SIDE_BY_SIDE)
        if mode == "sequential" and not turn:
            return replace(plan, sequential=IN_TURN)
        if mode == "mixed" and not side and not turn:
            return replace(plan, collaborative=SIDE_BY_SIDE, sequential=AFTERWARDS)
        if mode == "loop" and not loop:
            return replace(plan, loop_agent=AGAIN)
        return replace(plan, routed=ROUTED) if mode == "route" and not plan.agents else plan


def create(blueprint: Blueprint, diagrams: Path | None, *, has_diagram: bool) -> None:
    """Write the project into a new folder of its name, and with `has_diagram` its diagram too.

    Raises:
        CreateError: the folder is not empty or cannot be written, or the flags make no plan.
    """
    folder = Path(blueprint.name)
    files = {folder / name: text for name, text in blueprint.files().items()}
    if has_diagram or diagrams is not None:
        files[(diagrams or folder / "diagrams") / f"{blueprint.name}.mmd"] = _diagram(blueprint)
    else:
        _diagram(blueprint)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CreateError(f"{folder} is there already and not empty", hint="choose another name, or empty it")
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o644)  # handlers that others may write are refused or warned of
            file.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        place = quoted(getattr(error, "filename", None) or diagrams or folder)
        raise CreateError(f"{place} cannot be written: {reason_of(error)}", hint="choose a place you may write") from None
    for file in files:
        terminal.out(str(file))
    terminal.note(f"try it: agentflow run {folder}")


def _diagram(blueprint: Blueprint) -> str:
    """Return the diagram; what the flags come to is checked on the way.

    Raises:
        CreateError: the flags do not make a plan.
    """
    table = tomli.loads(blueprint.config())
    plan, found = app.load(table, environ={}).check()
    errors = [f"{one.message} ({one.help})" if one.help else one.message for one in found if one.severity == "error"]
    if errors or plan is None:
        raise CreateError("these flags make no plan: " + "; ".join(errors))
    return mermaid(plan)


def _names(flag: str, listed: str | None) -> tuple[str, ...]:
    if listed is None:
        return ()
    names = tuple(name.strip() for name in listed.split(","))
    for name in names:
        if not _AGENT.fullmatch(name) or not _TESTABLE.search(name):
            raise CreateError(
                f"{flag}: an agent cannot be named {name!r}", hint="use letters, digits, _ . and -, with commas between names"
            )
    return names


def _mode_of(side: tuple[str, ...], turn: tuple[str, ...], loop: str) -> str:
    """Return the mode that fits the lists that are given."""
    if side:
        return "mixed" if turn else "collaborative"
    return "loop" if loop and not turn else "sequential"
