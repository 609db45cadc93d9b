"""Failure policies from a configuration: what the nodes of a plan get of them, and the mistakes in naming who is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import Runner, app
from agentflow.config.diagnostics import Diagnostic
from agentflow.core.ledger import Budget
from agentflow.core.plan import Call, ErrorRoutes, Node, Par, Policy, Retry, Seq, agents_of
from agentflow.errors import MissingHandlerError
from agentflow.modes import Mode

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a", "b"]}
JOIN = {"mode": "collaborative", "collaborative_agents": ["a", "b"]}


def checked(orchestration: dict[str, Any], agents: dict[str, Any], **more: Any) -> tuple[Node | None, list[Diagnostic]]:
    tables = {name: agents.get(name, {}) for name in (*"ab", *agents)}
    project = app.load({"agent_flow": {"name": "main"}, "orchestration": orchestration, "agents": tables, **more}, environ={})
    project.modes["side_by_side"] = Mode(lambda flow: Par((Call("a"), Call("b"))))
    return project.check()


def linked(orchestration: dict[str, Any], agents: dict[str, Any], **more: Any) -> Any:
    plan, found = checked(orchestration, agents, **more)
    assert [one.message for one in found if one.severity == "error"] == []
    return plan


def policy_of(agent: dict[str, Any], **others: Any) -> Policy | None:
    """Return the policy of agent `a`, with this table, in a sequence."""
    plan = linked(SEQUENCE, {"a": agent, **others})
    assert plan.steps[1].policy is None, "the other agent has none"
    return plan.steps[0].policy


def test_an_agent_without_policies_has_none() -> None:
    """A plain plan is as it ever was."""
    assert policy_of({"timeout_seconds": 5}) is None
    assert policy_of({"fallback": [], "self_correct": 0}) is None


def test_what_an_agents_table_says_is_in_its_call() -> None:
    """Output, corrections, cache, budget and reservation."""
    table = {
        "default_output": {"x": [1]},
        "self_correct": 2,
        "cache": {"ttl_seconds": 600},
        "budget": {"tokens": 10, "cost_usd": 1, "seconds": 2.5, "calls": 3, "warn_at": 0.5},
        "reserve_tokens": 4,
    }
    expected = Policy(default_output={"x": [1]}, self_correct=2, cache_s=600.0, budget=Budget(10, 1.0, 2.5, 3, 0.5), reserve_tokens=4)
    assert policy_of(table) == expected
    assert policy_of({"default_output": {}}) == Policy(default_output={})


def test_who_stands_in_has_the_limits_of_its_own_table() -> None:
    """Time limit, retries, corrections and budget of each agent are its own; what follows all of them is the first one's."""
    stand_in = {"timeout_seconds": 5, "retry": {"max_retries": 3}, "self_correct": 1, "budget": {"calls": 2}, "default_output": {"no": 1}}
    policy = policy_of({"fallback": ["c"], "fallback_on": ["TimeoutError"], "default_output": {"x": 1}}, c=stand_in)
    assert policy is not None
    assert policy.fallback == (Call("c", 5.0, Retry(3), policy=Policy(self_correct=1, budget=Budget(calls=2))),)
    assert (policy.fallback_on, policy.default_output) == (("TimeoutError",), {"x": 1})


def test_fallbacks_of_fallbacks_follow_them() -> None:
    """Each agent's own list comes right after it; who stands in the line already does not come again."""
    policy = policy_of({"fallback": ["c", "d"]}, c={"fallback": ["e", "d"]}, d={"fallback": ["f"]}, e={}, f={})
    assert policy is not None
    assert [call.agent for call in policy.fallback] == ["c", "e", "d", "f"]
    assert all(call.policy is None for call in policy.fallback)


def test_a_compensator_is_not_undone_itself() -> None:
    """It has the other policies of its table, and the retries of the flow."""
    plan = linked({**SEQUENCE, "retry_attempts": 2}, {"a": {"compensate": "u"}, "u": {"compensate": "u", "fallback": ["v"]}, "v": {}})
    undo = plan.steps[0].policy.compensate
    assert (undo.agent, undo.retry.max_retries, undo.policy) == ("u", 2, Policy(fallback=(Call("v", retry=Retry(2)),)))
    own = linked(SEQUENCE, {"a": {"compensate": "a"}})
    assert own.steps[0].policy.compensate == Call("a")


def test_what_a_registered_mode_sets_of_a_policy_stays() -> None:
    """The table does not change what a mode's function has decided."""
    project = app.load({"orchestration": {"mode": "own"}, "agents": {"a": {"self_correct": 3}}}, environ={})
    project.modes["own"] = Mode(lambda flow: Seq((Call("a", policy=Policy(self_correct=1)), Call("a"))))
    plan, _ = project.check()
    assert isinstance(plan, Seq)
    assert [step.policy for step in plan.steps if isinstance(step, Call)] == [Policy(self_correct=1), Policy(self_correct=3)]


