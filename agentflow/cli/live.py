"""The live tree: the steps of open runs on a person's terminal, redrawn while they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from agentflow.cli.progress import cause, duration, ending, tries
from agentflow.cli.terminal import safe
from agentflow.core.diagram import source_told
from agentflow.core.outcome import COMPENSATION, HANDLER
from agentflow.core.plan import Branch, Call, Loop, Map, Node, Par
from agentflow.core.records import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    Fact,
    FallbackTaken,
    JoinClosed,
    LoopEnded,
    Record,
    StepAbandoned,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowResumed,
)
from agentflow.core.spending import ITEM, marks_of, nodes_above

MOST_RUNS = 8
MOST_ROWS = 40  # of one run; of more the last are shown
REDRAWS_PER_S = 8


@dataclass
class Row:
    """A line of the tree: what it is called, how it stands, and what is to be told of it."""

    label: str
    status: str = ""
    told: str = ""


@dataclass
class Picture:
    """What is shown of one run: its title, what is told of the whole run, and its rows by position."""

    title: str
    told: str = ""
    rows: dict[str, Row] = field(default_factory=dict)


class LiveTree:
    """Draws open runs; a run that has ended is left standing above its result."""

    def __init__(self, plan: Callable[[], Node], console: Console | None = None) -> None:
        self._plan = plan
        self._console = console or Console(stderr=True)
        self._pictures: dict[str, Picture] = {}
        self._live: Live | None = None

    def begin(self) -> None:
        """Start to draw; from here on what handlers and logs write goes above the tree."""
        if self._live is None:
            self._live = Live(get_renderable=self._draw, console=self._console, refresh_per_second=REDRAWS_PER_S, transient=True)
            self._live.start()

    def observe(self, record: Record) -> None:
        """Take a record into the picture of its run, which is begun with the first one seen: a resumed run began earlier."""
        fact = record.fact
        picture = self._pictures.get(record.run_id)
        if picture is None:
            if isinstance(fact, StepAbandoned):  # it may come after the end
                return
            picture = self._pictures[record.run_id] = Picture(record.run_id)
        match fact:
            case WorkflowCreated():
                picture.title = f"{record.run_id}  {fact.pattern}  {fact.target}".rstrip()
            case WorkflowPaused():
                picture.told = f"paused: {fact.reason}"
            case WorkflowResumed():
                picture.told = ""
            case WorkflowCancelled():
                picture.told = f"{ending('cancelled', fact.reason)} in {duration(fact.duration_s)}"
            case WorkflowCompleted() | WorkflowFailed():
                picture.told = f"{ending(fact.status, fact.reason)} in {duration(fact.duration_s)}"
            case ApprovalRequested():
                self._begin_row(picture, fact, "waiting", "waits for approval")
            case ApprovalGranted():
                self._set(picture, fact.position, "running", "approved" + (f" by {fact.by}" if fact.by else ""))
            case ApprovalRejected():
                self._set(picture, fact.position, "failed", "rejected" + (f" by {fact.by}" if fact.by else ""))
            case _:
                self._observe_step(picture, fact)

    def _observe_step(self, picture: Picture, fact: Fact) -> None:
        match fact:
            case StepStarted():
                row = picture.rows.get(fact.position)
                if row is None or row.status != "retrying":  # the next attempt is recorded before the wait for it
                    self._begin_row(picture, fact, "running")
            case StepRetried():
                self._set(picture, fact.position, "retrying", f"attempt {fact.attempt}: {cause(fact)}; again in {duration(fact.wait_s)}")
            case FallbackTaken():
                self._set(picture, fact.position, "running", f"{cause(fact)}; {fact.to} takes its place")
            case StepCompleted():
                self._set(picture, fact.position, "completed", duration(fact.duration_s) + tries(fact.attempts))
            case StepFailed():
                self._set(picture, fact.position, "failed", f"{duration(fact.duration_s)}{tries(fact.attempts)}  {cause(fact)}")
            case StepAbandoned():
                self._set(picture, fact.position, "failed", "left behind: it does not end although it was cancelled")
            case LoopEnded():
                self._set(picture, fact.position, "", f"{fact.reason} after {fact.iterations}")
            case JoinClosed():
                for position, row in picture.rows.items():
                    if row.status in _OPEN and _is_below(position, fact.position):
                        self._set(picture, position, "failed", f"its join was closed ({fact.reason})")
            case _:
                pass

    def settle(self, run_id: str) -> None:
        """Print the ended run as it stands, for good, and go on below with those that are still open."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        picture = self._pictures.pop(run_id, None)
        if picture is not None:
            self._console.print(_tree(picture))
        if run_id and self._pictures:
            self.begin()

    def _begin_row(self, picture: Picture, fact: StepStarted | ApprovalRequested, status: str, told: str = "") -> None:
        """Add a step's row, and those it stands under: flows, phases, rounds and items, as the plan names them."""
        node, at = None, ""
        above: dict[str, Row] = {}
        for at, node in nodes_above(self._plan(), fact.position):
            label = _title(node, at)
            if label and at != fact.position:
                above[at] = Row(label)
        if at != fact.position or (isinstance(node, Call) and node.agent == fact.agent):  # else the run walks another plan
            for place, row in above.items():
                picture.rows.setdefault(place, row)
        picture.rows[fact.position] = Row(fact.agent + _where(fact.position), status, told)

    def _set(self, picture: Picture, position: str, status: str, told: str) -> None:
        row = picture.rows.setdefault(position, Row(position))
        row.status, row.told = status or row.status, told

    def _draw(self) -> Group:
        pictures = list(self._pictures.values())
        trees = [_tree(picture) for picture in pictures[:MOST_RUNS]]
        more = len(pictures) - len(trees)
        return Group(*trees, *([Text(f"and {more} more runs", style="dim")] if more else []))


