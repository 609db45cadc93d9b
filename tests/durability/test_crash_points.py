"""Random flows that die at random points of their journal, and what must be the same as if they had not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agentflow.errors import IllegalTransitionError
from tests.durability.checker import faults_of, standing_of, state_of
from tests.durability.flows import MODES, Case, cases
from tests.durability.world import Death, Life, World, one

WORK: Counter[str] = Counter()
MOST_LIVES = 60
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a case of many processes takes minutes to shrink


@pytest.fixture(autouse=True, scope="module")
def work() -> Iterator[None]:
    """Say at the end how much was done, and see that it was enough."""
    WORK.clear()
    yield
    print(f"\ncrash points: {dict(WORK)}")


def _said(result: Any) -> tuple[Any, ...]:
    error = result.error and (result.error.agent, result.error.position, result.error.type)
    return result.status, result.reason, result.state.to_dict(), result.outputs, error


def _unbroken(case: Case) -> Any:
    async def main(life: Life) -> Any:
        (result,) = await _live(life, case, ["event"])
        return _said(result)

    return World().process(main)


async def _drive(handle: Any, pauses: Sequence[float]) -> Any:
    """Say yes to all that waits for a person, pause a run for a second now and then, and return its result."""

    async def pause() -> None:
        for at_s in pauses:
            await asyncio.sleep(at_s)
            with suppress(IllegalTransitionError):
                await handle.pause("lunch")
                WORK["pauses"] += 1

    pausing = asyncio.ensure_future(pause())
    while await handle.wait() == "paused":
        await asyncio.sleep(1.0)
        for place in tuple(handle._run.waiting):
            WORK["approvals"] += await handle.approve(place)
        with suppress(IllegalTransitionError):
            await handle.resume()
    pausing.cancel()
    return await handle.result()


async def _live(life: Life, case: Case, ids: list[str], session_id: str | None = None, pauses: Sequence[float] = ()) -> list[Any]:
    """Emit what was not accepted yet, go on with what was, and return all results in the order of the ids."""
    runner = await life.start(case.runner(life.world))
    handles = {handle.event_id: handle for handle in await runner.resume()}
    for name in ids:
        if name not in handles:
            handles[name] = await runner.emit(one(case.target, {"n": 1}, id=name, session_id=session_id))
    results = await asyncio.gather(*[_drive(handles[name], pauses) for name in ids])
    await runner.stop()
    return results


def _survive(
    world: World,
    case: Case,
    deaths: list[Death],
    ids: list[str],
    commit_s: float,
    session_id: str | None = None,
    pauses: Sequence[float] = (),
) -> list[Any]:
    """Let one process after the other do the work until one lives long enough."""
    for life in range(MOST_LIVES):
        death = deaths[life] if life < len(deaths) else None
        results = world.process(lambda life: _live(life, case, ids, session_id, pauses), death, commit_s=commit_s)
        if results is not None:
            return results  # type: ignore[no-any-return] # what _live returned
    raise AssertionError("it never ended")


def _check(world: World) -> None:
    assert [] == world.faults
    for run_id in world.run_ids:
        run = world.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, world.store._plans.get(run.row.plan_hash))
    WORK["deaths"] += world.counts["deaths"]
    WORK["calls"] += world.counts["calls"]
    WORK["recovered"] += sum(world.types(run_id).count("WorkflowRecovering") for run_id in world.run_ids)
    WORK["effects"] += len(world.effects)


_deaths = st.lists(
    st.one_of(
        st.builds(Death, append=st.integers(1, 8), is_written=st.booleans()),
        st.builds(lambda at_s: Death(at_s=at_s), st.floats(0.0, 4.0)),
    ),
    min_size=1,
    max_size=5,
)


_pauses = st.lists(st.floats(0.0, 3.0), max_size=2)


def _examples(is_proof: bool) -> int:
    return 1000 if is_proof else 60


@pytest.mark.parametrize("mode", MODES)
def test_any_flow_that_dies_anywhere_ends_as_if_it_had_not(mode: str, is_proof: bool) -> None:
    """The end, the state and the outputs do not depend on where processes died, and each answer is recorded once."""

    @settings(max_examples=_examples(is_proof), suppress_health_check=list(HealthCheck), phases=PHASES)
    @given(case=cases(mode), deaths=_deaths, commit_s=st.sampled_from([0.0, 0.01]), pauses=_pauses)
    def check(case: Case, deaths: list[Death], commit_s: float, pauses: list[float]) -> None:
        world = World()
        (result,) = _survive(world, case, deaths, ["event"], commit_s, pauses=pauses)
        assert _unbroken(case) == _said(result)
        _check(world)
        run = world.store._runs[world.run_ids[0]]
        standing = standing_of(run.row.run_id, run.entries, run.row.plan_hash, world.store._plans[run.row.plan_hash])
        assert dict(result.state) == state_of(standing)

    before = WORK.copy()
    check()
    done = WORK - before
    print(f"\n{mode} flows that died: {dict(done)}")
    least = _examples(is_proof)
    assert done["deaths"] >= least // 3
    assert done["recovered"] >= least // 5
    assert done["effects"] >= least // 10


def test_a_session_keeps_its_order_whenever_it_dies(is_proof: bool) -> None:
    """Events of one session begin one after another in the order of their acceptance, in whichever process."""

    @settings(max_examples=_examples(is_proof), suppress_health_check=list(HealthCheck), phases=PHASES)
    @given(case=cases(), deaths=_deaths, commit_s=st.sampled_from([0.0, 0.01]))
    def check(case: Case, deaths: list[Death], commit_s: float) -> None:
        world = World()
        results = _survive(world, case, deaths, ["event-1", "event-2", "event-3"], commit_s, "session")
        expected = _unbroken(case)
        assert [expected] * 3 == [_said(result) for result in results]
        _check(world)
        assert ["event-1", "event-2", "event-3"] == [world.row(run_id).event_id for run_id in world.run_ids]
        called = [run_id for run_id, _, _ in world.ledger]
        assert sorted(called, key=world.run_ids.index) == called
        WORK["sessions"] += 1

    before = WORK.copy()
    check()
    done = WORK - before
    print(f"\nsessions that died: {dict(done)}")
    assert done["deaths"] >= _examples(is_proof) // 3