def test_what_a_flow_does_on_an_error() -> None:
    """It stops, goes on, or ends with an agent, which has all its limits; nested flows say so themselves."""
    assert (linked(SEQUENCE, {}).flow.on_error, linked(SEQUENCE, {}).flow.rescue) == ("stop", None)
    assert linked({**SEQUENCE, "on_error": "continue"}, {}).flow.on_error == "continue"
    table = {"c": {"timeout_seconds": 5, "compensate": "u"}, "u": {}}
    flow = linked({**SEQUENCE, "on_error": "route:c"}, table).flow
    assert (flow.on_error, flow.rescue) == ("stop", Call("c", 5.0, policy=Policy(compensate=Call("u"))))
    inner = {**SEQUENCE, "on_error": "continue", "budget": {"calls": 5}}
    outer = linked({"mode": "sequential", "sequential_agents": ["inner"]}, {}, flows={"inner": inner})
    assert (outer.flow.on_error, outer.steps[0].flow.on_error, outer.steps[0].flow.budget) == ("stop", "continue", Budget(calls=5))


def test_joins_have_their_quorum_and_their_end() -> None:
    """Also in the parallel phase of a mixed flow."""
    keys = {"quorum": 1, "fail_fast": True, "join_timeout_seconds": 2}
    for join in (
        linked({**JOIN, **keys}, {}),
        linked({"mode": "mixed", "collaborative_agents": ["a", "b"], "sequential_agents": ["a"], **keys}, {}).steps[0],
    ):
        assert (join.quorum, join.fail_fast, join.join_timeout_s) == (1, True, 2.0)
    plain = linked(JOIN, {})
    assert (plain.quorum, plain.fail_fast, plain.join_timeout_s) == (None, False, None)


ROUTING = {
    "error_handler": "h",
    "code_handlers": {"AF0505": "a"},
    "severity_handlers": {"critical": "h"},
    "category_handlers": {"timeout": "h"},
}


def test_error_routing_belongs_to_the_flow_that_an_event_takes() -> None:
    """The main flow, in whatever mode, or the flow that the event asks for instead; a flow in it has none."""
    table = {"h": {"timeout_seconds": 5, "compensate": "a"}}
    h = Call("h", 5.0)
    expected = ErrorRoutes(h, {"AF0505": Call("a")}, {"critical": h}, {"timeout": h})
    inner = {"inner": SEQUENCE}
    plan = linked({"mode": "sequential", "sequential_agents": ["inner"]}, table, error_routing=ROUTING, flows=inner)
    assert plan.flow.errors == expected
    assert plan.steps[0].flow.errors is None
    assert linked(SEQUENCE, {}, error_routing={}).flow.errors is None
    project = app.load(
        {"orchestration": SEQUENCE, "flows": inner, "agents": {"a": {}, "b": {}, **table}, "error_routing": ROUTING}, environ={}
    )
    program = project.program(lambda name: len, {"a": 1, "b": 1, "h": 1})
    assert program.flow.errors == expected
    assert program.overridden("inner").flow.errors == expected
    assert program.overridden("route").flow.errors == expected


def test_who_is_called_beside_the_steps_must_have_a_handler() -> None:
    """It is missed at the start, not when something has failed."""
    agents = {"a": {"fallback": ["f"], "compensate": "u"}, "b": {}, "f": {}, "u": {}, "r": {}, "h": {}}
    plan = linked({**SEQUENCE, "on_error": "route:r"}, agents, error_routing={"error_handler": "h"})
    assert agents_of(plan) == ("a", "b", "r", "h", "f", "u")


async def test_a_missing_handler_of_one_refuses_the_start() -> None:
    """The error names it."""
    runner = Runner.from_dict({"orchestration": SEQUENCE, "agents": {"a": {"compensate": "u"}, "b": {}, "u": {}}}, environ={})
    runner.register_agent("a", lambda event, state: {})
    runner.register_agent("b", lambda event, state: {})
    with pytest.raises(MissingHandlerError, match="no handler for agent u"):
        await runner.start()


# --- mistakes ---

Told = Callable[[str], list[tuple[str, str, str]]]


