"""What the linker finds wrong with the patterns' keys and tables, each with code, place and cure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow import app
from agentflow.config.diagnostics import Diagnostic
from agentflow.core.plan import Node

Check = Callable[[str], tuple[Node | None, list[Diagnostic]]]
AGENTS = "[agents.a]\n[agents.b]\n[agents.c]\n"


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Write a file with agents a, b and c, and check it."""

    def checked(text: str) -> tuple[Node | None, list[Diagnostic]]:
        path = tmp_path / "agentflow.toml"
        path.write_text(text + AGENTS, encoding="utf-8")
        return app.load(path, environ={}).check()

    return checked


def flow(mode: str, *lines: str) -> str:
    """Write the main flow in a mode: its lines begin on line 3."""
    return "\n".join(["[orchestration]", f'mode = "{mode}"', *lines, ""])


MISTAKES: dict[str, tuple[str, str, str, str, str]] = {
    # --- steps ---
    "no steps": (flow("parallel"), "AF0203", "1:1", "mode `parallel` needs `steps`", "add e.g. a table [[orchestration.steps]]"),
    "empty steps": (flow("parallel", "steps = []"), "AF0204", "3:9", "`steps` is empty", "add a table [[orchestration.steps]]"),
    "unknown agent of a step": (
        flow("parallel", 'steps = [{ agent = "a" }, { id = "x", agent = "zz" }]'),
        "AF0205",
        "3:47",
        "no agent or flow named `zz`",
        "add a table [agents.zz]",
    ),
    "two steps of one agent": (
        flow("parallel", 'steps = [{ agent = "a" }, { agent = "a" }]'),
        "AF0225",
        "3:37",
        "two steps have the name `a`",
        "give each step an id",
    ),
    "two steps of one id": (
        flow("pipeline", "[[orchestration.steps]]", 'id = "x"', 'agent = "a"', "[[orchestration.steps]]", 'id = "x"', 'agent = "b"'),
        "AF0225",
        "7:6",
        "two steps have the name `x`",
        "give each step an id",
    ),
    "dependency on nobody": (
        flow("parallel", 'steps = [{ agent = "a" }, { id = "summary", agent = "b" }, { agent = "c", depends_on = ["a", "sumary"] }]'),
        "AF0226",
        "3:94",
        "no step is called `sumary`",
        "did you mean `summary`?",
    ),
    "circle of dependencies": (
        flow(
            "parallel",
            'steps = [{ agent = "a", depends_on = ["c"] }, { agent = "b", depends_on = ["a"] }, { agent = "c", depends_on = ["b"] }]',
        ),
        "AF0227",
        "3:38",
        "steps wait for each other: a -> c -> b -> a",
        "take one of them out",
    ),
    "step that waits for itself": (
        flow("parallel", 'steps = [{ agent = "a", depends_on = ["a"] }]'),
        "AF0227",
        "3:38",
        "steps wait for each other: a -> a",
        "take one of them out",
    ),
    "quorum of too few steps": (
        flow("parallel", "quorum = 3", 'steps = [{ agent = "a" }, { agent = "b" }]'),
        "AF0223",
        "3:10",
        "`quorum` is 3, and there are 2 to work at once",
        "from 1 to 2",
    ),
    "on_error of a parallel flow": (
        flow("parallel", 'on_error = "continue"', 'steps = [{ agent = "a" }]'),
        "AF0219",
        "3:1",
        "on_error says nothing of a parallel flow",
        "remove on_error",
    ),
    "steps and a list": (
        flow("pipeline", 'sequential_agents = ["a"]', 'steps = [{ agent = "b" }]'),
        "AF0232",
        "3:1",
        "`steps` and `sequential_agents` both say who works",
        "take steps or sequential_agents out",
    ),
    "approval of a flow": (
        flow("parallel", 'steps = [{ agent = "team", requires_approval = true }]', "[flows.team]", 'sequential_agents = ["a"]')
        + 'mode = "sequential"\n',
        "AF0231",
        "3:28",
        "`requires_approval` is for agents, and `team` is a flow",
        "let the first agent of [flows.team] require it",
    ),
    "retries of a flow": (
        flow("parallel", 'steps = [{ agent = "team", max_retries = 2 }]', "[flows.team]", 'sequential_agents = ["a"]')
        + 'mode = "sequential"\n',
        "AF0231",
        "3:28",
        "`max_retries` is for agents, and `team` is a flow",
        "retry_attempts",
    ),
    "time of no approval": (
        flow("parallel", 'steps = [{ agent = "a", approval_timeout_seconds = 5 }]'),
        "AF0121",
        "3:25",
        "step `a` has `approval_timeout_seconds`, but needs no approval",
        "add requires_approval = true",
    ),
    # --- inputs ---
    "input of an unknown root": (
        flow("parallel", 'steps = [{ agent = "a", input = "{{ stat.x }}" }]'),
        "AF0230",
        "3:33",
        "names nothing that an input can hold",
        "did you mean `state`?",
    ),
    "input that cannot be read": (
        flow("parallel", 'steps = [{ agent = "a", input = { x = ["{{ state x }}"] } }]'),
        "AF0230",
        "3:33",
        "cannot read `{{ state x }}`",
        "write {{ root.name.name }}",
    ),
    "input from nobody": (
        flow("pipeline", 'steps = [{ id = "one", agent = "a" }, { agent = "b", input = "{{ outputs.on.x }}" }]'),
        "AF0230",
        "3:62",
        "no member before is called `on`",
        "did you mean `one`?",
    ),
    "input by the agent of a step with an id": (
        flow("pipeline", 'steps = [{ id = "one", agent = "a" }, { agent = "b", input = "{{ outputs.a }}" }]'),
        "AF0230",
        "3:62",
        "no member before is called `a`",
        "known: one",
    ),
    "input from beside": (
        flow("parallel", 'steps = [{ agent = "a" }, { agent = "b", input = "{{ outputs.a }}" }]'),
        "AF0230",
        "3:50",
        "`a` works beside it, or after it",
        "in an earlier step, or by depends_on",
    ),
    "input from a later step": (
        flow("pipeline", 'steps = [{ agent = "a", input = { x = "{{ outputs.b }}" } }, { agent = "b" }]'),
        "AF0230",
        "3:33",
        "`b` works beside it, or after it",
        "in an earlier step",
    ),
    # --- phases ---
    "step without a phase": (
        flow("map_reduce", 'steps = [{ agent = "a", phase = "map" }, { agent = "b", phase = "reduce" }, { agent = "c" }]'),
        "AF0229",
        "3:77",
        "step `c` needs a phase in mode `map_reduce`",
        'add phase = one of "map", "reduce"',
    ),
    "phase of another mode": (
        flow("map_reduce", 'steps = [{ agent = "a", phase = "map" }, { agent = "b", phase = "reduce" }, { agent = "c", phase = "work" }]'),
        "AF0229",
        "3:100",
        "mode `map_reduce` has no phase `work`",
        'its phases are "map", "reduce"',
    ),
    "no maps": (
        flow("map_reduce", 'steps = [{ agent = "b", phase = "reduce" }]'),
        "AF0229",
        "3:1",
        "no step has the phase `map`",
        'phase = "map"',
    ),
    "no reducers": (
        flow("map_reduce", "[[orchestration.steps]]", 'agent = "a"', 'phase = "map"'),
        "AF0229",
        "3:17",
        "no step has the phase `reduce`",
        'phase = "reduce"',
    ),
    "no reducer": (flow("map_reduce", 'map = "a"', 'over = "items"'), "AF0203", "1:1", "needs `reduce` or `steps`", 'reduce = "a"'),
    "no list": (flow("map_reduce", 'map = "a"', 'reduce = "b"'), "AF0203", "1:1", "needs `over` or `steps`", 'over = "a"'),
    "two planners": (
        flow(
            "orchestrator_workers",
            'steps = [{ agent = "a", phase = "plan" }, { agent = "b", phase = "plan" }, { agent = "c", phase = "work" }]',
        ),
        "AF0229",
        "3:66",
        "only 1 step may have the phase `plan`",
        "take the phase from the others",
    ),
    "on_error of one of many": (
        flow("map_reduce", 'steps = [{ agent = "a", phase = "map", on_error = "continue" }, { agent = "b", phase = "reduce" }]'),
        "AF0228",
        "3:40",
        "`on_error` says nothing of a step that does one of many items",
        "the flow says how many may fail",
    ),
    # --- those who say who works ---
    "no planner": (flow("plan_execute", 'agents = ["a"]'), "AF0203", "1:1", "mode `plan_execute` needs `planner`", 'planner = "a"'),
    "no workers": (
        flow("orchestrator_workers", 'planner = "a"', "workers = []"),
        "AF0204",
        "4:11",
        "`workers` is empty",
        "name at least one agent or flow",
    ),
    "unknown worker": (
        flow("orchestrator_workers", 'planner = "a"', 'workers = "bb"'),
        "AF0205",
        "4:11",
        "no agent or flow named `bb`",
        "did you mean `b`?",
    ),
    "worker twice": (
        flow("orchestrator_workers", 'planner = "a"', 'workers = ["b", "c", "b"]'),
        "AF0209",
        "4:22",
        "`b` is in the list twice",
        "remove one",
    ),
    "peer twice": (flow("peer_to_peer", 'agents = ["b", "b"]'), "AF0209", "3:16", "`b` is in the list twice", "remove one"),
    "unknown default": (
        flow("supervisor", 'supervisor = "a"', 'agents = ["b"]', 'default_agent = "zz"'),
        "AF0205",
        "5:17",
        "no agent or flow named `zz`",
        "add a table [agents.zz]",
    ),
    "supervisor that is no name": (
        flow("supervisor", 'supervisor = ""', 'agents = ["b"]'),
        "AF0205",
        "3:14",
        "no agent or flow named ``",
        "",
    ),
    "managers in a circle": (
        flow(
            "hierarchical", 'supervisor = "a"', 'agents = ["x"]', "[flows.x]", 'mode = "hierarchical"', 'supervisor = "a"', 'agents = ["y"]'
        )
        + '[flows.y]\nmode = "hierarchical"\nsupervisor = "b"\nagents = ["x"]\n',
        "AF0207",
        "12:11",
        "flow `x` contains itself: x -> y -> x",
        "break the cycle",
    ),
    "too many levels": (
        flow("hierarchical", 'supervisor = "a"', "max_depth = 2", 'agents = ["x"]')
        + '[flows.x]\nmode = "sequential"\nsequential_agents = ["y"]\n[flows.y]\nmode = "hierarchical"\nsupervisor = "a"\nagents = ["z"]\n'
        + '[flows.z]\nmode = "supervisor"\nsupervisor = "b"\nagents = ["c"]\n',
        "AF0239",
        "5:1",
        "there are 3 levels of supervisors, and `max_depth` is 2",
        "raise max_depth",
    ),
    # --- decision trees ---
    "no branches": (flow("decision_tree"), "AF0203", "1:1", "mode `decision_tree` needs `branches`", "[[orchestration.branches]]"),
    "unknown leaf": (
        flow(
            "decision_tree", 'branches = [{ when = "true", then = { when = "true", then = "a", else = [{ when = "true", then = "zz" }] } }]'
        ),
        "AF0205",
        "3:98",
        "no agent or flow named `zz`",
        "[agents.zz]",
    ),
    "question below that cannot be read": (
        flow("decision_tree", 'branches = [{ when = "true", then = [{ when = "stat.x > 1", then = "a" }] }]'),
        "AF0211",
        "3:47",
        "unknown name `stat`",
        "did you mean `state`?",
    ),
    "question after an else": (
        flow("decision_tree", 'branches = [{ when = "state.x", then = "a", else = "b" }, { when = "state.y", then = "c" }]'),
        "AF0238",
        "3:45",
        "the questions after this one are never asked",
        "move the else to the last one",
    ),
    "way to nowhere": (
        flow("decision_tree", 'branches = [{ when = "state.x", then = "a", else = [] }]'),
        "AF0204",
        "3:52",
        "`else` is empty",
        "ask another question",
    ),
    # --- graphs ---
    "no entry": (
        flow("graph", 'edges = [{ from = "a", to = "b" }]'),
        "AF0203",
        "1:1",
        "mode `graph` needs `entry`",
        'add e.g. entry = "a"',
    ),
    "entry that is no node": (
        flow("graph", 'entry = "c"', 'edges = [{ from = "a", to = "b" }]'),
        "AF0237",
        "3:9",
        "`entry` is `c`, and no node is called so",
        "known: a, b",
    ),
    "edge to nobody": (
        flow("graph", 'entry = "a"', 'edges = [{ from = "a", to = "bb" }]'),
        "AF0205",
        "4:29",
        "no agent or flow named `bb`",
        "did you mean `b`?",
    ),
    "node of nobody": (
        flow("graph", 'entry = "n"', 'nodes = [{ name = "n", agent = "zz" }]'),
        "AF0205",
        "4:32",
        "no agent or flow named `zz`",
        "[agents.zz]",
    ),
    "node that nothing reaches": (
        flow("graph", 'entry = "a"', 'edges = [{ from = "a", to = "b" }, { from = "c", to = "b" }]'),
        "AF0233",
        "4:45",
        "nothing leads to node `c`",
        "add an edge to it",
    ),
    "nodes without an end": (
        flow("graph", 'entry = "a"', "max_visits = 2", 'edges = [{ from = "a", to = "b" }, { from = "b", to = "a" }]'),
        "AF0234",
        "5:19",
        "no path ends after `a`, `b`",
        'add an edge with to = "end"',
    ),
    "two edges in any case": (
        flow("graph", 'entry = "a"', 'edges = [{ from = "a", to = "b" }, { from = "a", to = "c" }]'),
        "AF0235",
        "4:55",
        "the edge from `a` to `c` is never taken: the one to `b` before it always is",
        "give the one before it a condition",
    ),
    "condition after an edge in any case": (
        flow("graph", 'entry = "a"', 'edges = [{ from = "a", to = "b" }, { from = "a", to = "c", when = "state.x" }]'),
        "AF0235",
        "4:67",
        "the edge from `a` to `c` is never taken",
        "or put it last",
    ),
    "circle without max_visits": (
        flow(
            "graph",
            'entry = "a"',
            'edges = [{ from = "a", to = "b" }, { from = "b", to = "a", when = "state.x" }, { from = "b", to = "end" }]',
        ),
        "AF0236",
        "4:19",
        "nodes lead back to themselves: a -> b -> a",
        "add max_visits",
    ),
    "circle by on_error": (
        flow("graph", 'entry = "a"', 'nodes = [{ name = "b", on_error = "route:a" }]', 'edges = [{ from = "a", to = "b" }]'),
        "AF0236",
        "4:19",
        "nodes lead back to themselves: b -> a -> b",
        "add max_visits",
    ),
    "on_error to nowhere": (
        flow("graph", 'entry = "a"', 'nodes = [{ name = "a", on_error = "route:cc" }]', 'edges = [{ from = "a", to = "c" }]'),
        "AF0205",
        "4:35",
        "no agent or flow named `cc`",
        "did you mean `c`?",
    ),
    "two nodes of one name": (
        flow("graph", 'entry = "a"', 'nodes = [{ name = "a" }, { name = "a", agent = "b" }]'),
        "AF0225",
        "4:35",
        "two nodes are called `a`",
        "rename one",
    ),
    "condition of an edge": (
        flow("graph", 'entry = "a"', 'edges = [{ from = "a", to = "b", when = "1 +" }, { from = "a", to = "end" }]'),
        "AF0210",
        "4:41",
        "cannot read `1 +`",
        "write CEL",
    ),
    # --- keys of modes not chosen are checked as far as they go alone ---
    "condition of another mode's tree": (
        flow("sequential", 'sequential_agents = ["a"]', 'branches = [{ when = "x y", then = "zz" }]'),
        "AF0210",
        "4:22",
        "cannot read `x y`",
        "write CEL",
    ),
    "condition of another mode's edge": (
        flow("sequential", 'sequential_agents = ["a"]', 'edges = [{ from = "zz", to = "end", when = "nope" }]'),
        "AF0211",
        "4:44",
        "unknown name `nope`",
        "write state.nope",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_has_code_place_and_cure(name: str, check: Check) -> None:
    """Each mistake of meaning is an error with its code, the line and column that say it, and what to do."""
    text, code, place, message, cure = MISTAKES[name]
    plan, found = check(text)
    errors = [one for one in found if one.severity == "error"]
    assert [(one.code, f"{one.line}:{one.column}") for one in errors] == [(code, place)], [one.render() for one in errors]
    assert message in errors[0].message
    assert cure in errors[0].help
    assert plan is None


ADVICE: dict[str, tuple[str, str, str, str]] = {
    "phase in another mode": (
        flow("parallel", 'steps = [{ agent = "a", phase = "map" }]'),
        "AF0290",
        "3:25",
        "`phase` of a step is used by mode map_reduce, orchestrator_workers, not by `parallel`",
    ),
    "dependency in another mode": (
        flow("pipeline", 'steps = [{ agent = "a" }, { agent = "b", depends_on = ["a"] }]'),
        "AF0290",
        "3:42",
        "`depends_on` of a step is used by mode parallel, not by `pipeline`",
    ),
    "replans of nobody": (
        flow("plan_execute", 'planner = "a"', 'agents = ["b"]', "max_replans = 2"),
        "AF0290",
        "5:1",
        "`max_replans` is used by mode `plan_execute` only with a `replanner`",
    ),
    "concurrency of one after another": (
        flow("pipeline", 'sequential_agents = ["a"]', "max_concurrency = 2"),
        "AF0290",
        "4:1",
        "`max_concurrency` is used by mode `pipeline` only with `over`",
    ),
    "share of failures that all may have": (
        flow("map_reduce", 'map = "a"', 'over = "x"', 'reduce = "b"', 'map_failures = "skip"', "failure_threshold = 0.1"),
        "AF0290",
        "7:1",
        '`failure_threshold` is used by mode `map_reduce` only with map_failures = "fail"',
    ),
    "tasks of static steps": (
        flow("orchestrator_workers", "max_tasks = 3", 'steps = [{ agent = "a", phase = "work" }]'),
        "AF0290",
        "3:1",
        "`max_tasks` is used by mode `orchestrator_workers` only without `steps`",
    ),
    "keys of other patterns": (
        flow("sequential", 'sequential_agents = ["a"]', 'planner = "zz"'),
        "AF0290",
        "4:1",
        "`planner` is used by mode orchestrator_workers, plan_execute, not by `sequential`",
    ),
    "capability with the name of a member": (
        flow("supervisor", 'supervisor = "a"', 'agents = ["b", "c", "d"]') + '[agents.d]\ncapabilities = ["b"]\n',
        "AF0292",
        "4:1",
        "`b` is what `d` can do, and the name of a member: the one of that name is taken",
    ),
}


@pytest.mark.parametrize("name", ADVICE)
def test_advice_has_code_and_place(name: str, check: Check) -> None:
    """What a flow can do without is a warning with its place, and the flow runs."""
    text, code, place, message = ADVICE[name]
    plan, found = check(text)
    assert [(one.code, f"{one.line}:{one.column}", one.severity) for one in found] == [(code, place, "warning")], [
        one.render() for one in found
    ]
    assert message in found[0].message
    assert plan is not None


def test_all_mistakes_of_steps_and_edges_are_told_in_one_pass(check: Check) -> None:
    """A mistake in one table hides none in another, and a name that is missing hides no name that is wrong."""
    _, found = check(
        flow("map_reduce", 'reduce = "gone"', "[[orchestration.switch]]", 'when = "true"', 'use = "far"')
        + '[flows.g]\nmode = "graph"\nentry = "a"\nedges = [{ from = "a", to = "b", when = "(" }, { from = "c", to = "nobody" }]\n'
        + '[flows.p]\nmode = "parallel"\nsteps = [{ agent = "ghost" }, { agent = "a", depends_on = ["x"] }, { agent = "a" }]\n'
    )
    told = [(one.code, one.line) for one in found]
    assert told == [
        ("AF0203", 1),
        ("AF0203", 1),
        ("AF0205", 3),
        ("AF0215", 6),
        ("AF0210", 10),
        ("AF0233", 10),
        ("AF0233", 10),
        ("AF0205", 10),
        ("AF0205", 13),
        ("AF0226", 13),
        ("AF0225", 13),
    ]


def test_inputs_of_a_nested_flow_may_name_members_of_the_flow_around_it(check: Check) -> None:
    """A named flow may run after members of another one: only its own later members, and names that nothing has, are mistakes."""
    main = flow("sequential", 'sequential_agents = ["a", "inner"]')
    steps = '[{ id = "x", agent = "b", input = "{{ outputs.NAME }}" }, { id = "y", agent = "c" }]'
    inner = f'[flows.inner]\nmode = "parallel"\nsteps = {steps}\n'
    assert check(main + inner.replace("NAME", "a"))[1] == []
    for name in ("y", "x", "nobody"):
        assert [one.code for one in check(main + inner.replace("NAME", name))[1]] == ["AF0230"], name


def test_inputs_may_name_the_steps_of_a_flow_before(check: Check) -> None:
    """What ran inside a member before is there, by its own name."""
    inner = '[flows.team]\nmode = "parallel"\nsteps = [{ id = "deep", agent = "b" }]\n'
    _, found = check(
        flow("pipeline", 'steps = [{ agent = "team" }, { agent = "a", input = "{{ outputs.deep }} {{ outputs.team }}" }]') + inner
    )
    assert found == []


def test_very_many_steps_and_edges_are_checked_in_time_of_their_size(check: Check) -> None:
    """Thousands of steps in one chain of dependencies, and of nodes in one circle, link at once."""
    many = 3000
    steps = [f'{{ id = "s{n}", agent = "a"{f", depends_on = [{chr(34)}s{n - 1}{chr(34)}]" if n else ""} }}' for n in range(many)]
    plan, found = check(flow("parallel", f"steps = [{', '.join(steps)}]"))
    assert (found, len(plan.steps)) == ([], many)  # type: ignore[union-attr]
    edges = [f'{{ from = "n{n}", to = "n{n + 1}" }}' for n in range(many)]
    nodes = [f'{{ name = "n{n}", agent = "a" }}' for n in range(many + 1)]
    plan, found = check(flow("graph", 'entry = "n0"', f"edges = [{', '.join(edges)}]", f"nodes = [{', '.join(nodes)}]"))
    assert (found, plan.bound) == ([], many + 1)  # type: ignore[union-attr]
