"""Progress: lines and the live tree, from the records of a run."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agentflow.cli.live import MOST_ROWS, LiveTree
from agentflow.cli.progress import Lines, Silence, duration, ending, line_of, progress
from agentflow.cli.trees import lines_of
from agentflow.core.failure import Failure
from agentflow.core.plan import Branch, Call, Flow, Loop, Node, Par, Retry, Seq, Unread
from agentflow.core.records import (
    BranchTaken,
    Fact,
    LoopEnded,
    Record,
    StepAbandoned,
    StepCompleted,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCreated,
    WorkflowEnded,
)

FAILURE = Failure("no\x1b[31m way", type="ValueError")
PLAN = Seq(
    (
        Call("first"),
        Par((Call("left"), Call("right")), flow=None),
        Loop(Seq((Call("again"),)), 9, flow=Flow("refine", "loop", 5.0)),
        Branch((Call("small"), Call("large")), (Unread("event.data.n < 1"),)),
    ),
    Flow("main", "sequential", None),
)


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        (WorkflowCreated("e", "t", "loop", None), "started in mode loop, target t"),
        (WorkflowCreated("e", "", "loop", None), "started in mode loop"),
        (StepStarted("0.1", "a"), "0.1  a  started"),
        (StepRetried("0.1", "a", 2, 1.5, FAILURE), "0.1  a  attempt 2 failed, again in 1.50 s: ValueError: no\x1b[31m way"),
        (StepCompleted("0.1", "a", 1, 0.0123, ("k",)), "0.1  a  completed in 12.3 ms"),
        (StepCompleted("0.1", "a", 3, 61.0, ("k",)), "0.1  a  completed in 1 min 1 s (3 attempts)"),
        (StepFailed("0.1", "a", 1, 0.5, Failure("", type="Boom")), "0.1  a  failed after 500.0 ms: Boom"),
        (StepAbandoned("0.1", "a"), "0.1  a  left behind: it does not end although it was cancelled"),
        (LoopEnded("0", "max_iterations", 1, {}), "0  loop ended after 1 round: max_iterations"),
        (WorkflowEnded("completed", "condition_met", 0.5), "completed (condition_met) in 500.0 ms"),
        (WorkflowEnded("completed", "completed", 0.5), "completed in 500.0 ms"),
        (BranchTaken("0", 1, "x"), ""),
    ],
)
def test_each_record_of_interest_is_a_line(fact: Fact, told: str) -> None:
    """Starts, ends and retries of steps, and the ends of loops and runs, are told in words with their durations."""
    assert line_of(Record("run-1", 0.0, fact)) == told


def test_lines_name_their_run_and_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line begins with the run, is one line, and holds nothing that steers a terminal; what is of no interest is none."""
    lines = Lines()
    lines.begin()
    lines.observe(Record("run-1", 0.0, StepFailed("0", "a", 1, 0.0, Failure("x\x1b[0m\ny", type="E"))))
    lines.observe(Record("run-1", 0.0, BranchTaken("0", 0, "x")))
    lines.settle("run-1")
    assert capsys.readouterr().err == "run-1  0  a  failed after 0.0 ms: E: x\\x1b[0m y\n"


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Quiet progress writes nothing, and off a terminal progress is lines."""
    silence = progress(lambda: PLAN, is_quiet=True)
    silence.begin()
    silence.observe(Record("run-1", 0.0, StepStarted("0", "a")))
    silence.settle("run-1")
    assert isinstance(silence, Silence)
    assert capsys.readouterr().err == ""
    assert isinstance(progress(lambda: PLAN, is_quiet=False), Lines)


@pytest.mark.parametrize(("seconds", "told"), [(None, "0 s"), (0.0004, "0.4 ms"), (1.0, "1.00 s"), (125.0, "2 min 5 s")])
def test_durations_read_well(seconds: float | None, told: str) -> None:
    """Milliseconds below a second, minutes above sixty."""
    assert duration(seconds) == told


def test_reason_is_told_where_it_says_more() -> None:
    """A reason that repeats the status is left out."""
    assert (ending("failed", "error"), ending("partial", "partial")) == ("failed (error)", "partial")


def drawn(plan: Node, *facts: Fact) -> str:
    """Return what a live tree leaves on a terminal of these records."""
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    tree = LiveTree(lambda: plan, console)
    tree.begin()
    for fact in facts:
        tree.observe(Record("run-1", 0.0, fact))
    tree.settle("run-1")
    return console.file.getvalue().rpartition("\x1b[2K")[2]  # type: ignore[attr-defined]


def test_tree_stands_as_the_plan_names_it() -> None:
    """Steps stand below their flows, phases and rounds, each with its mark, duration and attempts."""
    text = drawn(
        PLAN,
        WorkflowCreated("e", "t", "sequential", None),
        StepStarted("0.0", "first"),
        StepCompleted("0.0", "first", 1, 0.001, ()),
        StepStarted("0.1.0", "left"),
        StepStarted("0.1.1", "right"),
        StepFailed("0.1.0", "left", 2, 0.002, FAILURE),
        StepAbandoned("0.1.1", "right"),
        StepStarted("0.2#1.0", "again"),
        StepRetried("0.2#1.0", "again", 1, 0.5, FAILURE),
        LoopEnded("0.2", "condition_met", 1, {}),
        WorkflowEnded("completed", "completed", 0.5),
    )
    assert [line.rstrip() for line in text.splitlines()] == [
        "run-1  sequential  t  completed in 500.0 ms",
        "├── ✓ first  1.0 ms",
        "├── all at once",
        "│   ├── ✗ left  2.0 ms (2 attempts)  ValueError: no\\x1b[31m way",
        "│   └── ✗ right  left behind: it does not end although it was cancelled",
        "└── refine (loop)  condition_met after 1",
        "    └── round 1",
        "        └── ↻ again  attempt 1: ValueError: no\\x1b[31m way; again in 500.0 ms",
    ]


def test_tree_of_a_long_run_shows_its_last_steps() -> None:
    """Of a run with many steps the last ones are shown, and how many came before."""
    steps = [StepStarted(f"0#{number}", "again") for number in range(1, MOST_ROWS + 11)]
    text = drawn(Loop(Call("again"), 100), WorkflowCreated("e", "", "loop", None), *steps)
    assert "10 earlier steps" in text
    assert text.count("again") == MOST_ROWS


def test_tree_of_a_flow_that_is_not_the_plan() -> None:
    """A run through another flow than the main one is drawn without the names that the plan lacks."""
    text = drawn(Seq((Call("a"),)), WorkflowCreated("e", "", "loop", None), StepStarted("0.7.1", "elsewhere"))
    assert "… elsewhere" in text


def test_tree_ignores_runs_it_has_not_seen_begin() -> None:
    """Records of a run whose beginning was missed draw nothing."""
    assert "lost" not in drawn(PLAN, StepStarted("0.0", "lost"))


def test_open_runs_go_on_below_a_settled_one() -> None:
    """When one of several runs has ended the others are drawn further; of many only the first few."""
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=50, color_system=None)
    tree = LiveTree(lambda: PLAN, console)
    tree.begin()
    for number in range(12):
        tree.observe(Record(f"run-{number}", 0.0, WorkflowCreated("e", "", "loop", None)))
    tree.settle("run-0")
    tree.settle("")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "run-0  loop" in text
    assert "and 4 more runs" in text or "and 3 more runs" in text


def test_plan_as_lines_tells_everything_that_bounds_it() -> None:
    """The printed plan names time limits, retries, rounds, conditions and merge policies."""
    plan = Seq((PLAN, Call("last", 7, Retry(max_retries=2)), Loop(Call("x"), 3, until=Unread("state.ok"))), Flow("all", "mixed", 60.0))
    assert lines_of(plan) == [
        "all [mixed]: one after another, within 60 s",
        "  main [sequential]: one after another",
        "    first (at most 300 s)",
        "    all at once, 10 at a time; fails above 0.5; merge ordered",
        "      left (at most 300 s)",
        "      right (at most 300 s)",
        "    refine [loop]: repeat, at most 9 rounds, within 5 s",
        "      one after another",
        "        again (at most 300 s)",
        "    the first that applies",
        "      if event.data.n < 1: small (at most 300 s)",
        "      else: large (at most 300 s)",
        "  last (at most 7 s, 2 retries)",
        "  repeat, at most 3 rounds, until state.ok",
        "    x (at most 300 s)",
    ]


def test_plan_as_lines_ends_somewhere() -> None:
    """A plan of very many steps is printed in part."""
    lines = lines_of(Seq(tuple(Call(f"a{number}") for number in range(5000))))
    assert (len(lines), lines[-1]) == (2001, "...")