_OPEN = ("running", "retrying", "waiting")
_MARKS = {
    "completed": ("✓", "green"),
    "failed": ("✗", "red"),
    "running": ("…", "yellow"),
    "retrying": ("↻", "yellow"),
    "waiting": ("⏸", "yellow"),
    "": (" ", ""),
}


def _tree(picture: Picture) -> Tree:
    root = Tree(Text(safe("  ".join(filter(None, (picture.title, picture.told)))), style="bold"))
    branches = {"": root}
    rows = list(picture.rows.items())
    hidden = max(0, len(rows) - MOST_ROWS)
    if hidden:
        root.add(Text(f"{hidden} earlier steps", style="dim"))
    for position, row in rows[hidden:]:
        above = next((at for at in sorted(branches, key=len, reverse=True) if at and _is_below(position, at)), "")
        branches[position] = branches[above].add(_line(row))
    return root


def _line(row: Row) -> Text:
    mark, colour = _MARKS[row.status]
    line = Text(f"{mark} ", style=colour) if row.status else Text()
    line.append(safe(row.label), style="" if row.status else "dim")
    if row.told:
        line.append("  " + safe(row.told).replace("\n", " "), style="red" if row.status == "failed" else "dim")
    return line


def _title(node: Node, at: str) -> str:
    """Return what a node that holds steps is called, "" when it needs no row of its own."""
    if isinstance(node, Call) or at == "0":
        return ""
    mark, number = list(marks_of(at))[-1]
    title = f"{node.flow.name} ({node.flow.mode})" if node.flow is not None else ""
    if mark == ITEM:
        return f"item {number}" + (f": {title}" if title else "")
    if title or isinstance(node, Branch | Loop):
        return title
    if mark == "#":
        return f"round {number}"
    if isinstance(node, Map):
        return source_told(node)
    return "all at once" if isinstance(node, Par) else "one after another"


def _where(position: str) -> str:
    """Return what is told of a step beside its agent: the item it is for, or what it does after the main phase; "" for most."""
    if position.startswith(COMPENSATION):
        return f" (undoes {position[1:]})"
    if position.endswith("]"):
        return f" (item {position.rpartition('[')[2][:-1]})"
    return " (handles the failure)" if position == HANDLER else ""


def _is_below(position: str, at: str) -> bool:
    return position.startswith(at) and position[len(at) : len(at) + 1] in (".", "#", ITEM)
