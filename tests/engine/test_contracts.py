"""Contracts: what flows and agents declare of the state holds for each step, and what is recorded fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agentflow import AgentResult, Event, Hook, HookArgs, Runner, State
from agentflow.core.records import EventPatched, StepCompleted
from agentflow.engine import contracts

MakeRunner = Callable[..., Runner]
Handler = Callable[..., Any]
STATE: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["score", "text"],
    "properties": {"score": {"type": "number", "maximum": 1}, "text": {"type": "string"}},
}
ANSWER = {"required": ["score"], "properties": {"score": {"type": "number", "maximum": 1}}}


def gives(*answers: Any) -> Handler:
    """Return a handler that gives one answer after the other, the last one again and again; it notes what it was told."""
    left = list(answers)

    async def handler(event: Event, state: State) -> Any:
        handler.told.append(event.data.get("correction"))  # type: ignore[attr-defined]
        answer = left.pop(0) if len(left) > 1 else left[0]
        return answer(state) if callable(answer) else answer

    handler.told = []  # type: ignore[attr-defined]
    return handler


def sequence(*names: str, **keys: Any) -> dict[str, Any]:
    return {"mode": "sequential", "sequential_agents": list(names), **keys}


@pytest.mark.parametrize("sections", [{}, {"journal": {"url": "memory:"}}])
async def test_a_patch_that_does_not_fit_fails_its_step(make_runner: MakeRunner, sections: Any) -> None:
    """The error names the place; the state is what it was before the step; the steps before it passed without the required keys."""
    handlers = {"a": gives({"score": 0.5}), "b": gives({"text": 3, "colour": "red"})}
    async with make_runner(sequence("a", "b", state_schema=STATE), handlers, **sections) as runner:
        result = await runner.run(Event())
    assert (result.status, dict(result.state)) == ("failed", {"score": 0.5})
    assert result.error is not None
    assert (result.error.code, result.error.type, result.error.agent, result.error.position) == ("AF0305", "PatchRefusedError", "b", "0.1")
    assert result.error.category == "validation"
    assert "`state.colour`: no such key is allowed; `state.text`: 3 is not of type 'string'" in result.error.message


async def test_it_is_not_tried_again_unless_it_is_named(make_runner: MakeRunner) -> None:
    """A bad answer is not retried by default; a retry list may name its class or its code."""
    retry = {"max_retries": 2, "initial_delay_seconds": 0.01}
    for named, attempts in ((None, 1), (["AF0305"], 3), (["AgentAnswerError"], 3), (["TimeoutError"], 1)):
        table = {**retry, **({"retryable_errors": named} if named else {})}
        runner = make_runner(sequence("a", state_schema=STATE), {"a": gives({"score": 3})}, agents={"a": {"retry": table}})
        async with runner:
            result = await runner.run(Event())
        assert result.error is not None
        assert (result.error.code, result.error.attempts) == ("AF0305", attempts), named


@pytest.mark.parametrize("keys", [{"state_schema": STATE}, {}])
async def test_an_agent_is_told_what_was_wrong(make_runner: MakeRunner, keys: Any) -> None:
    """self_correct applies, to the flow's schema as to the agent's own."""
    handler = gives({"score": 3}, {"score": 0.3})
    table = {"self_correct": 1} | ({} if keys else {"output_schema": ANSWER})
    async with make_runner(sequence("a", **keys), {"a": handler}, agents={"a": table}) as runner:
        result = await runner.run(Event())
    assert (result.status, dict(result.state)) == ("completed", {"score": 0.3})
    first, second = handler.told  # type: ignore[attr-defined]
    assert first is None
    assert second["attempt"] == 1
    assert "score`: 3 is greater than the maximum of 1" in second["error"]


async def test_each_state_around_holds(make_runner: MakeRunner) -> None:
    """A step of a flow in a flow fits both; a step beside the inner flow only the outer one."""
    inner = sequence("a", state_schema={"properties": {"text": {"maxLength": 3}}})
    outer = sequence("inner", "b", state_schema={"properties": {"text": {"type": "string"}}})
    for a, b, told in (("long", "long", "flow `inner`"), (3, "x", "flow `main`"), ("abc", 4, "flow `main`"), ("abc", "long", "")):
        runner = make_runner(
            outer,
            {"a": gives({"text": a}), "b": gives({"text": b})},
            flows={"inner": inner},
            agent_flow={"name": "main"},
        )
        async with runner:
            result = await runner.run(Event())
        assert (told in str(result.error)) if told else result.status == "completed", (a, b)


@pytest.mark.parametrize(
    "flow",
    [
        {"mode": "collaborative", "collaborative_agents": ["a"]},
        {"mode": "loop", "loop_agent": "a", "max_iterations": 2},
        {"mode": "route", "default_agent": "a"},
        {"mode": "mixed", "collaborative_agents": ["a"]},
        {"mode": "parallel", "steps": [{"id": "s", "agent": "a", "input": 3}]},
        {"mode": "pipeline", "sequential_agents": ["a"]},
        {"mode": "supervisor", "supervisor": "lead", "agents": ["a"]},
    ],
)
async def test_a_state_schema_holds_in_every_mode(make_runner: MakeRunner, flow: Any) -> None:
    """Whoever walks the plan."""
    handlers = {"a": gives({"score": 3}), "lead": gives({"next": "a"}, {"done": True})}
    schema = {"properties": {"score": {"maximum": 1}}}
    async with make_runner({**flow, "state_schema": schema}, handlers) as runner:
        result = await runner.run(Event("a"))
    assert "AF0305" in {failure.code for failure in result.errors.values()}
    assert "score" not in result.state


async def test_the_keys_of_a_loop_are_no_part_of_the_state(make_runner: MakeRunner) -> None:
    """`loop_complete` steers, whatever the schema allows and the agent declares."""
    flow = {"mode": "loop", "loop_agent": "a", "state_schema": STATE}
    runner = make_runner(flow, {"a": gives({"score": 0.1, "loop_complete": True})}, agents={"a": {"writes": ["score"]}})
    async with runner:
        result = await runner.run(Event())
    assert (result.status, result.reason, dict(result.state)) == ("completed", "condition_met", {"score": 0.1})


@pytest.mark.parametrize("lead", ["lead", "desk"])
async def test_the_keys_by_which_an_answer_steers_are_no_part_of_the_state(make_runner: MakeRunner, lead: str) -> None:
    """`next` and `done` of a supervisor, an agent or a flow, need no declaration and no place in the schema."""
    flow = {"mode": "supervisor", "supervisor": lead, "agents": ["a"], "state_schema": STATE}
    handlers = {"a": gives({"score": 0.5}), "lead": gives({"next": "a"}, {"done": True})}
    flows = {"desk": sequence("lead")}
    async with make_runner(flow, handlers, agents={"lead": {"writes": []}}, flows=flows) as runner:
        result = await runner.run(Event())
    assert (result.status, dict(result.state)) == ("completed", {"score": 0.5})


async def test_a_removal_fits(make_runner: MakeRunner) -> None:
    """Also of a required key: what is required says nothing of one step. Data of the event is not looked at."""

    def drop(state: State) -> None:
        del state["score"]
        del state["colour"]

    async with make_runner(sequence("a", state_schema=STATE), {"a": gives(drop)}) as runner:
        result = await runner.run(Event(data={"score": 9, "colour": "red"}))
    assert (result.status, dict(result.state)) == ("completed", {})


# --- answers ---


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"score": 0.5}, ""),
        (AgentResult({"score": 0.5}), ""),
        (lambda state: state.update(score=0.5), ""),
        (lambda state: State({"score": 0.5}), ""),
        ({}, "`answer`: 'score' is a required property"),
        (None, "`answer`: 'score' is a required property"),
        ({"score": "high"}, "`answer.score`: 'high' is not of type 'number'"),
    ],
)
async def test_an_answer_fits_its_schema_as_a_whole(make_runner: MakeRunner, answer: Any, told: str) -> None:
    """However it is given; what is required has to be in it."""
    async with make_runner(sequence("a"), {"a": gives(answer)}, agents={"a": {"output_schema": ANSWER}}) as runner:
        result = await runner.run(Event())
    assert (told in str(result.error) and result.error and result.error.code == "AF0305") if told else result.status == "completed"


async def test_an_answer_that_the_state_has_already_is_one(make_runner: MakeRunner) -> None:
    """A patch is the difference; who says again what is there has answered, who says nothing has not."""
    flow = {"mode": "loop", "loop_agent": "a", "max_iterations": 3}
    for again, status in (({"score": 0.5}, "completed"), ({"other": 1}, "failed")):
        runner = make_runner(flow, {"a": gives({"score": 0.5}, again)}, agents={"a": {"output_schema": ANSWER}})
        async with runner:
            result = await runner.run(Event())
        assert result.status == status, again


async def test_an_agent_that_stands_in_has_its_own_contract(make_runner: MakeRunner) -> None:
    """The first one's answer does not fit its schema, so the next in line answers, held to its own and the flow's."""
    tables = {"a": {"output_schema": ANSWER, "fallback": ["b", "c"]}, "b": {"writes": ["text"]}, "c": {}}
    handlers = {"a": gives({"score": 3}), "b": gives({"score": 0.5}), "c": gives({"text": "x"})}
    async with make_runner(sequence("a"), handlers, agents=tables) as runner:
        result = await runner.run(Event())
    assert (result.status, dict(result.state)) == ("completed", {"text": "x"})


# --- declared keys ---


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"scor": 1}, "`a` set `state.scor`, which the agent's `writes` does not name; did you mean `score`?"),
        (lambda state: state.pop("topic") and None, "`a` removed `state.topic`"),
        (lambda state: State({"score": 1}), "`a` removed `state.topic`"),
        ({"score": 1, "topic": "tea"}, ""),
    ],
)
async def test_a_step_sets_and_removes_only_what_it_declares(make_runner: MakeRunner, answer: Any, told: str) -> None:
    """What it leaves as it is counts for nothing."""
    async with make_runner(sequence("a"), {"a": gives(answer)}, agents={"a": {"writes": ["score"]}}) as runner:
        result = await runner.run(Event(data={"topic": "tea"}))
    assert (told in str(result.error) and result.error and result.error.code == "AF0306") if told else result.status == "completed"
    assert result.state["topic"] == "tea"


async def test_who_declares_nothing_to_write_writes_nothing(make_runner: MakeRunner) -> None:
    """An empty list is one."""
    for answer, status in ((None, "completed"), ({"x": 1}, "failed")):
        async with make_runner(sequence("a"), {"a": gives(answer)}, agents={"a": {"writes": []}}) as runner:
            assert (await runner.run(Event())).status == status


# --- callbacks ---


@pytest.mark.parametrize("agents", [{"a": {"writes": ["score"]}}, {"a": {}}])
async def test_what_a_callback_puts_before_an_agent_is_held_to_the_same(make_runner: MakeRunner, agents: Any) -> None:
    """It becomes part of the step: one that does not fit is a veto, and the agent is not asked."""
    handler = gives({"score": 0.5})
    schema = {} if agents["a"] else {"state_schema": STATE}

    async def inject(args: HookArgs) -> None:
        args.state["colour"] = "red"

    runner = make_runner(sequence("a", **schema), {"a": handler}, agents=agents)
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "inject", inject)
    async with runner:
        result = await runner.run(Event())
    assert handler.told == []  # type: ignore[attr-defined]
    assert result.error is not None
    assert result.error.code == ("AF0305" if schema else "AF0306")
    assert "callback before `a`" in result.error.message


async def test_what_a_callback_makes_of_an_answer_fits_or_is_dropped(make_runner: MakeRunner) -> None:
    """As one that raises: it is logged, and the agent's own answer is recorded. A later callback may still change it."""
    told: list[Any] = []

    async def spoil(args: HookArgs) -> None:
        args.state["score"] = 3

    async def shorten(args: HookArgs) -> None:
        args.state["text"] = "short"

    runner = make_runner(sequence("a", state_schema=STATE), {"a": gives({"score": 0.5})}, journal={"url": "memory:"})
    runner.observe(lambda record: told.append(record.fact) if isinstance(record.fact, StepCompleted) else None)
    runner.register_callback(Hook.AFTER_AGENT_RUN, "spoil", spoil)
    runner.register_callback(Hook.AFTER_AGENT_RUN, "shorten", shorten)
    async with runner:
        result = await runner.run(Event())
    assert (result.status, dict(result.state)) == ("completed", {"score": 0.5, "text": "short"})
    assert [one.patch.values() for one in told] == [{"score": 0.5, "text": "short"}]


