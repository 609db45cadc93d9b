"""Diagram: a plan as Mermaid text."""

from __future__ import annotations

import re

import pytest

from agentflow.core.diagram import MOST_BOXES, mermaid
from agentflow.core.merge import Merge
from agentflow.core.plan import Branch, Call, ErrorRoutes, Flow, Loop, Node, Par, Policy, Seq, Unread

A, B, C = Call("a"), Call("b"), Call("c")


def arrows(text: str) -> set[str]:
    """Return the arrows of a diagram, without their labels."""
    return {re.sub(r'\|"[^"]*"\|', "", line.strip()).replace("  ", " ") for line in text.splitlines() if "->" in line}


def test_sequence_is_a_line_of_boxes() -> None:
    """Steps of a Seq follow one another from the event to the result."""
    text = mermaid(Seq((A, B), Flow("main", "sequential", None)))
    assert text == (
        "flowchart TD\n"
        '    start(["event"])\n'
        '    subgraph frame0["main (sequential)"]\n'
        '        step0_0["a"]\n'
        '        step0_1["b"]\n'
        "        step0_0 --> step0_1\n"
        "    end\n"
        '    done(["result"])\n'
        "    start --> step0_0\n"
        "    step0_1 --> done\n"
    )


def test_parallel_branches_part_and_meet() -> None:
    """A Par forks to each branch and joins again; how many run at once and how they merge stand there."""
    text = mermaid(Par((A, B), concurrency=2, merge=Merge("strict")))
    assert {"fork0 --> step0_0", "fork0 --> step0_1", "step0_0 --> join0", "step0_1 --> join0", "join0 --> done"} <= arrows(text)
    assert "at most 2" in text
    assert "merge: strict" in text


def test_loop_leads_back() -> None:
    """A Loop ends in a question that leads back to its body or on, with condition and bound."""
    text = mermaid(Loop(A, 4, until=Unread("state.ok")))
    assert {"step0r1 --> again0", "again0 --> step0r1", "again0 --> done"} <= arrows(text)
    assert "state.ok?<br/>at most 4 rounds" in text


def test_route_leads_to_each_member_and_back() -> None:
    """A hand-off loop is one choice: each member may hand on or end."""
    text = mermaid(Loop(Branch((A, B), routes={"a": 0, "b": 1}), 33, is_handoff=True))
    assert {"choice0 --> step0r1_0", "step0r1_0 -.-> choice0", "step0r1_0 --> done", "choice0 --> step0r1_1"} <= arrows(text)
    assert "at most 32 hand-offs" in text


def test_branch_shows_its_conditions() -> None:
    """A Branch shows each condition at its arrow, and the else."""
    text = mermaid(Branch((A, B), (Unread("event.data.size < 10"),)))
    assert '-->|"event.data.size #60; 10"| step0_0' in text
    assert '-->|"else"| step0_1' in text


def test_statuses_colour_the_steps() -> None:
    """Steps are coloured by status; of a loop's rounds the last counts, and what is not in the plan is left out."""
    plan = Seq((A, Loop(B, 3), C))
    text = mermaid(plan, {"0.0": "completed", "0.1#1": "failed", "0.1#2": "running", "0.9": "completed", "0.2": "nonsense"})
    assert "    class step0_0 completed\n" in text
    assert "    class step0_1r1 running\n" in text
    assert sorted(re.findall(r"classDef (\w+)", text)) == ["completed", "running"]
    assert "step0_2 " not in "".join(line for line in text.splitlines() if " class " in line)


@pytest.mark.parametrize("name", ['"]; evil', "a`b", "<script>", "a|b", "#quot;", "end", "a\nb", "\u202e", "naïve"])
def test_no_name_breaks_the_diagram(name: str) -> None:
    """Whatever an agent is called, its box is one line with nothing in its label that Mermaid would read."""
    (line,) = [line.strip() for line in mermaid(Call(name)).splitlines() if line.strip().startswith("step0[")]
    label = re.fullmatch(r'step0\["(.*)"\]', line)
    assert label is not None
    assert re.fullmatch(r"(?:[^\W_]|[ _.,:=/+()-]|#\d+;)*", label[1])


def test_step_that_needs_an_approval_says_so() -> None:
    """Whoever looks at the plan sees where it waits for a person."""
    text = mermaid(Seq((A, Call("b", approval_timeout_s=60.0))))
    assert 'step0_0["a"]' in text
    assert 'step0_1["b<br/>after approval"]' in text


def test_large_plans_are_drawn_in_part() -> None:
    """Beyond a number of boxes what is left is drawn as one box each, so that a diagram is always made at once."""
    plan: Node = A
    for _ in range(12):
        plan = Seq((plan,) * 10)
    text = mermaid(plan)
    assert text.count('["') < MOST_BOXES + 200
    assert "…" in text


def test_sequence_without_steps_is_one_box() -> None:
    """A Seq that holds nothing is drawn as such."""
    assert '["nothing"]' in mermaid(Seq(()))


def test_a_call_says_who_else_may_be_called_for_it() -> None:
    """Its fallbacks in order, and who undoes it."""
    call = Call("a", approval_timeout_s=5.0, policy=Policy(fallback=(B, C), compensate=Call("u")))
    assert 'step0["a<br/>after approval<br/>or else b, c<br/>undone by u"]' in mermaid(call)


def test_a_flow_that_fails_leads_to_the_agent_of_its_on_error() -> None:
    """It stands beside the flow, in the colour of its step, and what follows the flow follows it too."""
    inner = Seq((A, B), Flow("inner", "sequential", rescue=C))
    text = mermaid(Seq((inner, A)), {"0.0.2": "failed"})
    assert {"frame0_0 -.-> step0_0_2", "step0_0_2 --> step0_1", "step0_0_1 --> step0_1"} <= arrows(text)
    assert "class step0_0_2 failed" in text
    loop = mermaid(Loop(A, 3, flow=Flow("main", "loop", rescue=C)), {"0#4": "failed"})
    assert {"frame0 -.-> step0rend", "step0rend --> done"} <= arrows(loop)
    hops = mermaid(Loop(Branch((A, B), routes={"a": 0, "b": 1}), 3, is_handoff=True, flow=Flow("main", "route", rescue=C)))
    assert {"frame0 -.-> step0r1_2", "step0r1_2 --> done"} <= arrows(hops)


def test_handlers_stand_beside_the_main_flow() -> None:
    """Each once, with what it is for; the only one has the colour of its step."""
    routes = ErrorRoutes(B, {"AF0505": A}, {"critical": B}, {"timeout": A})
    text = mermaid(Seq((C,), Flow("main", "sequential", errors=routes)), {"!": "failed"})
    assert 'frame0 -.->|"code AF0505, category timeout"| handler0' in text
    assert 'frame0 -.->|"severity critical, any failure"| handler1' in text
    assert {"handler0 --> done", "handler1 --> done"} <= arrows(text)
    assert "class handler" not in text
    assert "class handler0 failed" in mermaid(Seq((C,), Flow("main", "sequential", errors=ErrorRoutes(B))), {"!": "failed"})


def test_a_join_says_when_it_ends() -> None:
    """Its quorum and its deadline."""
    assert "merge: ordered<br/>2 must succeed<br/>after 1.5 s at most" in mermaid(Par((A, B, C), quorum=2, join_timeout_s=1.5))
