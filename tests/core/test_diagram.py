"""Diagram: a plan as Mermaid text."""

from __future__ import annotations

import re

import pytest

from agentflow.core.diagram import MOST_BOXES, mermaid
from agentflow.core.merge import Merge
from agentflow.core.plan import (
    AGENDA,
    DELEGATION,
    MAILBOX,
    OVER,
    REVISION,
    STEPS,
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
    Seq,
    Unread,
)

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


def test_a_map_is_one_body_for_all_its_items() -> None:
    """What it goes through, how much of it at once, and what becomes of the results stand there."""
    text = mermaid(Seq((Map(A, OVER, key="files", concurrency=3, is_collecting=True), B)))
    assert {"fork0_0 --> step0_0i0", "step0_0i0 --> join0_0", "join0_0 --> step0_1"} <= arrows(text)
    assert "each of state.files<br/>at most 3 at once" in text
    assert "results in their order" in text


@pytest.mark.parametrize(("source", "told"), [(TASKS, "each task"), (STEPS, "every step"), (AGENDA, "what is to be done now")])
def test_a_map_with_several_ways_leads_to_each(source: str, told: str) -> None:
    """Each member has a box of its own."""
    text = mermaid(Map(Branch((A, B), routes={"a": 0, "skill": 0, "b": 1}), source))
    assert {"fork0 --> step0i0_0", "fork0 --> step0i0_1", "step0i0_0 --> join0", "step0i0_1 --> join0"} <= arrows(text)
    assert f"{told}<br/>at most 10 at once" in text
    assert "merge: ordered" in text


def test_one_item_at_a_time_is_no_more_than_that() -> None:
    """Where nothing can be done at once nothing is said of it."""
    assert '{{"the plan, if it is to be revised"}}' in mermaid(Map(A, REVISION, most=1))


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (DELEGATION, "done?<br/>at most 4 rounds"),
        (MAILBOX, "quiet?<br/>at most 4 messages"),
        (WAVES, "all done?<br/>at most 4 waves"),
    ],
)
def test_a_loop_with_an_agenda_says_when_it_is_over(kind: str, told: str) -> None:
    """In its question, which leads back or on."""
    text = mermaid(Loop(Seq((A, Map(Branch((B,), routes={"b": 0}), AGENDA))), 4, agenda=Agenda(kind, "a", 9)))
    assert told in text
    assert {"again0 --> step0r1_0", "join0r1_1 --> again0", "again0 --> done"} <= arrows(text)


def test_a_graph_is_drawn_with_its_ways() -> None:
    """Each node once, with what each way is taken for; a way to the end leads on, and so does a node that none leaves."""
    edges = (Edge("a", "b", Unread("state.n < 3")), Edge("a", "c"), Edge("b", "a"), Edge("c", "", Unread("state.ok")), Edge("c", "b"))
    body = Branch((A, Call("b", part=Part(on_error="route:c")), C, Call("d")), routes={"a": 0, "b": 1, "c": 2, "d": 3})
    text = mermaid(Seq((Loop(body, 12, is_handoff=True, entry="a", edges=edges, max_visits=3), Call("next"))))
    assert 'begin0_0(["each at most 3 times"])' in text
    assert 'step0_0r1_0 -->|"state.n #60; 3"| step0_0r1_1' in text
    assert 'step0_0r1_0 -->|"else"| step0_0r1_2' in text
    assert "step0_0r1_1 --> step0_0r1_0" in text
    assert 'step0_0r1_1 -.->|"on error"| step0_0r1_2' in text
    assert 'step0_0r1_2 -->|"state.ok"| step0_1' in text
    assert {"start --> begin0_0", "begin0_0 --> step0_0r1_0", "step0_0r1_3 --> step0_1"} <= arrows(text)
    once = mermaid(Loop(body, 4, is_handoff=True, entry="b", edges=edges, max_visits=1), {"0#2.1": "failed"})
    assert "start --> step0r1_1" in once
    assert "class step0r1_1 failed" in once


def test_a_decision_tree_is_drawn_with_its_questions() -> None:
    """Who is handed on to stands in it already, and has the colour of the last step that was taken there."""
    root = Branch((Branch((A, B), (Unread("state.x"),)), C), (Unread("event.data.n < 1"),))
    tree = Loop(Branch((root, A, B, Call("far")), routes={"": 0, "a": 1, "b": 2, "far": 3}), 3, is_handoff=True, entry="")
    text = mermaid(tree, {"0#1.0.0.1": "completed", "0#2.1": "failed", "0#3.3": "failed"})
    assert {"start --> hops0", "hops0 --> choice0r1_0", "choice0r1_0 --> step0r1_0_1", "step0r1_0_0_0 --> done"} <= arrows(text)
    assert "each may hand on, at most 2 times" in text
    assert 'choice0r1_0 -->|"event.data.n #60; 1"| choice0r1_0_0' in text
    assert re.findall(r"class (\w+) (\w+)\n", text) == [("step0r1_0_0_1", "completed"), ("step0r1_0_0_0", "failed")]
    assert "start --> choice0r1_0" in mermaid(Loop(tree.body, 1, is_handoff=True, entry=""))


def test_of_items_the_one_that_stands_worst_counts() -> None:
    """A box for many items has one colour: a failed one is not hidden by those that went well, but by a later round."""
    plan = Loop(Map(A, TASKS), 3)
    assert "class step0r1i0 failed" in mermaid(plan, {"0#1[0]": "completed", "0#1[1]": "failed", "0#1[2]": "completed"})
    assert "class step0r1i0 running" in mermaid(plan, {"0#1[1]": "failed", "0#2[0]": "completed", "0#2[1]": "running"})


def test_a_member_goes_by_its_title_or_id() -> None:
    """With the agent or flow that it is, where that has another name."""
    flow = Seq((B,), Flow("inner", "sequential", part=Part("look", title="Look it up")))
    text = mermaid(Seq((Call("a", part=Part("gather")), Call("c", part=Part("c")), flow)))
    assert 'step0_0["gather: a"]' in text
    assert 'step0_1["c"]' in text
    assert 'subgraph frame0_2["Look it up: inner (sequential)"]' in text