async def test_an_answer_that_a_callback_gives_for_a_failed_agent_fits(make_runner: MakeRunner) -> None:
    """Else the step fails with that error."""

    def boom(state: State) -> Any:
        raise OSError("away")

    for score, code in ((0.5, None), (3, "AF0305")):

        async def answer(args: HookArgs, score: float = score) -> State:
            args.state["score"] = score
            return args.state

        runner = make_runner(sequence("a", state_schema=STATE), {"a": gives(boom)}, agents={"a": {"output_schema": ANSWER}})
        runner.register_callback(Hook.AGENT_ERROR, "answer", answer)
        async with runner:
            result = await runner.run(Event())
        assert (result.error and result.error.code) == code
        assert result.state.get("score") == (0.5 if code is None else None)


async def test_callbacks_around_an_event_are_held_to_the_main_state(make_runner: MakeRunner) -> None:
    """Before it the run fails, after it the change is dropped, each as when the callback raises."""
    for hook, status in ((Hook.BEFORE_EVENT_HANDLING, "failed"), (Hook.AFTER_EVENT_HANDLING, "completed")):
        told: list[Any] = []

        async def spoil(args: HookArgs) -> None:
            args.state["colour"] = "red"

        runner = make_runner(sequence("a", state_schema=STATE), {"a": gives(None)}, journal={"url": "memory:"})
        runner.observe(lambda record, told=told: told.append(record.fact))
        runner.register_callback(hook, "spoil", spoil)
        async with runner:
            result = await runner.run(Event())
        assert (result.status, dict(result.state)) == (status, {}), hook
        assert [one.patch.data for one in told if isinstance(one, EventPatched) and one.patch.data] == []


