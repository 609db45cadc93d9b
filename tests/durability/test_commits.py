"""How many commits a run costs: each is an fsync, so none may come in unseen."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow import Hook
from agentflow.core.append import Append
from tests.durability.world import Life, World, make, one


async def _count(event: Any, state: Any, ctx: Any) -> dict[str, int]:
    return {ctx.agent: 1}


def _types(append: Append) -> list[str]:
    return [entry.type for entry in append.entries]


@pytest.mark.parametrize("commit_s", [0.0, 0.01])
@pytest.mark.parametrize("is_hooked", [False, True])
def test_four_steps_in_a_row_are_five_commits(world: World, is_hooked: bool, commit_s: float) -> None:
    """One commit accepts and starts the first step, each completion starts the next, the end is in the last one's."""
    names = list("abcd")

    async def main(life: Life) -> list[Append]:
        runner = make({"mode": "sequential", "sequential_agents": names}, dict.fromkeys(names, _count))
        if is_hooked:
            for hook in Hook:
                runner.register_callback(hook, hook.value, lambda args: None)
        await life.start(runner)
        assert "completed" == (await runner.run(one())).status
        return life.door.seen

    seen = world.process(main, commit_s=commit_s)
    assert 5 == len(seen), [_types(append) for append in seen]
    assert ["WorkflowCreated", "StepStarted"] == _types(seen[0])
    patched = ["EventPatched"] * is_hooked
    assert [*patched, "StepCompleted", "StepStarted"] == _types(seen[1])
    assert [["StepCompleted", "StepStarted"]] * 2 == [_types(append) for append in seen[2:4]]
    assert ["StepCompleted", *patched * 2, "WorkflowCompleted"] == _types(seen[4])
    print(f"\ncommits: {len(seen)}, records: {sum(len(append.entries) for append in seen)}")


def test_all_branches_of_a_join_start_in_one_commit(world: World) -> None:
    """Eight parallel branches are started by one commit, and no branch pays one for its start."""
    names = list("abcdefgh")

    async def main(life: Life) -> list[Append]:
        runner = make({"mode": "collaborative", "collaborative_agents": names}, dict.fromkeys(names, _count))
        await life.start(runner)
        assert "completed" == (await runner.run(one())).status
        return life.door.seen

    seen = world.process(main)
    starts = [_types(append).count("StepStarted") for append in seen]
    assert [8] == [count for count in starts if count], [_types(append) for append in seen]
    assert len(seen) <= 9
    print(f"\ncommits: {len(seen)}, starts in the first: {starts[0]}")


def test_a_retry_starts_its_next_attempt_with_the_failure(world: World) -> None:
    """A failed attempt, its wait and the start of the next attempt share one commit."""

    async def once_bad(event: Any, state: Any, ctx: Any) -> None:
        if ctx.attempt == 1:
            raise OSError("busy")

    async def main(life: Life) -> list[Append]:
        runner = make({"mode": "sequential", "sequential_agents": ["a"], "retry_attempts": 1}, {"a": once_bad})
        await life.start(runner)
        assert "completed" == (await runner.run(one())).status
        return life.door.seen

    seen = [_types(append) for append in world.process(main)]
    assert [["WorkflowCreated", "StepStarted"], ["StepRetried", "StepStarted"], ["StepCompleted", "WorkflowCompleted"]] == seen


def test_an_event_that_waits_for_its_session_pays_one_more(world: World) -> None:
    """An event behind another one of its session is accepted by a commit of its own; nothing else of it costs more."""

    async def main(life: Life) -> list[Append]:
        runner = make({"mode": "sequential", "sequential_agents": ["a"]}, {"a": _count})
        await life.start(runner)
        first, second = await runner.emit(one(session_id="s")), await runner.emit(one(session_id="s"))
        await first.result()
        await second.result()
        return [append for append in life.door.seen if append.run_id == second.run_id]

    seen = [_types(append) for append in world.process(main, commit_s=0.01)]
    assert [["WorkflowCreated"], ["StepStarted"], ["StepCompleted", "WorkflowCompleted"]] == seen
