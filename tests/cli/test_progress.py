"""Progress: lines and the live tree, from the records of a run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentflow.cli.live import MOST_ROWS, LiveTree
from agentflow.cli.progress import Lines, Silence, choice_of, duration, ending, line_of, progress
from agentflow.cli.trees import lines_of
from agentflow.core.aggregate import Aggregate
from agentflow.core.failure import Failure
from agentflow.core.ledger import Budget
from agentflow.core.plan import (
    AGENDA,
    DELEGATION,
    MAILBOX,
    OVER,
    REVISION,
    TASKS,
    WAVES,
    Agenda,
    Branch,
    Call,
    Edge,
    ErrorRoutes,
    Flow,
    Loop,
    Map,
    Node,
    Par,
    Part,
    Policy,
    Retry,
    Seq,
    Unread,
)
from agentflow.core.records import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    BranchTaken,
    EffectRecorded,
    Fact,
    JoinClosed,
    LoopEnded,
    MapBegun,
    PlanCreated,
    PlanRevised,
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
    WorkflowRecovering,
    WorkflowResumed,
)
from agentflow.core.state import Patch
from agentflow.logs import StructuredLog

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
        (WorkflowCreated({"target": "t"}, "loop"), "started in mode loop, target t"),
        (WorkflowCreated({}, "loop"), "started in mode loop"),
        (StepStarted("0.1", "a"), "0.1  a  started"),
        (StepRetried("0.1", "a", 2, 1.5, FAILURE), "0.1  a  attempt 2 failed, again in 1.50 s: ValueError: no\x1b[31m way"),
        (StepCompleted("0.1", "a", 1, 0.0123, Patch({"k": 1})), "0.1  a  completed in 12.3 ms"),
        (StepCompleted("0.1", "a", 3, 61.0, Patch({"k": 1})), "0.1  a  completed in 1 min 1 s (3 attempts)"),
        (StepFailed("0.1", "a", 1, 0.5, Failure("", type="Boom")), "0.1  a  failed after 500.0 ms: Boom"),
        (StepAbandoned("0.1", "a"), "0.1  a  left behind: it does not end although it was cancelled"),
        (LoopEnded("0", "max_iterations", 1, {}), "0  loop ended after 1 round: max_iterations"),
        (JoinClosed("0", ("0.1",), "deadline"), "0  join closed with 1 branch: deadline"),
        (JoinClosed("0", (), "fail_fast"), "0  join closed with 0 branches: fail_fast"),
        (WorkflowCompleted("completed", "condition_met", 0.5), "completed (condition_met) in 500.0 ms"),
        (WorkflowCompleted("completed", "completed", 0.5), "completed in 500.0 ms"),
        (WorkflowFailed("timed_out", "timeout", None), "timed_out (timeout) in 0 s"),
        (WorkflowCancelled("stopped", 0.5), "cancelled (stopped) in 500.0 ms"),
        (StepStarted("0.1", "a", 2), "0.1  a  started, attempt 2"),
        (ApprovalRequested("0.1", "a", "d"), "0.1  a  waits for approval"),
        (ApprovalGranted("0.1"), "0.1  approved"),
        (ApprovalGranted("0.1", "ann"), "0.1  approved by ann"),
        (ApprovalRejected("0.1"), "0.1  rejected"),
        (ApprovalRejected("0.1", "ann", "no"), "0.1  rejected by ann: no"),
        (WorkflowPaused("review"), "paused: review"),
        (WorkflowPaused("approval", ("0.1", "0.2")), "paused: approval, waiting at 0.1, 0.2"),
        (WorkflowResumed(), "resumed"),
        (WorkflowResumed("ann"), "resumed by ann"),
        (WorkflowRecovering(2, "me"), "taken over"),
        (WorkflowRecovering(2, "me", ("0.1",)), "taken over, again at 0.1"),
        (PlanCreated("0.1", [{"id": "x"}, {"id": "y"}]), "0.1  plan: x, y"),
        (PlanCreated("0.1", []), "0.1  plan: nothing to do"),
        (PlanRevised("0.1", ["y"], [{"id": "z"}]), "0.1  plan revised: z in the place of y"),
        (PlanRevised("0.1", [], []), "0.1  plan revised: nothing more"),
        (BranchTaken("0", 1, "x"), ""),
    ],
)
def test_each_record_of_interest_is_a_line(fact: Fact, told: str) -> None:
    """Starts, ends and retries of steps, and the ends of loops and runs, are told in words with their durations."""
    assert line_of(Record("run-1", 0.0, fact)) == told


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        (BranchTaken("0#1", 2, "x"), "0#1  takes case 2: x"),
        (BranchTaken("0", 2, ""), "0  takes case 2"),
        (MapBegun("0#1", ("x", "y")), "0#1  begins with x, y"),
        (StepStarted("0", "a"), ""),
    ],
)
def test_choices_are_told_afterwards(fact: Fact, told: str) -> None:
    """What was chosen is no line while it runs, since the next step tells it; the list of a run's records has it in words."""
    assert choice_of(fact) == told


