"""Hooks: when callbacks run, how often, in which order, and what they can change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentflow import AgentflowError, AgentResult, Event, Hook, HookArgs, Runner, State
from agentflow.errors import RegistrationError

MODES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "route": ({"mode": "route"}, ["a"]),
    "collaborative": ({"mode": "collaborative", "collaborative_agents": ["a", "b"]}, ["a", "b"]),
    "sequential": ({"mode": "sequential", "sequential_agents": ["a", "b"]}, ["a", "b"]),
    "loop": ({"mode": "loop", "loop_agent": "a", "max_iterations": 3}, ["a", "a", "a"]),
    "mixed": ({"mode": "mixed", "collaborative_agents": ["a"], "sequential_agents": ["b"]}, ["a", "b"]),
}
SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}
Make = Callable[..., Runner]


async def _nothing(event: Event, state: State) -> None:
    return None


def _failing(times: int = 99) -> Callable[..., Any]:
    calls: list[int] = []

    async def handler(event: Event, state: State) -> dict[str, int]:
        calls.append(1)
        if len(calls) <= times:
            raise ValueError(f"no {len(calls)}")
        return {"done": len(calls)}

    return handler


def _note(runner: Runner, into: list[Any]) -> None:
    for hook in Hook:

        def callback(args: HookArgs, registered: Hook = hook) -> None:
            into.append((registered.name, args.hook.name, args.agent))

        runner.register_callback(hook, "note", callback)


@pytest.mark.parametrize("mode", MODES)
async def test_case_34_each_point_once(make_runner: Make, mode: str) -> None:
    """In every mode the event hooks run once an event and the agent hooks once a step, in pairs around it."""
    flow, steps = MODES[mode]
    runner = make_runner(flow, {"a": _nothing, "b": _nothing})
    seen: list[Any] = []
    _note(runner, seen)
    async with runner:
        await runner.run(Event("a"))
    own = [(name, agent) for name, point, agent in seen if name == point]
    assert ("BEFORE_EVENT_HANDLING", "") == own[0]
    assert ("AFTER_EVENT_HANDLING", "") == own[-1]
    inner = own[1:-1]
    assert steps == sorted(agent for name, agent in inner if name == "BEFORE_AGENT_RUN")
    assert steps == sorted(agent for name, agent in inner if name == "AFTER_AGENT_RUN")
    assert 2 * len(steps) == len(inner)
    assert [(point, agent) for _, point, agent in seen[::2]] == [(point, agent) for _, point, agent in seen[1::2]]
    assert {"ALL"} == {name for name, _, _ in seen[1::2]}


@pytest.mark.parametrize("mode", MODES)
async def test_error_hook_once_a_failed_step(make_runner: Make, mode: str) -> None:
    """AGENT_ERROR runs once a step, after its last attempt, in every mode; AFTER_AGENT_RUN does not run for a failure."""
    flow, _ = MODES[mode]
    runner = make_runner({**flow, "retry": {"max_retries": 2}}, {"a": _failing(), "b": _nothing})
    seen: list[Any] = []
    runner.register_callback(Hook.AGENT_ERROR, "error", lambda args: seen.append(("error", args.agent, args.attempt, str(args.error))))
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "before", lambda args: seen.append(("before", args.agent)))
    runner.register_callback(Hook.AFTER_AGENT_RUN, "after", lambda args: seen.append(("after", args.agent)))
    async with runner:
        await runner.run(Event("a"))
    assert [("before", "a"), ("error", "a", 3, "no 3")] == [one for one in seen if one[1] == "a"]


async def test_case_36_order_of_registration_and_all_last(make_runner: Make) -> None:
    """Callbacks run in order of registration, those of ALL after them; later ones see what earlier ones changed."""
    runner = make_runner(SEQUENCE, {"a": _nothing})
    seen: list[Any] = []

    def callback(name: str) -> Callable[[HookArgs], None]:
        def run(args: HookArgs) -> None:
            args.state["trail"] = [*args.state.get("trail", []), name]
            seen.append((name, list(args.state["trail"])))

        return run

    runner.register_callback(Hook.ALL, "all", callback("all"))
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "cb2", callback("cb2"))
    runner.register_callback(Hook.BEFORE_AGENT_RUN, "cb1", callback("cb1"))
    async with runner:
        result = await runner.run(Event())
    assert ["all", "cb2", "cb1", "all", "all", "all"] == [name for name, _ in seen]
    assert ["all", "cb2", "cb1", "all", "all", "all"] == seen[-1][1] == result.state["trail"]


async def test_before_event_patch_is_the_first(make_runner: Make) -> None:
    """What BEFORE_EVENT_HANDLING writes, in place or as a returned State, is what the first agent sees."""
    seen: list[Any] = []

    async def a(event: Event, state: State) -> None:
        seen.append((dict(state), dict(state.meta)))

    for returned in (False, True):
        runner = make_runner(SEQUENCE, {"a": a})

        async def before(args: HookArgs, returned: bool = returned) -> State | None:
            assert args.agent == "" == args.position
            if returned:
                return State({"only": 1}, {"m": "1"})
            args.state["x"] = 1
            args.state.meta["m"] = "1"
            return None

        runner.register_callback(Hook.BEFORE_EVENT_HANDLING, "before", before)
        async with runner:
            await runner.run(Event(data={"in": 0}))
    assert [({"in": 0, "x": 1}, {"m": "1"}), ({"only": 1}, {"m": "1"})] == seen


async def test_before_event_exception_fails_the_run(make_runner: Make) -> None:
    """An exception in BEFORE_EVENT_HANDLING fails the run before any agent; AFTER_EVENT_HANDLING still runs, once."""
    seen: list[Any] = []

    async def a(event: Event, state: State) -> None:
        seen.append("a")

    runner = make_runner(SEQUENCE, {"a": a})

    @runner.on(Hook.BEFORE_EVENT_HANDLING)
    async def refuse(args: HookArgs) -> None:
        raise PermissionError("not today")

    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "after", lambda args: seen.append((args.result.status, str(args.error))))
    async with runner:
        result = await runner.run(Event())
    assert [("failed", "not today")] == seen
    assert ("failed", "before_event_handling", "PermissionError") == (result.status, result.error.stage, result.error.type)


@pytest.mark.parametrize("outcome", ["completed", "partial", "failed", "timed_out", "cancelled"])
async def test_after_event_on_every_outcome(make_runner: Make, outcome: str) -> None:
    """AFTER_EVENT_HANDLING runs once whatever the outcome, knows it, and its patch is the run's last."""
    seen: list[Any] = []

    async def slow(event: Event, state: State) -> None:
        await asyncio.sleep(99)

    handlers = {"a": _nothing, "b": {"completed": _nothing, "partial": _failing(), "failed": _failing()}.get(outcome, slow)}
    flow = {"mode": "collaborative", "failure_threshold": 0.5 if outcome == "partial" else 0}
    if outcome == "timed_out":
        flow["timeout_seconds"] = 1
    runner = make_runner(flow, handlers)

    async def after(args: HookArgs) -> None:
        seen.append((args.result.status, args.error is None))
        args.state["after"] = True

    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "after", after)
    async with runner:
        handle = await runner.emit(Event())
        if outcome == "cancelled":
            await asyncio.sleep(1)
            handle.cancel()
        result = await handle.result()
    assert [(outcome, outcome in ("completed", "partial"))] == seen
    assert (outcome, True) == (result.status, result.state["after"])