# --- what combines, stands in, or is kept ---


async def test_what_a_join_combines_fits(make_runner: MakeRunner) -> None:
    """Each branch fits by itself, and their sum does not: the join fails, the outputs stay."""
    flow = {"mode": "collaborative", "merge": {"score": "sum"}, "state_schema": STATE}
    async with make_runner(flow, {"a": gives({"score": 0.6}), "b": gives({"score": 0.7})}) as runner:
        result = await runner.run(Event())
    assert result.error is not None
    assert (result.error.code, dict(result.state)) == ("AF0305", {})
    assert "what the branches came to together" in result.error.message
    assert result.outputs == {"a": {"score": 0.6}, "b": {"score": 0.7}}


async def test_a_default_output_that_does_not_fit_is_no_answer(make_runner: MakeRunner) -> None:
    """The flow's state is not the agent's to know when it is read: the step fails, and is not degraded."""
    tables = {"a": {"default_output": {"score": 3}}}
    async with make_runner(sequence("a", state_schema=STATE), {"a": gives(1)}, agents=tables) as runner:
        result = await runner.run(Event())
    assert result.error is not None
    assert (result.status, result.error.code, dict(result.state)) == ("failed", "AF0305", {})
    assert "degraded" not in result.flags


async def test_a_refused_answer_is_not_kept_for_others(make_runner: MakeRunner) -> None:
    """A cache keeps answers, and that is none."""
    handler = gives({"score": 3}, {"score": 0.5})
    tables = {"a": {"output_schema": ANSWER, "cache": {"ttl_seconds": 60}}}
    async with make_runner(sequence("a"), {"a": handler}, agents=tables) as runner:
        found = [(await runner.run(Event())).status for _ in range(3)]
    assert found == ["failed", "completed", "completed"]
    assert len(handler.told) == 2  # type: ignore[attr-defined]