def test_lines_name_their_run_and_are_safe(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line begins with the run, is one line, and holds nothing that steers a terminal; what is of no interest is none."""
    lines = Lines()
    lines.begin()
    lines.observe(Record("run-1", 0.0, StepFailed("0", "a", 1, 0.0, Failure("x\x1b[0m\ny", type="E"))))
    lines.observe(Record("run-1", 0.0, BranchTaken("0", 0, "x")))
    lines.settle("run-1")
    assert capsys.readouterr().err == "run-1  0  a  failed after 0.0 ms: E: x\\x1b[0m y\n"


def test_next_attempt_is_told_with_the_failure_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """The start that is recorded with a retry, before the wait, is no line; one without, as after a takeover, is."""
    lines = Lines()
    retried = StepRetried("0.1", "a", 1, 1.5, FAILURE)
    for fact in (StepStarted("0.1", "a"), retried, StepStarted("0.2", "b"), StepStarted("0.1", "a", 2), StepStarted("0.1", "a", 3)):
        lines.observe(Record("run-1", 0.0, fact))
    told = [line.split("  ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        "0.1  a  started",
        "0.1  a  attempt 1 failed, again in 1.50 s: ValueError: no\\x1b[31m way",
        "0.2  b  started",
        "0.1  a  started, attempt 3",
    ]


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
        WorkflowCreated({"target": "t"}, "sequential"),
        StepStarted("0.0", "first"),
        StepCompleted("0.0", "first", 1, 0.001, Patch({})),
        StepStarted("0.1.0", "left"),
        StepStarted("0.1.1", "right"),
        StepFailed("0.1.0", "left", 2, 0.002, FAILURE),
        StepAbandoned("0.1.1", "right"),
        StepStarted("0.2#1.0", "again"),
        StepRetried("0.2#1.0", "again", 1, 0.5, FAILURE),
        LoopEnded("0.2", "condition_met", 1, {}),
        WorkflowCompleted("completed", "completed", 0.5),
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


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        (WorkflowCompleted("partial", "partial", 0.5), "run-1  loop  partial in 500.0 ms"),
        (WorkflowFailed("failed", "error", 0.5), "run-1  loop  failed (error) in 500.0 ms"),
        (WorkflowCancelled("stopped", 0.5), "run-1  loop  cancelled (stopped) in 500.0 ms"),
    ],
)
def test_tree_tells_how_a_run_ended(fact: Fact, told: str) -> None:
    """The title of an ended run says how it ended, and in what time."""
    assert drawn(PLAN, WorkflowCreated({}, "loop"), fact).strip() == told


def test_tree_shows_the_wait_before_an_attempt() -> None:
    """The next attempt's start is recorded before the wait for it: the row tells of the wait."""
    told = (StepStarted("0.0", "first"), StepRetried("0.0", "first", 1, 0.5, FAILURE), StepStarted("0.0", "first", 2))
    assert "↻ first  attempt 1" in drawn(PLAN, WorkflowCreated({}, "loop"), *told)


def test_tree_shows_who_is_called_when_a_run_has_failed() -> None:
    """The error handler and compensators stand below the steps, and say what they do."""
    steps = (
        StepStarted("0.0", "first"),
        StepStarted("!", "triage"),
        StepStarted("~0.0", "undo"),
        StepCompleted("~0.0", "undo", 1, 0.5, Patch({})),
    )
    assert [line.rstrip() for line in drawn(PLAN, WorkflowCreated({}, "loop"), *steps).splitlines()][1:] == [
        "├── … first",
        "├── … triage (handles the failure)",
        "└── ✓ undo (undoes 0.0)  500.0 ms",
    ]


def test_tree_shows_which_steps_a_closed_join_went_on_without() -> None:
    """Those below it that were open; what had ended stays as it was."""
    told = (StepStarted("0.1.0", "left"), StepStarted("0.1.1", "right"), StepCompleted("0.1.0", "left", 1, 0.5, Patch({})))
    text = drawn(PLAN, WorkflowCreated({}, "loop"), StepStarted("0.0", "first"), *told, JoinClosed("0.1", ("0.1.0",), "deadline"))
    assert [line.rstrip() for line in text.splitlines()][1:] == [
        "├── … first",
        "└── all at once",
        "    ├── ✓ left  500.0 ms",
        "    └── ✗ right  its join was closed (deadline)",
    ]


def test_tree_shows_items_below_their_map() -> None:
    """Those of one step each on a line of their own, those of more as a part; whatever flow an item takes stands there too."""
    inner = Seq((Call("x"), Call("y")), Flow("inner", "sequential"))
    body = Branch((Call("a"), inner), routes={"a": 0, "inner": 1})
    plan = Seq((Map(Call("reader"), OVER, "files"), Map(body, TASKS), Map(Seq((Call("p"), Call("q"))), TASKS), Map(inner, TASKS)))
    told = (
        StepStarted("0.0[0]", "reader"),
        StepCompleted("0.0[0]", "reader", 1, 0.5, Patch({})),
        StepStarted("0.0[1]", "reader"),
        StepStarted("0.1[0].0", "a"),
        StepStarted("0.1[1].1.0", "x"),
        StepStarted("0.2[12].1", "q"),
        StepStarted("0.3[3].1", "y"),
        JoinClosed("0.1", (), "deadline"),
    )
    assert [line.rstrip() for line in drawn(plan, WorkflowCreated({}, "any"), *told).splitlines()][1:] == [
        "├── each of state.files",
        "│   ├── ✓ reader (item 0)  500.0 ms",
        "│   └── … reader (item 1)",
        "├── each task",
        "│   ├── item 0",
        "│   │   └── ✗ a  its join was closed (deadline)",
        "│   └── item 1",
        "│       └── inner (sequential)",
        "│           └── ✗ x  its join was closed (deadline)",
        "├── each task",
        "│   └── item 12",
        "│       └── … q",
        "└── each task",
        "    └── item 3: inner (sequential)",
        "        └── … y",
    ]


def test_tree_of_a_long_run_shows_its_last_steps() -> None:
    """Of a run with many steps the last ones are shown, and how many came before."""
    steps = [StepStarted(f"0#{number}", "again") for number in range(1, MOST_ROWS + 11)]
    text = drawn(Loop(Call("again"), 100), WorkflowCreated({}, "loop"), *steps)
    assert "10 earlier steps" in text
    assert text.count("again") == MOST_ROWS


def test_tree_of_a_flow_that_is_not_the_plan() -> None:
    """A run through another flow than the main one is drawn without the names that the plan lacks."""
    text = drawn(Seq((Call("a"),)), WorkflowCreated({}, "loop"), StepStarted("0.7.1", "elsewhere"))
    assert "… elsewhere" in text


def test_tree_of_a_run_that_began_earlier() -> None:
    """A resumed run is drawn from the first record that is seen; what comes after an end, of a handler left behind, draws nothing."""
    text = drawn(PLAN, WorkflowRecovering(2, "me"), StepStarted("0.1.0", "left"), WorkflowCompleted("completed", "completed", 0.5))
    assert [line.rstrip() for line in text.splitlines()] == [
        "run-1  completed in 500.0 ms",
        "└── all at once",
        "    └── … left",
    ]
    assert "run-1" not in drawn(PLAN, StepAbandoned("0.0", "first"))


def test_tree_of_a_run_that_walks_another_plan() -> None:
    """Names of the present plan are not put over the steps of a run that goes on under its own."""
    text = drawn(PLAN, StepStarted("0.1.0", "other"))
    assert "… other" in text
    assert "all at once" not in text


def test_tree_shows_who_waits_for_approval() -> None:
    """A step that waits for a person has a mark of its own, until it is answered; a pause stands in the title until it is lifted."""
    asked = (WorkflowCreated({}, "loop"), ApprovalRequested("0.1.0", "left", "d"), WorkflowPaused("approval", ("0.1.0",)))
    assert [line.rstrip() for line in drawn(PLAN, *asked).splitlines()] == [
        "run-1  loop  paused: approval",
        "└── all at once",
        "    └── ⏸ left  waits for approval",
    ]
    text = drawn(PLAN, *asked, ApprovalGranted("0.1.0", "bo"), WorkflowResumed())
    assert "… left  approved by bo" in text
    assert "paused" not in text
    assert "✗ left  rejected" in drawn(PLAN, *asked, ApprovalRejected("0.1.0"))
    assert "… left\n" in drawn(PLAN, *asked, ApprovalGranted("0.1.0"), StepStarted("0.1.0", "left")).replace(" \n", "\n")


def test_open_runs_go_on_below_a_settled_one() -> None:
    """When one of several runs has ended the others are drawn further; of many only the first few."""
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=50, color_system=None)
    tree = LiveTree(lambda: PLAN, console)
    tree.begin()
    for number in range(12):
        tree.observe(Record(f"run-{number}", 0.0, WorkflowCreated({}, "loop")))
    tree.settle("run-0")
    tree.settle("")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "run-0  loop" in text
    assert "and 4 more runs" in text or "and 3 more runs" in text