async def test_after_event_exception_is_logged(make_runner: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception in AFTER_EVENT_HANDLING is logged, the next callback runs, and the outcome stands."""
    runner = make_runner(SEQUENCE, {"a": _nothing})
    seen: list[str] = []

    @runner.on(Hook.AFTER_EVENT_HANDLING)
    def broken(args: HookArgs) -> None:
        raise SystemExit("broken hook")

    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "second", lambda args: seen.append("second"))
    async with runner:
        assert "completed" == (await runner.run(Event())).status
    assert ["second"] == seen
    assert "broken hook" in capsys.readouterr().err


async def test_injected_state_stays_for_retries(make_runner: Make) -> None:
    """BEFORE_AGENT_RUN runs once, and each attempt sees what it injected, freshly."""
    seen: list[Any] = []

    async def a(event: Event, state: State) -> dict[str, int]:
        seen.append((state["secret"], list(state["list"]), state.meta["who"]))
        state["list"].append(len(seen))
        if len(seen) < 3:
            raise ValueError("no")
        return {"done": 1}

    runner = make_runner({**SEQUENCE, "retry_attempts": 5}, {"a": a})
    calls: list[int] = []

    @runner.on(Hook.BEFORE_AGENT_RUN)
    async def inject(args: HookArgs) -> State:
        calls.append(1)
        state = args.state.clone()
        state.merge({"secret": 42, "list": [0]})
        state.meta["who"] = "hook"
        return state

    async with runner:
        result = await runner.run(Event())
    assert [(42, [0], "hook")] * 3 == seen
    assert [1] == calls
    assert {"secret": 42, "list": [0, 3], "done": 1} == result.outputs["a"]


async def test_veto_is_not_retried(make_runner: Make) -> None:
    """An exception in BEFORE_AGENT_RUN keeps the handler from running, is not retried, and AGENT_ERROR runs."""
    seen: list[Any] = []

    async def a(event: Event, state: State) -> None:
        seen.append("a")

    runner = make_runner({**SEQUENCE, "retry_attempts": 5}, {"a": a})
    veto = PermissionError("veto")

    @runner.on(Hook.BEFORE_AGENT_RUN)
    async def refuse(args: HookArgs) -> None:
        seen.append("before")
        raise veto

    runner.register_callback(Hook.AGENT_ERROR, "error", lambda args: seen.append(args.error))
    async with runner:
        result = await runner.run(Event())
    assert ["before", veto] == seen
    assert ("failed", "PermissionError", "a", "0.0") == (result.status, result.error.type, result.error.agent, result.error.position)


async def test_error_hook_recovers_by_returning_a_state(make_runner: Make) -> None:
    """A State from AGENT_ERROR is the step's answer: the run goes on, and AFTER_AGENT_RUN runs for it."""
    seen: list[Any] = []

    async def b(event: Event, state: State) -> dict[str, int]:
        return {"b": state["a"] + 1}

    runner = make_runner({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": _failing(), "b": b})

    @runner.on(Hook.AGENT_ERROR)
    async def recover(args: HookArgs) -> State:
        args.state["a"] = 7
        return args.state

    runner.register_callback(Hook.AGENT_ERROR, "later", lambda args: seen.append(("later", str(args.error), args.state["a"])))
    runner.register_callback(Hook.AFTER_AGENT_RUN, "after", lambda args: seen.append((args.agent, args.result.state["a"])))
    async with runner:
        result = await runner.run(Event())
    assert [("later", "no 1", 7), ("a", 7), ("b", 7)] == seen
    assert ("completed", {"a": 7, "b": 8}, None, {}) == (result.status, dict(result.state), result.error, result.errors)


async def test_error_hook_that_returns_none_observes(make_runner: Make) -> None:
    """AGENT_ERROR returning None changes nothing, whatever it wrote in place."""
    runner = make_runner(SEQUENCE, {"a": _failing()})

    @runner.on(Hook.AGENT_ERROR)
    def look(args: HookArgs) -> None:
        args.state["written"] = 1

    async with runner:
        result = await runner.run(Event())
    assert ("failed", "no 1", {}) == (result.status, result.error.message, dict(result.state))


async def test_error_hook_that_raises_replaces_the_error(make_runner: Make) -> None:
    """What AGENT_ERROR raises replaces the step's error, the old one being its cause; so it does after a recovery."""
    for recovers in (False, True):
        runner = make_runner(SEQUENCE, {"a": _failing()})
        if recovers:
            runner.register_callback(Hook.AGENT_ERROR, "recover", lambda args: args.state)

        @runner.on(Hook.AGENT_ERROR)
        async def translate(args: HookArgs) -> None:
            raise ConnectionError("translated")

        async with runner:
            result = await runner.run(Event())
        assert ("failed", "ConnectionError", "translated", "a") == (
            result.status,
            result.error.type,
            result.error.message,
            result.error.agent,
        )
        assert "no 1" == str(result.error.exception.__cause__)


async def test_hanging_error_hook_leaves_the_error_as_it_was(make_runner: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """AGENT_ERROR that does not end in the step's time is given up; the step fails with its own error."""
    runner = make_runner(SEQUENCE, {"a": _failing()}, agents={"a": {"timeout_seconds": 1}})

    @runner.on(Hook.AGENT_ERROR)
    async def hang(args: HookArgs) -> None:
        await asyncio.sleep(99)

    async with runner:
        result = await runner.run(Event())
    assert ("failed", "no 1") == (result.status, result.error.message)
    assert "hook_timed_out" in capsys.readouterr().err


async def test_after_agent_sees_the_answer_and_may_change_it(make_runner: Make) -> None:
    """AFTER_AGENT_RUN gets the AgentResult with route, attempts and duration; what it writes is part of the step's patch."""
    seen: list[Any] = []

    async def a(event: Event, state: State, ctx: Any) -> AgentResult:
        await asyncio.sleep(2)
        if ctx.attempt == 1:
            raise ValueError("no")
        return AgentResult({"a": 1}, route="b")

    runner = make_runner({"mode": "route", "retry_attempts": 1, "retry": {"jitter": False}}, {"a": a, "b": _nothing})

    @runner.on(Hook.AFTER_AGENT_RUN)
    def look(args: HookArgs) -> None:
        seen.append((args.agent, args.result.route, args.result.attempts, args.result.duration_s, args.result.state["a"]))
        args.state["seen"] = len(seen)

    async with runner:
        result = await runner.run(Event("a"))
    assert [("a", "b", 2, 5, 1), ("b", None, 1, 0, 1)] == seen
    assert {"a": {"a": 1, "seen": 1}, "b": {"seen": 2}} == result.outputs


async def test_after_agent_exception_is_logged(make_runner: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """An exception in AFTER_AGENT_RUN, or a wrong answer of a callback there, is logged; the step's answer stands."""

    async def a(event: Event, state: State) -> dict[str, int]:
        return {"a": 1}

    runner = make_runner(SEQUENCE, {"a": a})
    runner.register_callback(Hook.AFTER_AGENT_RUN, "raises", lambda args: 1 / 0)
    runner.register_callback(Hook.AFTER_AGENT_RUN, "answers", lambda args: 7)
    async with runner:
        result = await runner.run(Event())
    assert ("completed", {"a": 1}) == (result.status, dict(result.state))
    told = capsys.readouterr().err
    assert "ZeroDivisionError" in told
    assert "AgentAnswerError" in told


async def test_callback_may_register_and_remove_callbacks(make_runner: Make) -> None:
    """Registering or removing while a hook runs takes effect at its next point, not at the present one."""
    runner = make_runner({"mode": "loop", "loop_agent": "a", "max_iterations": 3}, {"a": _nothing})
    seen: list[str] = []

    @runner.on(Hook.BEFORE_AGENT_RUN)
    def first(args: HookArgs) -> None:
        seen.append("first")
        runner.unregister_callback(Hook.BEFORE_AGENT_RUN, "first")
        runner.register_callback(Hook.BEFORE_AGENT_RUN, "second", lambda args: seen.append("second"))

    async with runner:
        assert "completed" == (await runner.run(Event())).status
    assert ["first", "second", "second"] == seen


async def test_callbacks_and_observers_added_while_a_step_runs(make_runner: Make) -> None:
    """Hooks and observers that are added in the middle of a step without any count from then on, and harm nothing."""
    records: list[str] = []
    seen: list[str] = []

    async def a(event: Event, state: State) -> None:
        runner.observe(lambda record: records.append(record.type))
        runner.register_callback(Hook.AGENT_ERROR, "recover", lambda args: args.state)
        runner.register_callback(Hook.AFTER_AGENT_RUN, "after", lambda args: seen.append(args.agent))
        raise ValueError("no")

    runner = make_runner({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": a, "b": _nothing})
    async with runner:
        result = await runner.run(Event())
    assert ("completed", ["a", "b"]) == (result.status, seen)
    assert ["StepCompleted", "StepStarted", "StepCompleted", "WorkflowCompleted"] == records


async def test_observer_added_while_a_step_runs(make_runner: Make) -> None:
    """An observer that is added in the middle of a step gets its end."""
    records: list[Any] = []

    async def a(event: Event, state: State) -> None:
        runner.observe(records.append)

    runner = make_runner(SEQUENCE, {"a": a})
    async with runner:
        assert "completed" == (await runner.run(Event())).status
    assert ["StepCompleted", "WorkflowCompleted"] == [record.type for record in records]


async def test_case_36_unregister(make_runner: Make) -> None:
    """A removed callback no longer runs; removing ALL leaves the specific ones; removing a stranger is refused."""
    runner = make_runner(SEQUENCE, {"a": _nothing})
    seen: list[Any] = []
    _note(runner, seen)
    runner.unregister_callback(Hook.ALL, "note")
    runner.unregister_callback(Hook.BEFORE_AGENT_RUN, "note")
    async with runner:
        await runner.run(Event())
    assert ["BEFORE_EVENT_HANDLING", "AFTER_AGENT_RUN", "AFTER_EVENT_HANDLING"] == [name for name, _, _ in seen]
    with pytest.raises(RegistrationError, match="no callback named `note`"):
        runner.unregister_callback(Hook.ALL, "note")


def _two(first: Any, second: Any) -> None: ...


@pytest.mark.parametrize(
    ("hook", "name", "callback", "told"),
    [
        (Hook.ALL, "", print, "non-empty name"),
        (Hook.ALL, None, print, "non-empty name"),
        (Hook.ALL, "n", None, "is None, not a function"),
        (Hook.ALL, "n", _two, "does not take exactly one argument"),
        (Hook.ALL, "n", lambda: None, "does not take exactly one argument"),
        (Hook.ALL, "n", State, "not a function"),
        ("before_agent_run", "n", print, "unknown hook 'before_agent_run'"),
        (None, "n", print, "unknown hook None"),
    ],
)
def test_refused_registrations(make_runner: Make, hook: Any, name: Any, callback: Any, told: str) -> None:
    """A callback that could not work is refused when it is registered."""
    runner = make_runner(SEQUENCE, {"a": _nothing})
    with pytest.raises(RegistrationError, match=told):
        runner.register_callback(hook, name, callback)


def test_refusal_shows_the_wrong_and_the_right_line(make_runner: Make) -> None:
    """A callback with wrong parameters is shown beside the right form; a name taken on the hook is refused, on another it is fine."""
    runner = make_runner(SEQUENCE, {"a": _nothing})
    with pytest.raises(RegistrationError) as caught:
        runner.register_callback(Hook.ALL, "n", _two)
    assert "wrong: def _two(first" in str(caught.value)
    assert "right: async def callback(args): ..." in str(caught.value)
    runner.register_callback(Hook.ALL, "n", print)
    runner.register_callback(Hook.AGENT_ERROR, "n", print)
    with pytest.raises(RegistrationError, match="already registered on ALL"):
        runner.register_callback(Hook.ALL, "n", print)


async def test_callback_emits_through_the_runner(make_runner: Make) -> None:
    """`args.runner` takes events from a callback; their runs are ordinary runs."""

    async def log(event: Event, state: State) -> dict[str, str]:
        return {"from": event.data["run"]}

    runner = make_runner({"mode": "route"}, {"a": _nothing, "log": log})
    handles: list[Any] = []

    @runner.on(Hook.AFTER_AGENT_RUN)
    async def audit(args: HookArgs) -> None:
        if args.agent == "a":
            handles.append(await args.runner.emit(Event("log", {"run": args.run_id})))

    async with runner:
        result = await runner.run(Event("a"))
        assert result.run_id == (await handles[0].result()).state["from"]


async def test_case_36_fifty_at_once_are_counted(make_runner: Make) -> None:
    """Callbacks of many concurrent events run as often as there are events."""
    runner = make_runner(SEQUENCE, {"a": _nothing})
    counts: dict[Hook, int] = {}

    @runner.on(Hook.ALL)
    async def count(args: HookArgs) -> None:
        await asyncio.sleep(0.01)
        counts[args.hook] = counts.get(args.hook, 0) + 1

    async with runner:
        await asyncio.gather(*(runner.run(Event()) for _ in range(50)))
    assert dict.fromkeys([Hook.BEFORE_EVENT_HANDLING, Hook.BEFORE_AGENT_RUN, Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING], 50) == counts


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError(), RecursionError(), MemoryError()]
)
@pytest.mark.parametrize(
    "hook", [Hook.BEFORE_EVENT_HANDLING, Hook.BEFORE_AGENT_RUN, Hook.AGENT_ERROR, Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING]
)
async def test_callback_may_raise_anything(make_runner: Make, hook: Hook, error: BaseException) -> None:
    """Whatever a callback raises, only its own run sees it."""
    runner = make_runner({"mode": "route"}, {"a": _failing() if hook is Hook.AGENT_ERROR else _nothing, "b": _nothing})

    @runner.on(hook)
    async def raising(args: HookArgs) -> None:
        if args.event.target == "a":
            raise error

    async with runner:
        first, second = await asyncio.gather(runner.run(Event("a")), runner.run(Event("b")))
    assert "completed" == second.status
    if hook in (Hook.AFTER_AGENT_RUN, Hook.AFTER_EVENT_HANDLING):
        assert "completed" == first.status
    else:
        assert ("failed", type(error).__name__) == (first.status, first.error.type)


async def test_what_callbacks_emit_is_bounded(make_runner: Any) -> None:
    """A callback that answers each event with another stops at 100 events for the first one."""
    refused: asyncio.Future[str] = asyncio.Future()

    async def again(args: HookArgs) -> None:
        try:
            await args.runner.emit(Event("a"))
        except AgentflowError as error:
            refused.set_result(error.code)

    counted: list[str] = []

    async def count(event: Event, state: State) -> None:
        counted.append(event.target)

    runner = make_runner({}, {"a": count})
    runner.register_callback(Hook.AFTER_EVENT_HANDLING, "again", again)
    async with runner:
        await runner.run(Event("a"))
        assert ("AF0507", 101) == (await refused, len(counted))


async def test_event_hooks_are_part_of_the_events_time(make_runner: Any) -> None:
    """A callback around the event that hangs is cut off when the event's time is up."""

    async def hang(args: HookArgs) -> None:
        await asyncio.Event().wait()

    for hook, status in ((Hook.BEFORE_EVENT_HANDLING, "timed_out"), (Hook.AFTER_EVENT_HANDLING, "completed")):
        runner = make_runner({"timeout_seconds": 0.2}, {"a": _nothing})
        runner.register_callback(hook, "hang", hang)
        async with runner:
            result = await runner.run(Event("a"))
        assert (status, True) == (result.status, (result.timing.duration_s or 0) < 0.5)


async def test_a_route_set_by_a_callback_does_not_stay(make_runner: Any) -> None:
    """A route in the metadata of a state steers or is dropped; it never stays in the state."""

    async def steer(args: HookArgs) -> None:
        args.state.meta["route"] = "b"

    runner = make_runner({"mode": "sequential", "sequential_agents": ["a", "b"]}, {"a": _nothing, "b": _nothing})
    runner.register_callback(Hook.ALL, "steer", steer)
    async with runner:
        result = await runner.run(Event())
    assert ("completed", {}) == (result.status, dict(result.state.meta))


async def _nothing(event: Event, state: State) -> None:
    """Do nothing."""
