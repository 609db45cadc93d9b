"""Patterns in each other, three deep, whose process dies at any record: what must be the same as if it had not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agentflow.core.records import StepCompleted, StepFailed
from agentflow.errors import IllegalTransitionError
from tests.durability.checker import faults_of, standing_of, state_of
from tests.durability.patterns import MODES, Nest, cut_nests, nests
from tests.durability.world import Death, Life, World, make, one
from tests.runner.test_pattern_cases import rehearse

PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a case of many processes takes minutes to shrink
MOST_LIVES = 60


def _told(result: Any) -> dict[str, Any]:
    """Return what a run came to; a death makes one attempt more, so these are not counted."""
    row = result.to_dict()
    told = {name: row[name] for name in ("status", "reason", "state", "conflicts")}
    failures = [(name, failure.to_dict()) for name, failure in [("", result.error), *result.errors.items()] if failure is not None]
    for _, failure in failures:
        failure.pop("attempts", None)
    return told | {"outputs": list(result.outputs.items()), "keys": list(result.state), "failures": failures}


async def _pause(handle: Any, pauses: Sequence[float]) -> None:
    for at_s in pauses:
        await asyncio.sleep(at_s)
        with suppress(IllegalTransitionError):
            await handle.pause("lunch")


class _Worker:
    """One case in a world of its own, whose processes do it one after the other."""

    def __init__(self, nest: Nest, rests: int, snapshot_every: int, commit_s: float = 0.0, *, is_cut: bool = False) -> None:
        self.world = World()
        self.appends = 0
        self._is_cut = is_cut
        self._pauses: Sequence[float] = ()
        self._nest, self._rests, self._snapshot_every, self._commit_s = nest, rests, snapshot_every, commit_s

    def survive(self, deaths: Sequence[Death], pauses: Sequence[float] = ()) -> dict[str, Any]:
        """Die as told, then live, be paused for a moment now and then, and say what the run came to."""
        self._pauses = pauses
        for life in range(MOST_LIVES):
            death = deaths[life] if life < len(deaths) else None
            told = self.world.process(self._live, death, commit_s=self._commit_s)
            if told is not None:
                self._check(told)
                return told  # type: ignore[no-any-return] # what _live returned
        raise AssertionError("it never ended")

    async def _live(self, life: Life) -> dict[str, Any]:
        runner = await life.start(self._nest.runner(self._note, self._rests, self.world.effect, self._snapshot_every))
        handles = await runner.resume() or [await runner.emit(self._nest.event("event"))]
        handle = handles[0]
        pausing = asyncio.ensure_future(_pause(handle, self._pauses))
        while await handle.wait() == "paused":
            for place in tuple(handle._run.waiting):
                await handle.approve(place)
            with suppress(IllegalTransitionError):
                await handle.resume()
        pausing.cancel()
        result = await handle.result()
        await runner.stop()
        self.appends = len(life.door.seen)
        return _told(result)

    def _note(self, ctx: Any) -> None:
        """Write down that a handler began; what the journal says of it is looked at once, at the end."""
        place = ctx.run_id, ctx.position, ctx.attempt
        if place in self.world.ledger:
            self.world.faults.append(f"attempt {ctx.attempt} of {ctx.position} was made twice")
        if self.world.keys.setdefault(place[:2], ctx.idempotency_key) != ctx.idempotency_key:
            self.world.faults.append(f"the idempotency key of {ctx.position} changed")
        self.world.ledger.append(place)

    def _check(self, told: dict[str, Any]) -> None:
        """See that each answer is recorded once, at a position of its own, and that the journal alone comes to the same state."""
        assert [] == self.world.faults
        (run_id,) = self.world.run_ids
        run = self.world.store._runs[run_id]
        plan = self.world.store._plans[run.row.plan_hash]
        assert [] == faults_of(run.row, run.entries, plan)
        assert told["state"]["data"] == state_of(standing_of(run_id, run.entries, run.row.plan_hash, plan))
        answered = [fact.position for fact in self.world.told(run_id, StepCompleted, StepFailed) if fact.attempts]
        assert len(answered) == len(set(answered))
        # A process may die between the announcement of an attempt and its beginning, and then there is no budget for another one.
        denied = {fact.position for fact in self.world.told(run_id, StepFailed) if fact.failure.code == "budget"}
        assert set(answered) == self.positions or (self._is_cut and set(answered) - denied <= self.positions)

    @property
    def positions(self) -> set[str]:
        """The positions of the steps that were begun."""
        return {position for _, position, _ in self.world.ledger}


_deaths = st.lists(
    st.one_of(
        st.builds(Death, append=st.integers(1, 12), is_written=st.booleans()),
        st.builds(lambda at_s: Death(at_s=at_s), st.floats(0.0, 6.0)),
    ),
    min_size=1,
    max_size=4,
)


_pauses = st.lists(st.floats(0.0, 3.0), max_size=2)


@pytest.mark.parametrize("outermost", MODES)
def test_patterns_that_die_anywhere_end_as_if_they_had_not(outermost: str, is_proof: bool) -> None:
    """The end, the state, the outputs and the steps that are done do not depend on where processes died, nor on snapshots."""
    least = 200 if is_proof else 18
    done: Counter[str] = Counter()

    @settings(max_examples=least, suppress_health_check=list(HealthCheck), phases=PHASES)
    @given(nests(outermost), _deaths, st.sampled_from([1, 2, 3, 7, 100]), st.sampled_from([0.0, 0.01]), st.integers(0, 2**16), _pauses)
    def check(nest: Nest, deaths: list[Death], snapshot_every: int, commit_s: float, rests: int, pauses: list[float]) -> None:
        calm = _Worker(nest, 0, 100)
        expected = calm.survive([])
        worker = _Worker(nest, rests, snapshot_every, commit_s)
        assert expected == worker.survive(deaths, pauses)
        assert calm.positions == worker.positions
        done.update({"flows": 1, "deaths": worker.world.counts["deaths"], "calls": len(worker.world.ledger)})
        done["effects"] += len(worker.world.effects)

    check()
    print(f"\n{outermost} around others: {dict(done)}")
    assert done["flows"] >= least * 3 // 4
    assert done["deaths"] >= least // 4


def test_patterns_that_die_at_each_record_end_as_if_they_had_not(is_proof: bool) -> None:
    """A flow is killed at each append of its journal in turn, just before or just after that is written."""
    least = 100 if is_proof else 12
    done: Counter[str] = Counter()

    @settings(max_examples=least, suppress_health_check=list(HealthCheck), phases=PHASES)
    @given(nests(), st.sampled_from([1, 2, 5, 100]), st.booleans(), st.integers(0, 2**16))
    def check(nest: Nest, snapshot_every: int, is_written: bool, rests: int) -> None:
        calm = _Worker(nest, rests, 100)
        expected = calm.survive([])
        for append in range(1, calm.appends + 1):
            worker = _Worker(nest, rests, snapshot_every)
            assert expected == worker.survive([Death(append=append, is_written=is_written)])
            assert calm.positions == worker.positions
            done["deaths"] += worker.world.counts["deaths"]
        done["flows"] += 1

    check()
    print(f"\nkilled at each append: {dict(done)}")
    assert done["flows"] >= least * 3 // 4
    assert done["deaths"] >= done["flows"] * 3


def test_patterns_that_are_cut_leave_journals_that_can_be_read(is_proof: bool) -> None:
    """Where time limits, budgets and quick joins cut what is open, and processes die, the journal comes to the same state as the run."""
    least = 600 if is_proof else 40
    done: Counter[str] = Counter()

    @settings(max_examples=least, suppress_health_check=list(HealthCheck), phases=PHASES)
    @given(cut_nests(), _deaths, st.sampled_from([1, 2, 3, 7, 100]), st.sampled_from([0.0, 0.01]), st.integers(0, 2**16))
    def check(nest: Nest, deaths: list[Death], snapshot_every: int, commit_s: float, rests: int) -> None:
        worker = _Worker(nest, rests, snapshot_every, commit_s, is_cut=True)
        worker.survive(deaths)
        told = worker.world.types(worker.world.run_ids[0])
        done.update({"flows": 1, "deaths": worker.world.counts["deaths"], "cuts": told.count("FlowCut") + told.count("JoinClosed")})

    check()
    print(f"\ncut: {dict(done)}")
    assert done["flows"] >= least * 3 // 4
    assert done["cuts"] >= least // 20


def test_a_mailbox_begins_with_its_first_member_in_every_process(world: World) -> None:
    """Who is first is told by the order of the file, also when the file has changed and the plan comes from the journal."""

    async def answer(event: Any, state: Any, ctx: Any) -> dict[str, Any]:
        return {"first": state.get("first", ctx.agent)}

    def live(most: int) -> Any:
        async def main(life: Life) -> Any:
            flows = {"peers": {"mode": "peer_to_peer", "agents": ["y", "a"], "max_messages": most}}
            flow = {"mode": "sequential", "sequential_agents": ["z", "peers"]}
            runner = await life.start(make(flow, {"z": answer, "y": answer, "a": answer}, flows=flows))
            handles = await runner.resume() or [await runner.emit(one(id="event"))]
            return await handles[0].result()

        return main

    assert world.process(live(5), Death(append=1)) is None
    assert ["z", "peers", "y"] == list(world.process(live(6)).outputs)


def test_a_mode_of_ones_own_is_as_durable_as_the_others(world: World) -> None:
    """Killed at each append in turn, a registered mode with Maps, loops and an agenda comes to the same end."""
    rounds = ["", "evil", "hero", ""]  # whom the director names in each round

    async def answer(event: Any, state: Any, ctx: Any) -> dict[str, Any]:
        await asyncio.sleep(0.5)
        match ctx.agent:
            case "director":
                name = rounds[int(ctx.position.split("#")[1].split(".")[0])]
                return {"next": ["hero", name] if name == "evil" else name} if name else {"done": True}
            case "hero":
                return {"scenes": [*state.get("scenes", []), "good"]}
            case "editor":
                return {"cut": [row["critic"] for row in event.data["results"]]}
        return {ctx.agent: event.data.get("index", 0), "ready": state.get("iteration") == 1}

    def runner() -> Any:
        names = ("director", "hero", "villain", "critic", "editor", "prompter")
        own = {"mode": "rehearse", "options": {"cast": ["hero", "villain"], "rounds": 4}}
        made = make(own, dict.fromkeys(names, answer), agents={"villain": {"capabilities": ["evil"]}})
        made.register_mode("rehearse", rehearse)
        return made

    async def live(life: Life) -> Any:
        started = await life.start(runner())
        handle = (await started.resume() or [await started.emit(one(id="event"))])[0]
        result = await handle.result()
        appends.append(len(life.door.seen))
        return result.status, dict(result.state), list(result.outputs.items())

    appends: list[int] = []
    expected = world.process(live)
    assert ("completed", [0, 1]) == (expected[0], expected[1]["cut"])
    for append in range(1, appends[0] + 1):
        other = World()
        assert other.process(live, Death(append=append)) is None
        assert expected == other.process(live)
        (run_id,) = other.run_ids
        run = other.store._runs[run_id]
        assert [] == faults_of(run.row, run.entries, other.store._plans[run.row.plan_hash])