@pytest.fixture
def told(tmp_path: Path) -> Told:
    """Write a file and return code, place and message of what is wrong with it, sorted."""

    def tell(text: str) -> list[tuple[str, str, str]]:
        path = tmp_path / "agentflow.toml"
        path.write_text(f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\n{text}', encoding="utf-8")
        _, found = app.load(path, environ={}).check()
        return sorted((one.code, str(one.place).rpartition("agentflow.toml:")[2], one.message) for one in found)

    return tell


@pytest.mark.parametrize(
    ("text", "code", "place", "message"),
    [
        ('[agents.a]\nfallback = ["b", "zz"]\n[agents.b]', "AF0205", "5:18", "no agent named `zz`"),
        ('[agents.a]\ncompensate = "zz"', "AF0205", "5:14", "no agent named `zz`"),
        ('on_error = "route:zz"\n[agents.a]', "AF0205", "4:12", "no agent named `zz`"),
        ('[error_routing]\nerror_handler = "zz"\n[agents.a]', "AF0205", "5:17", "no agent named `zz`"),
        ('[error_routing]\ncode_handlers = { X = "zz" }\n[agents.a]', "AF0205", "5:23", "no agent named `zz`"),
        ('[agents.a]\nfallback = ["b"]\n[agents.b]\nenabled = false', "AF0206", "5:13", "agent `b` is disabled"),
        ('[agents.a]\nfallback = ["b", "b"]\n[agents.b]', "AF0209", "5:18", "`b` is in the list twice"),
        ('[agents.a]\nfallback = ["a"]', "AF0220", "5:13", "agent `a` would stand in for itself: a -> a"),
        (
            '[agents.a]\nfallback = ["b"]\n[agents.b]\nfallback = ["c"]\n[agents.c]\nfallback = ["a"]',
            "AF0220",
            "9:13",
            "agent `a` would stand in for itself: a -> b -> c -> a",
        ),
        (
            '[agents.a]\nfallback = ["f"]\n[flows.f]\nmode = "loop"\nloop_agent = "a"',
            "AF0221",
            "5:13",
            "`f` is a flow, and only an agent can stand here",
        ),
        (
            '[agents.a]\nfallback = ["b"]\n[agents.b]\nrequires_approval = true',
            "AF0222",
            "5:13",
            "agent `b` requires approval, and nobody is asked when it stands in for `a`",
        ),
        (
            '[error_routing]\nseverity_handlers = { dire = "a" }\n[agents.a]',
            "AF0224",
            "5:23",
            "no failure is `dire`: severities are low, medium, high, critical",
        ),
        (
            '[error_routing]\ncategory_handlers = { timeouts = "a" }\n[agents.a]',
            "AF0291",
            "5:23",
            "category `timeouts` is none of agentflow's: it is met only where an exception's own `category` says so",
        ),
    ],
)
def test_a_mistake_is_told_with_code_and_place(told: Told, text: str, code: str, place: str, message: str) -> None:
    """Each at the name that is wrong, and only once."""
    assert told(text) == [(code, place, message)]


def test_names_of_a_disabled_agent_are_not_looked_at(told: Told) -> None:
    """It is not called, so nobody stands in for it."""
    assert told('[agents.a]\n[agents.x]\nenabled = false\nfallback = ["zz"]') == []


def test_every_cycle_of_fallbacks_is_told_once(told: Told) -> None:
    """Wherever it is entered; what leads into one is none."""
    text = '[agents.x]\nfallback = ["a"]\n[agents.a]\nfallback = ["b"]\n[agents.b]\nfallback = ["a", "c"]\n[agents.c]\nfallback = ["c"]'
    assert [code for code, _, _ in told(text)] == ["AF0220", "AF0220"]


def test_a_long_chain_of_fallbacks_is_no_trouble(told: Told) -> None:
    """Thousands of agents in a row are looked through in one pass."""
    chain = "".join(f'[agents.x{at}]\nfallback = ["x{at + 1}"]\n' for at in range(1500))
    assert told(f"[agents.a]\n{chain}[agents.x1500]\n") == []


@pytest.mark.parametrize("mode", ["collaborative", "side_by_side"])
def test_on_error_says_nothing_of_a_parallel_flow(mode: str) -> None:
    """Also where a registered mode gives the join; a flow in parts may have one."""
    _, found = checked({"mode": mode, "on_error": "continue"}, {})
    assert [one.code for one in found] == ["AF0219"]
    linked({"mode": "mixed", "collaborative_agents": ["a"], "sequential_agents": ["b"], "on_error": "continue"}, {})


def test_a_quorum_of_more_than_there_are_is_refused() -> None:
    """Of the branches of the join, whoever names them."""
    _, found = checked({**JOIN, "quorum": 3}, {})
    assert [(one.code, one.message, one.help) for one in found] == [
        ("AF0223", "`quorum` is 3, and there are 2 to work at once", "use a number from 1 to 2")
    ]
    linked({**JOIN, "quorum": 2}, {})


def test_keys_of_a_join_are_listed_where_there_is_none() -> None:
    """As all keys of a mode that was not chosen."""
    _, found = checked({**SEQUENCE, "fail_fast": True, "quorum": 1, "join_timeout_seconds": 5}, {})
    assert [one.code for one in found] == ["AF0290"] * 3