def test_plan_as_lines_tells_everything_that_bounds_it() -> None:
    """The printed plan names time limits, retries, approvals, rounds, conditions and merge policies."""
    last = Call("last", 7, Retry(max_retries=2), approval_timeout_s=3600.0)
    plan = Seq((PLAN, last, Loop(Call("x"), 3, until=Unread("state.ok"))), Flow("all", "mixed", 60.0))
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
        "  last (at most 7 s, 2 retries, after approval within 3600 s)",
        "  repeat, at most 3 rounds, until state.ok",
        "    x (at most 300 s)",
    ]


def test_plan_as_lines_tells_what_follows_a_failure() -> None:
    """Of each call, join and flow; the handlers of the whole stand at the end, the first that is looked for first."""
    policy = Policy((Call("b"), Call("c")), ("TimeoutError",), {}, 2, 60.0, Call("u"), Budget(tokens=9, calls=3))
    flow = Flow("all", "mixed", on_error="continue", budget=Budget(cost_usd=0.5), errors=ErrorRoutes(Call("h"), {"x": Call("k", 5)}))
    join = Par((Call("a"), Call("b")), quorum=1, fail_fast=True, join_timeout_s=5.0)
    plan = Seq((Call("a", policy=policy), join, Seq((Call("x"),), Flow("inner", "sequential", rescue=Call("r")))), flow)
    assert lines_of(plan) == [
        "all [mixed]: one after another, goes on after errors, budget 0.5 cost_usd",
        "  a (at most 300 s, 2 corrections, or else b, c on TimeoutError, or else its default output, answers kept for 60 s, undone by u, "
        "budget 9 tokens, 3 calls)",
        "  all at once, 10 at a time; fails below 1 successes, at once; merge ordered; closed after 5 s",
        "    a (at most 300 s)",
        "    b (at most 300 s)",
        "  inner [sequential]: one after another, on error: r",
        "    x (at most 300 s)",
        "when it fails with code x: k (at most 5 s)",
        "when it fails otherwise: h (at most 300 s)",
    ]


