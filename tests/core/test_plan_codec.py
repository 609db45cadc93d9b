"""Plan codec: a plan as canonical JSON, with one hash for equal plans, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from agentflow import app
from agentflow.core.aggregate import Aggregate
from agentflow.core.contract import Contract, Schema
from agentflow.core.ledger import Budget
from agentflow.core.merge import Merge
from agentflow.core.plan import (
    NOTHING,
    Branch,
    Call,
    Condition,
    ErrorRoutes,
    Flow,
    Loop,
    Map,
    Node,
    Par,
    Policy,
    Retry,
    Seq,
    Unread,
    agents_of,
    walk_nodes,
)
from agentflow.core.plan_codec import decode_plan, encode_plan, hash_of
from agentflow.core.rules import Rule
from agentflow.errors import EntrypointError, InvalidValueError, JournalDamagedError, JournalVersionError, RuleError
from tests.core.test_walk_properties import ordered_plans

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = Seq(
    (
        Call("a", 12, Retry(3, 0.5, 9, 1.5, jitter=False, retryable=("TimeoutError", "AF0301"))),
        Par(
            (Call("b"), Call("c", retry=Retry(retryable=()))),
            3,
            1,
            Merge("strict", {"x": "sum", "y": "mine:joined"}, {"y": len}),
            Flow("side", "collaborative", 5),
        ),
        Loop(Call("d"), 4, Rule("state.x > 1"), flow=Flow("loop", "loop")),
        Loop(Branch((Call("e"), Call("f")), routes={"f": 1, "e": 0}, default="f"), 9, is_handoff=True, flow=Flow("go", "route")),
        Branch((Call("a"), Call("b")), (Rule("has(state.x)"),)),
    ),
    Flow("main", "mixed", 60.0),
)

TRIAGE = Call("triage", 9.0)
POLICIES = Seq(
    (
        Call(
            "a",
            policy=Policy(
                (Call("b", policy=Policy(self_correct=1)), Call("c")),
                ("TimeoutError",),
                {"x": [1, {"y": None}]},
                2,
                60.0,
                Call("u", policy=Policy(fallback=(Call("v"),))),
                Budget(100, 0.5, 9.0, 3, 0.5),
                7,
            ),
        ),
        Par((Call("a"), Call("b"), Call("c")), quorum=2, fail_fast=True, join_timeout_s=5.0),
        Loop(Call("d"), 2, flow=Flow("inner", "loop", on_error="continue", budget=Budget(calls=4))),
        Seq((Call("e"),), Flow("other", "sequential", rescue=Call("r", policy=Policy(default_output={})))),
    ),
    Flow("main", "mixed", errors=ErrorRoutes(TRIAGE, {"AF0505": Call("p")}, {"critical": TRIAGE}, {"timeout": Call("q")})),
)


def no_function(name: str) -> Any:
    raise EntrypointError(f"{name} was not expected")


def again(plan: Node, rule: Callable[[str], Condition] = Rule, function: Callable[[str], Any] = no_function) -> Node:
    body = encode_plan(plan)
    return decode_plan(hash_of(body), body, rule, function)


def test_everything_a_plan_can_say_comes_back() -> None:
    """Limits, retries, merge policies, conditions, routes and flows come back, conditions compiled again."""
    asked: list[str] = []

    def find(name: str) -> Any:
        asked.append(name)
        return len

    found = again(EVERYTHING, function=find)
    assert found == EVERYTHING
    assert asked == ["mine:joined"]
    assert isinstance(found, Seq)
    par, loop = found.steps[1], found.steps[2]
    assert isinstance(par, Par)
    assert par.merge.functions == {"mine:joined": len}
    assert isinstance(loop, Loop)
    assert isinstance(loop.until, Rule)
    assert encode_plan(found) == encode_plan(EVERYTHING)


def test_failure_policies_come_back() -> None:
    """Of calls, joins and flows, with the calls that are made beside the steps; equal ones stand once."""
    assert again(POLICIES) == POLICIES
    rows = json.loads(encode_plan(POLICIES))["nodes"]
    assert sum(row.get("agent") == "triage" for row in rows) == 1
    assert agents_of(again(POLICIES)) == ("a", "b", "c", "d", "e", "triage", "p", "q", "u", "r", "v")


def test_contracts_and_aggregates_come_back() -> None:
    """Schemas are compiled again by who decodes, functions found again; who gives nothing for that can only look at them."""
    contract = Contract(("x",), Schema({"required": ["x"]}))
    flow = Flow("main", "parallel", state_schema=Schema({"properties": {"x": {"type": "integer"}}}))
    undone = Policy(compensate=Call("u", contract=Contract(())))
    joined = (Par((Call("a", contract=contract), Call("b", policy=undone)), aggregate=Aggregate(told)) for told in ("vote", "mine:joined"))
    plan = Seq(tuple(joined), flow)
    body = encode_plan(plan)
    asked: list[Any] = []
    found = decode_plan(hash_of(body), body, Rule, lambda name: len, lambda source: asked.append(source) or Schema(source))  # type: ignore[func-returns-value, return-value]
    assert found == plan == again(plan, function=lambda name: len)
    assert encode_plan(found) == body
    assert asked == [{"required": ["x"]}, {"properties": {"x": {"type": "integer"}}}]
    assert isinstance(found, Seq)
    assert [par.aggregate.function for par in found.steps if isinstance(par, Par) and par.aggregate] == [None, len]
    assert not {"contract", "state_schema", "aggregate"} & {key for row in json.loads(encode_plan(EVERYTHING))["nodes"] for key in row}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"aggregate":"vote"', '"aggregate":"best:"'),
        ('"aggregate":"vote"', '"aggregate":3'),
        ('{"writes":["x"]}', '{"writes":"x"}'),
        ('{"writes":["x"]}', '{"output_schema":[]}'),
        ('"state_schema":{}', '"state_schema":true'),
    ],
)
def test_contracts_of_another_shape_are_refused(before: str, after: str) -> None:
    """They come from a file, which may have been damaged."""
    par = Par((Call("a", contract=Contract(("x",))), Call("b")), aggregate=Aggregate("vote"), flow=Flow("f", "m", state_schema=Schema({})))
    text = encode_plan(par).decode()
    assert before in text
    body = text.replace(before, after).encode()
    with pytest.raises(JournalDamagedError):
        decode_plan(hash_of(body), body, Rule, no_function)


def test_a_plan_without_policies_is_encoded_as_ever() -> None:
    """What has its default is left out, so that plans of earlier releases keep their hashes."""
    assert not {"policy", "quorum", "fail_fast", "join_timeout_s"} & {
        key for row in json.loads(encode_plan(EVERYTHING))["nodes"] for key in row
    }
    plain = Seq((Call("a", policy=Policy(fallback=())),), Flow("f", "any", on_error="stop", errors=None))
    assert b"fallback" not in encode_plan(plain)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(ordered_plans)
def test_every_plan_comes_back(plan: Node) -> None:
    """A decoded plan equals the plan, and has its bytes."""
    found = again(plan)
    assert found == plan
    assert encode_plan(found) == encode_plan(plan)


def test_approvals_and_process_deaths_come_back() -> None:
    """What came after the first release comes back too; where it has its default a plan is written as it was before."""
    plan = Seq((Call("a", approval_timeout_s=60), Call("b")), Flow("main", "sequential", max_process_deaths=5))
    found = again(plan)
    assert found == plan
    assert encode_plan(found) == encode_plan(plan)
    approved, plain, whole = json.loads(encode_plan(plan))["nodes"]
    assert (approved["approval_timeout_s"], whole["flow"]["max_process_deaths"]) == (60.0, 5)
    assert "approval_timeout_s" not in plain
    assert b"max_process_deaths" not in encode_plan(Seq((Call("a"),), Flow("main", "sequential", max_process_deaths=3)))


def test_what_goes_on_beside_a_run_comes_back() -> None:
    """Calls in the background, the bound of further events, and the plan of an event that is for its subscribers alone."""
    aside = Call("a", policy=Policy(is_background=True))
    for plan in (Seq((aside,), Flow("main", "sequential", max_events=7)), Map(Call("a"), NOTHING, flow=Flow("main", "route"))):
        assert plan == again(plan)
        assert encode_plan(plan) == encode_plan(again(plan))
    assert b"max_events" not in encode_plan(Seq((Call("a"),), Flow("main", "sequential")))


def test_equal_plans_have_one_hash() -> None:
    """However its nodes are shared, however its mappings are ordered, whole or broken its numbers: a plan has one hash."""
    shared = Seq((Call("a"), Call("b")))
    one = Par((shared, shared, Call("c", 5)))
    two = Par((Seq((Call("a"), Call("b"))), Seq((Call("a"), Call("b"))), Call("c", 5.0)))
    assert encode_plan(one) == encode_plan(two)
    assert len(set(map(id, walk_nodes(again(two))))) == 5
    left, right = (Branch((Call("a"), Call("b")), routes=routes) for routes in ({"a": 0, "b": 1}, {"b": 1, "a": 0}))
    assert encode_plan(left) == encode_plan(right)
    assert encode_plan(Loop(Call("a"), 2, Unread("true"))) == encode_plan(Loop(Call("a"), 2, Rule("true")))
    assert len(hash_of(encode_plan(one))) == 32


@pytest.mark.parametrize(
    "other",
    [
        Seq((Call("a"), Call("c"))),
        Seq((Call("b"), Call("a"))),
        Seq((Call("a"), Call("b")), Flow("f", "any")),
        Seq((Call("a"), Call("b", 5.0))),
        Seq((Call("a"), Call("b", retry=Retry(1)))),
        Seq((Call("a"), Call("b", approval_timeout_s=9.0))),
        Par((Call("a"), Call("b"))),
        Seq((Call("a"), Call("b", policy=Policy(self_correct=1)))),
        Seq((Call("a"), Call("b", policy=Policy(compensate=Call("u"))))),
        Seq((Call("a"), Call("b", policy=Policy(fallback=(Call("u"),))))),
    ],
)
def test_different_plans_have_different_hashes(other: Node) -> None:
    """Agents, order, limits, retries, approvals and flows are all in the hash."""
    assert hash_of(encode_plan(other)) != hash_of(encode_plan(Seq((Call("a"), Call("b")))))


def test_a_plan_that_names_flows_many_times_stays_small() -> None:
    """Twenty flows that each name the next one twice are a million steps in the tree, and twenty rows."""
    node: Node = Call("a")
    for number in range(20):
        node = Seq((node, node), Flow(f"f{number}", "sequential"))
    body = encode_plan(node)
    assert len(body) < 4000
    assert sum(1 for _ in walk_nodes(again(node))) == 21


def test_a_deep_plan_is_no_trouble() -> None:
    """Nothing recurses: a plan of 3,000 levels is written and read."""
    node: Node = Call("a")
    for _ in range(3000):
        node = Seq((node,))
    body = encode_plan(node)
    found = decode_plan(hash_of(body), body, Rule, no_function)
    assert encode_plan(found) == body


@pytest.mark.parametrize("mode", ["route", "collaborative", "sequential", "loop", "mixed"])
def test_a_plan_from_a_configuration(mode: str) -> None:
    """What a configuration is linked to comes back as it was, in each mode."""
    names = ["a", "b"]
    orchestration = {
        "mode": mode,
        "collaborative_agents": names,
        "sequential_agents": names,
        "loop_agent": "a",
        "until": "state.n > 2",
        "retry": {"max_retries": 2},
    }
    source = {"agent_flow": {"name": "main"}, "orchestration": orchestration, "agents": {name: {} for name in names}}
    plan, _ = app.load(source, environ={}).check()
    assert plan is not None
    assert again(plan, app.compile_rule) == plan


SCRIPT = """
from tests.core.test_plan_codec import EVERYTHING, encode_plan, hash_of
print(hash_of(encode_plan(EVERYTHING)))
"""


def test_a_hash_is_the_same_in_every_process() -> None:
    """The hash does not depend on the hash seed, and stays what it was: runs of today find their plan tomorrow."""
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={"PYTHONHASHSEED": seed}, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("0", "7")
    }
    assert found == {hash_of(encode_plan(EVERYTHING))} == {"7dc9cf8391eb0d8406623a1e04e53f76"}


# --- what is no plan ---


def test_a_plan_under_another_hash_is_refused() -> None:
    """The bytes must be those that the hash stands for."""
    with pytest.raises(JournalDamagedError, match="a plan: it is not 00"):
        decode_plan("00", encode_plan(Call("a")), Rule, no_function)


def test_a_later_releases_plan_is_refused() -> None:
    """A newer version has an error of its own."""
    body = json.dumps({"version": 2, "nodes": []}).encode()
    with pytest.raises(JournalVersionError, match="plan version 2"):
        decode_plan(hash_of(body), body, Rule, no_function)


def test_what_the_tools_raise_passes() -> None:
    """A condition that is none and a function that is gone say so themselves."""
    with pytest.raises(RuleError):
        again(Loop(Call("a"), 2, Unread("state. >")))
    with pytest.raises(EntrypointError, match="mine:joined was not expected"):
        again(EVERYTHING)


def test_numbers_must_be_finite() -> None:
    """A limit that is no JSON number cannot be recorded."""
    with pytest.raises(InvalidValueError, match="cannot be recorded"):
        encode_plan(Call("a", inf))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


def test_a_plan_that_says_something_else_is_a_plan_or_damage() -> None:
    """Whatever stands in any place of a plan, reading it gives a plan or a coded error, and nothing else."""
    added = Seq((Call("g", approval_timeout_s=8),), Flow("late", "sequential", None, 9))
    row = json.loads(encode_plan(Seq((EVERYTHING, added, POLICIES))))
    refused = 0
    for path in places(row):
        for other in (None, -1, 0, 99, "x", [], {}, [7], ["y"], {"k": 7}, True, 1.5):
            changed = json.loads(json.dumps(row))
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = other
            body = json.dumps(changed).encode()
            try:
                found = decode_plan(hash_of(body), body, Unread, lambda name: len)
            except (JournalDamagedError, JournalVersionError):
                refused += 1
            else:
                encode_plan(found)
    assert refused > 500


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b'{"version":1}', b'{"version":1,"nodes":{}}', b'{"version":1,"nodes":[1]}', b"\xff"]
)
def test_what_is_no_plan_is_damage(body: bytes) -> None:
    """Other bytes are damage."""
    with pytest.raises(JournalDamagedError, match="a plan: it"):
        decode_plan(hash_of(body), body, Rule, no_function)