async def test_an_answer_that_was_kept_elsewhere_is_held_to_the_state_here(make_runner: MakeRunner) -> None:
    """A cache serves all flows: what fits one need not fit another, which asks anew."""
    flows = {"strict": sequence("a", state_schema=STATE)}
    tables = {"a": {"cache": {"ttl_seconds": 60}}}
    async with make_runner(sequence("a"), {"a": gives({"score": 3})}, agents=tables, flows=flows) as runner:
        free = await runner.run(Event())
        strict = await runner.run(Event(metadata={"orchestration_override": "strict"}))
    assert (free.status, strict.status, dict(strict.state)) == ("completed", "failed", {})


async def test_who_handles_a_failure_is_held_to_the_main_state(make_runner: MakeRunner) -> None:
    """The error handler's answer is set on the run's state, too."""

    def boom(state: State) -> Any:
        raise OSError("away")

    for answer, status in (({"text": "sorry", "recovered": True}, "partial"), ({"colour": "red", "recovered": True}, "failed")):
        handlers = {"a": gives(boom), "h": gives(answer)}
        tables = {"h": {"writes": ["text", "colour"]}}
        runner = make_runner(sequence("a", state_schema=STATE), handlers, agents=tables, error_routing={"error_handler": "h"})
        async with runner:
            result = await runner.run(Event())
        assert result.status == status, answer
        assert "colour" not in result.state


@pytest.mark.parametrize("sections", [{}, {"journal": {"url": "memory:"}}])
async def test_runs_beside_are_held_to_their_agents_contracts(make_runner: MakeRunner, sections: Any) -> None:
    """What goes on in the background, and who takes an event beside its target: the run itself goes on, theirs fail."""
    tables = {"a": {"background": True, "output_schema": ANSWER}, "c": {"subscribes": ["order.*"], "writes": []}}
    handlers = {"a": gives({"score": 3}), "b": gives({"ok": True}), "c": gives({"seen": 1})}
    async with make_runner(sequence("a", "b"), handlers, agents=tables, **sections) as runner:
        handle = await runner.emit(Event("order.new"))
        result = await handle.result()
        beside = [run for run in (await handle.tree()).values() if run.run_id != result.run_id]
    assert (result.status, dict(result.state)) == ("completed", {"ok": True})
    assert sorted((run.status, run.error and run.error.code) for run in beside) == [("failed", "AF0305"), ("failed", "AF0306")]


async def test_programs_without_contracts_never_ask(make_runner: MakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the way of most steps, nor of those that are admitted to each attempt, is anything looked up."""
    for name in ("hold_to", "hold_to_state", "schemas_around"):
        monkeypatch.setattr(contracts, name, lambda *_: pytest.fail("a program without contracts was asked for them"))
    async with make_runner(sequence("a", "b"), {"a": gives({"x": 1}), "b": gives({"y": 2})}, agents={"a": {"self_correct": 1}}) as runner:
        assert (await runner.run(Event())).status == "completed"
