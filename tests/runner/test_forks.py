"""Forks of runs that have failed: what was done stays done, what failed begins again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, State
from agentflow.errors import PlanMismatchError

JOURNAL = {"journal": {"url": "memory:"}}
BAD = {"is_bad": True}


class Noting:
    """Handlers that note each call as agent and attempt, and fail while the state says so."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.effects: list[str] = []

    def handler(self, name: str, *, fails: bool = False, after_s: float = 0.0) -> Any:
        async def handle(event: Event, state: State, ctx: Any) -> dict[str, Any]:
            self.calls.append(f"{name}{ctx.attempt}")
            await asyncio.sleep(after_s)
            await ctx.once("effect", lambda: self.effects.append(name))
            if fails and state.get("is_bad"):
                raise OSError(f"{name} is bad")
            return {name: state.get(name, 0) + 1}

        return handle

    def taken(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


async def _forked(runner: Any, run_id: str, **how: Any) -> Any:
    result = await (await runner.fork(run_id, **how)).result()
    assert [] == await runner._history.verify()
    return result


async def test_the_failed_step_begins_anew(make_runner: Any) -> None:
    """It has all its retries again, keeps what `ctx.once` has recorded, and no other step is made again."""
    noting = Noting()
    handlers = {"a": noting.handler("a"), "b": noting.handler("b", fails=True), "c": noting.handler("c")}
    retry = {"max_retries": 2, "initial_delay_seconds": 1}
    flow = {"mode": "sequential", "sequential_agents": ["a", "b", "c"], "retry": retry}
    async with make_runner(flow, handlers, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        assert ["a1", "b1", "b2", "b3"] == noting.taken()
        still = await _forked(runner, origin.run_id)
        assert ("failed", ["b1", "b2", "b3"]) == (still.status, noting.taken())
        healed = await _forked(runner, still.run_id, set={"is_bad": False})
        assert ("completed", ["b1", "c1"]) == (healed.status, noting.taken())
        same = await _forked(runner, origin.run_id, at=(await runner.events(origin.run_id))[-1].seq)
        assert ("failed", []) == (same.status, noting.taken())
    assert {"is_bad": False, "a": 1, "b": 1, "c": 1} == dict(healed.state)
    assert ["a", "b", "c"] == noting.effects


@pytest.mark.parametrize("order", [["a", "b", "c", "d"], ["b", "c", "a", "d"], ["d", "b", "a", "c"]])
async def test_the_failed_branches_begin_anew(make_runner: Any, order: list[str]) -> None:
    """Of a parallel flow in which too many failed the failed branches are made again, whichever ended last; the others stay."""
    noting = Noting()
    handlers = {name: noting.handler(name, fails=name in "bc", after_s=order.index(name)) for name in order}
    flow = {"mode": "collaborative", "collaborative_agents": ["a", "b", "c", "d"], "failure_threshold": 0.25}
    async with make_runner(flow, handlers, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        assert ("failed", "threshold", 4) == (origin.status, origin.reason, len(noting.taken()))
        healed = await _forked(runner, origin.run_id, set={"is_bad": False})
    assert ("completed", ["b1", "c1"]) == (healed.status, sorted(noting.taken()))
    assert {"is_bad": False, "a": 1, "b": 1, "c": 1, "d": 1} == dict(healed.state)


async def test_what_began_because_of_a_failure_is_undone(make_runner: Any) -> None:
    """Where a parallel flow makes one branch at a time, those behind the failed one began because it had ended: they begin again."""
    noting = Noting()
    handlers = {name: noting.handler(name, fails=name == "b") for name in "abcd"}
    flow = {"mode": "collaborative", "collaborative_agents": [*"abcd"], "failure_threshold": 0, "max_concurrency": 1}
    async with make_runner(flow, handlers, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        assert ["a1", "b1", "c1", "d1"] == noting.taken()
        healed = await _forked(runner, origin.run_id, set={"is_bad": False})
    assert ("completed", ["b1", "c1", "d1"]) == (healed.status, noting.taken())


async def test_a_failure_that_others_build_on_stays(make_runner: Any) -> None:
    """A branch that failed and was borne with is not made again when a later step has failed the run."""
    noting = Noting()
    handlers = {name: noting.handler(name, fails=name in "bd") for name in "abcd"}
    flows = {"both": {"mode": "collaborative", "collaborative_agents": ["a", "b"], "failure_threshold": 0.5}}
    flow = {"mode": "sequential", "sequential_agents": ["both", "c", "d"]}
    async with make_runner(flow, handlers, flows=flows, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        assert ("failed", 4) == (origin.status, len(noting.taken()))
        healed = await _forked(runner, origin.run_id, set={"is_bad": False})
    assert ("partial", ["d1"], ["b"]) == (healed.status, noting.taken(), list(healed.errors))


async def test_a_loop_goes_on_in_the_round_that_failed(make_runner: Any) -> None:
    """The end of the loop, which came of the failure, is not the fork's."""
    noting = Noting()
    count = noting.handler("a")

    async def fail_in_round_3(event: Event, state: State, ctx: Any) -> Any:
        if state.get("is_bad") and state.get("a", 0) == 2:
            raise OSError("bad")
        return await count(event, state, ctx)

    flow = {"mode": "loop", "loop_agent": "a", "max_iterations": 4}
    async with make_runner(flow, {"a": fail_in_round_3}, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        assert ("failed", ["a1", "a1"]) == (origin.status, noting.taken())
        healed = await _forked(runner, origin.run_id, set={"is_bad": False})
        records = await runner.events(healed.run_id)
    assert ("completed", ["a1", "a1"], 4) == (healed.status, noting.taken(), healed.state["a"])
    assert 1 == sum(record.type == "LoopEnded" for record in records)


async def test_a_run_that_failed_behind_a_step_begins_again_at_it(make_runner: Any) -> None:
    """A run that failed although no step did, here for want of an agent to hand on to, makes its last step again."""
    calls: list[str] = []

    async def hand_on(event: Event, state: State) -> Any:
        calls.append("a")
        state.meta["route"] = "nowhere" if state.get("is_bad") else "b"

    async def end(event: Event, state: State) -> None:
        calls.append("b")

    async with make_runner({"mode": "route", "default_agent": "a"}, {"a": hand_on, "b": end}, **JOURNAL) as runner:
        origin = await runner.run(Event("", BAD))
        assert ("failed", ["a"]) == (origin.status, calls)
        healed = await _forked(runner, origin.run_id, set={"is_bad": False})
    assert ("completed", ["a", "a", "b"]) == (healed.status, calls)


async def test_a_fork_is_approved_by_itself(make_runner: Any) -> None:
    """A step that was rejected or approved in the old run and not done there asks anew in the fork, with a deadline of its own."""
    noting = Noting()
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    table = {"a": {"requires_approval": True, "approval_timeout_seconds": 100}}
    async with make_runner(flow, {"a": noting.handler("a", fails=True)}, agents=table, **JOURNAL) as runner:
        rejected = await runner.emit(Event("x"))
        assert "paused" == await rejected.wait()
        await rejected.reject("a")
        assert "failed" == (await rejected.result()).status
        failed = await runner.emit(Event("x", BAD))
        assert "paused" == await failed.wait()
        await failed.approve("a")
        assert "failed" == (await failed.result()).status
        assert ["a1"] == noting.taken()
        records = await runner.events(rejected.run_id)
        at = next(record.seq for record in records if record.type == "ApprovalRejected")
        for origin, how in ((rejected, {}), (failed, {"set": {"is_bad": False}}), (rejected, {"at": at})):
            fork = await runner.fork(origin.run_id, **how)
            assert "paused" == await fork.wait()
            (approval,) = (await runner.get(fork.run_id)).approvals
            assert (approval.deadline_at or 0) - (await runner.get(fork.run_id)).row.started_at > 99
            assert [] == noting.taken()
            assert await fork.approve("a", digest=approval.digest)
            assert ("completed", ["a1"]) == ((await fork.result()).status, noting.taken())
        assert [] == await runner._history.verify()


async def test_a_completed_run_has_nothing_to_begin_again(make_runner: Any) -> None:
    """A fork of a run that completed has done all that, and ends at once."""
    noting = Noting()
    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    async with make_runner(flow, {name: noting.handler(name) for name in "ab"}, **JOURNAL) as runner:
        origin = await runner.run(Event("x"))
        noting.taken()
        fork = await _forked(runner, origin.run_id, set={"a": 7})
    assert ("completed", [], {"a": 7, "b": 1}) == (fork.status, noting.taken(), dict(fork.state))


async def test_a_fork_walks_another_plan_from_the_failed_step(make_runner: Any, tmp_path: Path) -> None:
    """With `config` the failed step may be another agent's; what was done has to fit, and choices of the old plan do not count."""
    noting = Noting()
    handlers = {name: noting.handler(name, fails=name == "b") for name in "abc"}
    tables = "".join(f"[agents.{name}]\n" for name in "abc")
    for name, agents in (("other", '["a", "c"]'), ("unfit", '["c", "b"]')):
        text = f'[orchestration]\nmode = "sequential"\nsequential_agents = {agents}\n{tables}'
        (tmp_path / f"{name}.toml").write_text(text, encoding="utf-8")
    flow = {"mode": "sequential", "sequential_agents": ["a", "b"]}
    async with make_runner(flow, handlers, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        noting.taken()
        healed = await _forked(runner, origin.run_id, config=tmp_path / "other.toml")
        with pytest.raises(PlanMismatchError, match=r"0\.0"):
            await runner.fork(origin.run_id, config=tmp_path / "unfit.toml")
    assert ("completed", ["c1"]) == (healed.status, noting.taken())


@pytest.mark.parametrize("flow", [{"mode": "sequential", "sequential_agents": ["a", "b"]}, {"mode": "collaborative"}])
async def test_who_was_called_for_the_failure_is_no_part_of_a_fork(make_runner: Any, flow: dict[str, Any]) -> None:
    """The error handler and compensators of the old run are left out; should the fork fail too, it has its own."""
    noting = Noting()
    handlers = {
        "a": noting.handler("a"),
        "b": noting.handler("b", fails=True),
        "undo": noting.handler("undo"),
        "triage": noting.handler("triage"),
    }
    if flow["mode"] == "collaborative":
        flow = {**flow, "collaborative_agents": ["a", "b", "c"], "failure_threshold": 0.0}
        handlers["c"] = noting.handler("c", fails=True)
    last = ["triage1", "undo1"]
    more = {"agents": {"a": {"compensate": "undo"}}, "error_routing": {"error_handler": "triage"}}
    async with make_runner(flow, handlers, **more, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        assert last == noting.taken()[-2:]
        still = await _forked(runner, origin.run_id)
        failed = noting.taken()
        assert ("failed", last, "a1" in failed) == (still.status, failed[-2:], False)
        healed = await _forked(runner, still.run_id, set={"is_bad": False})
        assert ("completed", {*failed} - {*last}) == (healed.status, {*noting.taken()})


async def test_a_fork_of_a_lost_join_waits_for_all_of_its_branches_again(make_runner: Any) -> None:
    """Who failed, was cancelled or never began is called; who had ended is not."""
    noting = Noting()
    handlers = {"a": noting.handler("a"), "b": noting.handler("b", fails=True, after_s=1.0), "c": noting.handler("c", after_s=9.0)}
    flow = {"mode": "collaborative", "failure_threshold": 0.0, "fail_fast": True}
    async with make_runner(flow, handlers, **JOURNAL) as runner:
        origin = await runner.run(Event("x", BAD))
        assert ("failed", ["a1", "b1", "c1"]) == (origin.status, noting.taken())
        healed = await _forked(runner, origin.run_id, set={"is_bad": False})
        assert ("completed", ["b", "c"]) == (healed.status, [call[0] for call in noting.taken()])