def test_plan_as_lines_ends_somewhere() -> None:
    """A plan of very many steps is printed in part."""
    lines = lines_of(Seq(tuple(Call(f"a{number}") for number in range(5000))))
    assert (len(lines), lines[-1]) == (2001, "...")


@pytest.mark.parametrize(
    ("fact", "level", "fields"),
    [
        (
            WorkflowCreated({"id": "e", "target": "t", "session_id": "s", "data": {"k": "canary"}}, "loop", handlers={"a": "canary"}),
            "debug",
            {"event_id": "e", "target": "t", "session_id": "s", "pattern": "loop"},
        ),
        (StepCompleted("0.1", "a", 1, 0.5, Patch({"k": "canary"})), "debug", {"position": "0.1", "keys": ["k"]}),
        (EffectRecorded("0.1", "pay", "canary"), "debug", {"key": "pay"}),
        (StepFailed("0.1", "a", 1, 0.5, FAILURE), "warning", {"agent": "a"}),
        (WorkflowPaused("review", ("0.1",)), "info", {"reason": "review", "waiting": ["0.1"]}),
        (WorkflowCompleted("completed", "completed", 0.5), "info", {"status": "completed"}),
    ],
)
def test_log_lines_tell_facts_and_no_data(fact: Fact, level: str, fields: dict[str, Any], tmp_path: Path) -> None:
    """A record is one line with what it is about; what events, states and effects hold is not in the log."""
    log = StructuredLog("debug", "json", tmp_path / "log")
    log.observe(Record("run-1", 0.0, fact, 3))
    log.observe(Record("run-1", 0.0, fact))
    log.close()
    first, second = (json.loads(line) for line in (tmp_path / "log").read_text().splitlines())
    assert {**first, "run_id": "run-1", "event": type(fact).__name__, "level": level, "seq": 3, **fields} == first
    assert "seq" not in second
    assert "canary" not in (tmp_path / "log").read_text()


def test_plan_as_lines_tells_what_the_patterns_do() -> None:
    """What is gone through, who is next, and when it is over; members go by their ids."""
    team = Branch((Call("a", part=Part("look", on_error="continue")), Call("b")), routes={"look": 0, "b": 1})
    edges = (Edge("look", "b", Unread("state.x")), Edge("look", ""), Edge("b", "look"))
    plan = Seq(
        (
            Map(Call("a"), OVER, "files", 1000, 3, is_collecting=True, is_bearing=True),
            Loop(Seq((Call("boss"), Map(team, AGENDA, most=2))), 4, agenda=Agenda(DELEGATION, "boss", 8)),
            Loop(Map(team, AGENDA, most=2), 1000, agenda=Agenda(MAILBOX, "", 1000)),
            Loop(Seq((Map(team, AGENDA, most=9), Map(Call("r"), REVISION, most=1))), 9, agenda=Agenda(WAVES, "p", 9, most_replans=3)),
            Loop(team, 6, is_handoff=True, entry="look", edges=edges, max_visits=3, flow=Flow("way", "graph", part=Part("way1"))),
            Loop(team, 3, is_handoff=True, entry=""),
            Par((Call("x", policy=Policy(is_background=True)),), aggregate=Aggregate("best:score")),
        )
    )
    told = lines_of(plan)
    assert told[1:3] == [
        "  each of state.files, at most 1,000, 3 at a time; failures go to the next step; kept for the next step",
        "    a (at most 300 s)",
    ]
    assert "      what is to be done now, at most 2, 10 at a time; fails above 0.5; merge ordered" in told
    assert "          look: a (at most 300 s), on error: continue" in told
    assert "      the plan, if it is to be revised, 10 at a time; fails above 0.5; merge ordered" in told
    assert [line for line in told if line.startswith("  repeat")] == [
        "  repeat until done, at most 4 rounds, 8 steps in all",
        "  repeat until quiet, at most 1,000 messages, 1,000 steps in all",
        "  repeat until all done, at most 9 waves, 9 steps in all, 3 revisions",
    ]
    at = told.index("  way1: way [graph]: go from node to node, beginning at look, each at most 3 times")
    assert told[at + 4 : at + 8] == [
        "    look -> b if state.x",
        "    else look -> end",
        "    b -> look",
        "  answer the questions, then hand on, at most 2 times",
    ]
    assert told[-2:] == [
        "  all at once, 10 at a time; fails above 0.5; aggregate best:score",
        "    x (at most 300 s, in the background)",
    ]
