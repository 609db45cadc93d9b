"""Replay: a run's records, cut anywhere, give the run as it stood; what does not fit is refused, naming run and record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace as changed
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from agentflow.core.codec import encode, sealed
from agentflow.core.entry import Entry
from agentflow.core.event import Event, accept
from agentflow.core.facts import outputs_of
from agentflow.core.failure import Failure
from agentflow.core.frame import Frame
from agentflow.core.packing import MisfitError
from agentflow.core.places import frame_at, is_below
from agentflow.core.plan import Branch, Call, ErrorRoutes, Flow, Loop, Node, Par, Seq
from agentflow.core.policy_walk import PolicyWalk
from agentflow.core.records import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    BranchTaken,
    EffectRecorded,
    EventPatched,
    Fact,
    FlowCut,
    JoinClosed,
    PlanMoved,
    StepAbandoned,
    StepCompleted,
    StepDegraded,
    StepFailed,
    StepRetried,
    StepStarted,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowCreated,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRecovering,
    WorkflowResumed,
)
from agentflow.core.replay import event_of, first_scope, misfits, replay
from agentflow.core.rules import Rule
from agentflow.core.snapshot import freeze, freeze_standing
from agentflow.core.standing import Approval, Standing
from agentflow.core.state import Patch, State
from agentflow.core.walk import Walk
from agentflow.core.walks import walk_of
from agentflow.errors import JournalDamagedError, JournalVersionError
from tests.core.test_walk_properties import AGENTS, ordered_plans, plans, respond, seeds

ROOT = Path(__file__).resolve().parents[2]
RUN = "run-1"
MOST_RECORDS = 400


def an_event(data: dict[str, Any] | None = None, metadata: dict[str, str] | None = None) -> Event:
    """Return an event as a run accepts it."""
    return accept(Event("a", data or {}, metadata, id="e7", timestamp=5.0), "", float)


def picture(standing: Standing) -> str:
    """Return all that a standing says, in the order in which it says it."""
    steps = {position: repr(step) for position, step in sorted(standing.steps.items())}
    return json.dumps(
        {
            "walk": freeze(standing.walk),
            "state": State.over(standing.walk.scope).to_dict(),
            "outputs": outputs_of(standing.walk, AGENTS),
            "steps": steps,
            "ready": sorted(standing.ready),
            "agents": sorted((position, frame.node.agent, str(frame.given)) for position, frame in standing.ready.items()),
            "closing": [join.position for join in standing.walk.closing],
            "usage": standing.usage.to_dict(),
            "paused": [standing.paused, standing.waiting, standing.paused_at, standing.paused_s],
            "ended": None if standing.ended is None else encode("", 0, 1, 0.0, standing.ended, b"").body.decode(),
            "run": [standing.cancelled, standing.flags, standing.is_begun, standing.plan_hash, standing.created_at],
            "last": [standing.seq, standing.hash.hex(), standing.epoch, standing.size],
        }
    )


class Scribe:
    """Drives a walk as an engine does, with every trouble there is, and writes down what happens."""

    def __init__(self, plan: Node, seed: int, dice: Random, *, is_hooked: bool = False) -> None:
        self.plan, self.seed, self.dice = plan, seed, dice
        self.event = an_event({"n": seed % 2, "items": [0], "y": 1}, {"m": "0", "route": "b"})
        self.standing = Standing(RUN, walk_of(plan, self.event, first_scope(self.event), is_noting=True))
        self.walk = self.standing.walk
        self.entries: list[Entry] = []
        self.pictures: dict[int, str] = {}  # of some moments, by how many records there were
        self.snapshots: dict[int, bytes] = {}
        self.epoch = 1
        self.created(is_hooked=is_hooked)

    def write(self, fact: Fact) -> None:
        if len(self.entries) == MOST_RECORDS:
            assume(condition=False)
        previous = self.entries[-1].hash if self.entries else b""
        entry = encode(RUN, len(self.entries), self.epoch, 100.0 + len(self.entries), fact, previous)
        self.entries.append(entry)
        self.standing.take(entry, fact)

    def settled(self) -> None:
        """Keep, now and then, what the run looks like after the record just written."""
        if self.dice.random() < 0.15 or self.standing.ended is not None:
            self.pictures[len(self.entries)] = picture(self.standing)
        if self.dice.random() < 0.1 and self.standing.ended is None and not self.walk.notes:
            self.snapshots[len(self.entries)] = freeze_standing(self.standing)

    def note(self, fact: Fact) -> None:
        self.write(fact)
        self.settled()

    def opened(self, ready: list[Frame]) -> None:
        """Take up the calls that became ready, and write down what the walk chose."""
        self.standing.ready.update((frame.position, frame) for frame in ready)
        self.settled()
        while self.walk.notes:
            self.note(self.walk.notes.pop(0))
        while self.walk.closing and not self.walk.is_done:
            self.close(self.walk.closing[0], "fail_fast")

    def close(self, join: Frame, reason: str) -> None:
        """Let a join go on without the branches that have not ended."""
        assert isinstance(self.walk, PolicyWalk)
        self.write(JoinClosed(join.position, self.walk.counted(join), reason))
        self.drop(join)
        self.opened(self.walk.close_join(join, reason))

    def drop(self, above: Frame | None) -> None:
        ready = self.standing.ready
        self.standing.ready = {at: call for at, call in ready.items() if above is not None and not call.is_below(above)}

    def created(self, *, is_hooked: bool) -> None:
        self.write(WorkflowCreated(self.event.to_dict(), "any", "h1", is_hooked=is_hooked))
        if is_hooked:
            self.settled()
            if self.dice.random() < 0.5:  # the first step was started ahead of the hooks
                self.note(StepStarted("0.0", "a"))
            patch = Patch({"x": 1, "y": 3}, {"m": "hook"})
            self.write(EventPatched("before", patch))
            self.walk.scope.apply(patch)
        self.standing.is_begun = True
        ready = self.walk.start()
        positions = {frame.position for frame in ready}
        for position in [position for position in self.standing.steps if position not in positions]:
            del self.standing.steps[position]
        self.opened(ready)

    def run(self) -> None:
        while self.standing.ready:
            self.step()
        self.end()

    def step(self) -> None:
        dice, ready = self.dice, self.standing.ready
        position = dice.choice(list(ready))
        frame = ready[position]
        agent = frame.node.agent
        step = self.standing.steps.get(position)
        chance = dice.random()
        if step is None or not step.is_in_flight:
            if chance < 0.1 and (step is None or step.approval is None):
                self.note(ApprovalRequested(position, agent, "digest", 9.5))
                self.note(ApprovalGranted(position, "me") if chance < 0.05 else ApprovalRejected(position, "me", "no"))
            self.note(StepStarted(position, agent, step.attempts + 1 if step else 1))
        elif chance < 0.1:
            self.note(EffectRecorded(position, f"k{chance}", {"paid": [1, None]}))
        elif chance < 0.2:
            failure = Failure("again", "ValueError", attempts=step.attempts, kinds=("ValueError", "Exception"))
            self.note(StepRetried(position, agent, step.attempts, 1.5, failure, 101.5, {"total_tokens": 3}))
        elif chance < 0.25:
            self.epoch += 1
            self.note(WorkflowRecovering(self.epoch, "other", self.standing.in_flight))
        elif chance < 0.3:
            self.note(WorkflowPaused("asked", (position,)))
            self.note(WorkflowResumed("me"))
        elif chance < 0.33:
            self.note(StepAbandoned(position, agent))
        elif chance < 0.37:
            self.cut(frame)
        elif chance < 0.5 and (joins := [join for join in above(frame) if isinstance(join.node, Par) and join.node.join_timeout_s]):
            self.close(dice.choice(joins), "deadline")
        else:
            self.settle(position, frame, step.attempts)

    def settle(self, position: str, frame: Frame, attempts: int) -> None:
        answer = respond(frame, position, self.seed)
        agent, policy = frame.node.agent, frame.node.policy
        if isinstance(answer, Failure) and policy is not None and policy.default_output is not None:
            failure = answer.at(agent=agent, position=position, stage=frame.stage)
            self.write(StepDegraded(position, agent, failure))
            self.walk.degrade(failure)
            self.settled()
            answer = Patch(dict(policy.default_output))
        if isinstance(answer, Patch):
            self.write(StepCompleted(position, agent, attempts, 0.5, answer, answer.route, {"total_tokens": 2, "cost_usd": 0.5}))
        else:
            self.write(StepFailed(position, agent, attempts, 0.5, answer))
        del self.standing.ready[position]
        self.opened(self.walk.complete(frame, answer))

    def cut(self, frame: Frame) -> None:
        """End something around a call from outside: a flow or the whole run."""
        chosen = self.dice.choice([None, *above(frame)])
        failure = Failure("time is up", "EventTimeoutError", "timeout")
        if chosen is None and self.dice.random() < 0.5:
            failure = Failure("stop", "CancelledRunError", "cancelled")
        self.write(FlowCut(chosen.position if chosen else "", failure, "stop" if failure.code == "cancelled" else ""))
        self.drop(chosen)
        self.opened(self.walk.cut(chosen, failure))

    def end(self) -> None:
        assert self.walk.is_done
        if self.dice.random() < 0.3:
            patch = Patch({"after": True})
            self.write(EventPatched("after", patch))
            self.walk.scope.apply(patch)
            self.settled()
        failure = None if self.walk.is_plain else self.walk.outcome.failure
        if self.standing.cancelled:
            self.note(WorkflowCancelled(self.standing.cancelled, 1.0))
        elif failure is not None:
            self.note(WorkflowFailed("failed", self.walk.outcome.reason, 1.0, failure, ("dead_lettered",)))
        else:
            self.note(WorkflowCompleted("completed", "completed", 1.0))


def above(frame: Frame) -> list[Frame]:
    """Return the frames around a call."""
    found: list[Frame] = []
    while frame.parent is not None:
        frame = frame.parent
        found.append(frame)
    return found


every_run = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
dices = st.integers(0, 2**32).map(Random)  # a run takes many decisions: too many to draw each


@every_run
@given(ordered_plans, seeds, dices, st.booleans())
def test_records_cut_anywhere_give_the_run_as_it_stood(plan: Node, seed: int, dice: Random, is_hooked: bool) -> None:
    """Replaying the first n records gives state, outputs, outcome, open calls and their standing as they were after n."""
    scribe = Scribe(plan, seed, dice, is_hooked=is_hooked)
    scribe.run()
    event(type(scribe.standing.ended).__name__)
    event(f"phases: {sorted({entry.body[13:14] for entry in scribe.entries if entry.type == 'StepStarted'} - {b'0'})}")
    event(f"joins closed: {any(entry.type == 'JoinClosed' for entry in scribe.entries)}")
    for count, expected in scribe.pictures.items():
        again = replay(RUN, plan, scribe.event, scribe.entries[:count])
        assert picture(again) == expected
        assert {frame.position for frame in again.ready.values()} == set(again.ready)


@every_run
@given(ordered_plans, seeds, dices, st.booleans())
def test_a_snapshot_and_the_records_after_it_give_the_same(plan: Node, seed: int, dice: Random, is_hooked: bool) -> None:
    """A snapshot taken after any record, and the records after it up to any other, give what all records give."""
    scribe = Scribe(plan, seed, dice, is_hooked=is_hooked)
    scribe.run()
    for taken, body in scribe.snapshots.items():
        assert freeze_standing(replay(RUN, plan, scribe.event, [], body)) == body
        for count, expected in scribe.pictures.items():
            if count >= taken:
                again = replay(RUN, plan, scribe.event, scribe.entries[taken:count], body)
                assert picture(again) == expected


@every_run
@given(plans, seeds, dices)
def test_a_run_that_is_continued_ends_as_one_that_was_never_stopped(plan: Node, seed: int, dice: Random) -> None:
    """Whatever completion order comes after the cut: state, outputs and outcome are those of the run without a cut."""
    scribe = Scribe(plan, seed, Random(seed))
    scribe.cut = lambda frame: None  # type: ignore[method-assign]
    scribe.run()
    count = dice.randrange(1, len(scribe.entries))
    standing = replay(RUN, plan, scribe.event, scribe.entries[:count])
    while standing.ready:
        position = dice.choice(list(standing.ready))
        frame = standing.ready.pop(position)
        ready = standing.walk.complete(frame, respond(frame, position, seed))
        standing.ready.update((frame.position, frame) for frame in ready)
    if standing.walk.scope.lookup("after") != scribe.walk.scope.lookup("after"):
        standing.walk.scope.apply(Patch({"after": True}))
    assert result(standing.walk) == result(scribe.walk)


def result(walk: Walk) -> dict[str, Any]:
    outcome = walk.outcome
    return {
        "state": State.over(walk.scope).to_dict(),
        "outputs": outputs_of(walk, AGENTS),
        "reason": outcome.reason,
        "failure": outcome.failure and outcome.failure.to_dict(),
        "errors": [(name, failure.to_dict()) for name, failure in outcome.errors.items()],
        "conflicts": outcome.conflicts,
    }


@every_run
@given(plans, seeds, dices)
def test_any_byte_that_changed_is_found(plan: Node, seed: int, dice: Random) -> None:
    """A journal in which a byte of any entry changed is refused, naming run and record."""
    scribe = Scribe(plan, seed, dice)
    scribe.run()
    at = dice.randrange(len(scribe.entries))
    entry = scribe.entries[at]
    if dice.random() < 0.8:
        place = dice.randrange(len(entry.body))
        body = bytearray(entry.body)
        body[place] ^= 1 << dice.randrange(8)
        entry = changed(entry, body=bytes(body))
    else:
        entry = changed(entry, **dice.choice([{"at": entry.at + 1}, {"epoch": entry.epoch + 1}, {"type": "StepFailedd"}, {"version": 0}]))
    with pytest.raises(JournalDamagedError, match="checksum") as caught:
        replay(RUN, plan, scribe.event, [*scribe.entries[:at], entry, *scribe.entries[at + 1 :]])
    assert (caught.value.run_id, caught.value.seq) == (RUN, at)


# --- one thing at a time ---

PLAN = Seq((Call("a"), Par((Call("b"), Call("c"))), Call("d")), Flow("main", "sequential"))


def journal(*told: Fact, plan: Node = PLAN, hooked: bool = False, data: dict[str, Any] | None = None) -> list[Entry]:
    """Return entries for a run: created, then what is told, a second apart from 100 on."""
    created = WorkflowCreated(an_event(data).to_dict(), "sequential", "h1", is_hooked=hooked)
    return chained([created, *told])


def chained(told: list[Any]) -> list[Entry]:
    entries: list[Entry] = []
    for seq, fact in enumerate(told):
        entries.append(encode(RUN, seq, 1, 100.0 + seq, fact, entries[-1].hash if entries else b""))
    return entries


def after(*told: Fact, plan: Node = PLAN, hooked: bool = False, data: dict[str, Any] | None = None) -> Standing:
    return replay(RUN, plan, an_event(data), journal(*told, plan=plan, hooked=hooked, data=data))


def started(position: str = "0.0", agent: str = "a", attempt: int = 1) -> StepStarted:
    return StepStarted(position, agent, attempt)


def done(position: str = "0.0", agent: str = "a", **data: Any) -> StepCompleted:
    return StepCompleted(position, agent, 1, 0.5, Patch(data))


def retried(attempt: int = 1) -> StepRetried:
    return StepRetried("0.0", "a", attempt, 2.0, Failure("no", "ValueError", attempts=attempt), 104.0)


def test_a_step_in_flight() -> None:
    """A step that was started and not answered is in flight, with its attempts counted; others are ready and untouched."""
    standing = after(started(), done(x=1), started("0.1.1", "c"))
    assert list(standing.ready) == ["0.1.0", "0.1.1"]
    assert standing.in_flight == ("0.1.1",)
    step = standing.steps["0.1.1"]
    assert (step.agent, step.attempts, step.is_in_flight, step.begun_at, step.deaths) == ("c", 1, True, 103.0, 0)
    assert "0.1.0" not in standing.steps
    assert State.over(standing.walk.scope).to_dict()["data"] == {"x": 1}
    assert (standing.seq, standing.epoch, standing.usage.calls, standing.ended) == (3, 1, 2, None)


def test_a_retry_that_waits() -> None:
    """A retry keeps its number, when it is due and why; the attempt after it counts on."""
    standing = after(started(), retried())
    step = standing.steps["0.0"]
    assert (step.attempts, step.failures, step.is_in_flight, step.due_at, str(step.failure)) == (1, 1, False, 104.0, "ValueError: no")
    step = after(started(), retried(), started(attempt=2)).steps["0.0"]
    assert (step.attempts, step.failures, step.is_in_flight, step.due_at) == (2, 1, True, 104.0)


def test_deaths_are_counted_for_steps_in_flight() -> None:
    """Each takeover counts for the steps it names; a crash is no failed attempt, and an answer clears the count."""
    died = WorkflowRecovering(2, "other", ("0.0",))
    standing = after(started(), died, started(attempt=2), died)
    step = standing.steps["0.0"]
    assert (step.deaths, step.attempts, step.failures, step.is_in_flight) == (2, 2, 0, False)
    assert "0.0" not in after(started(), died, started(attempt=2), done()).steps


def test_effects_of_an_open_step() -> None:
    """What `ctx.once` recorded is there again, and survives a retry."""
    standing = after(started(), EffectRecorded("0.0", "pay", {"id": 7}), EffectRecorded("0.0", "mail", None), retried())
    assert standing.steps["0.0"].effects == {"pay": {"id": 7}, "mail": None}


def test_the_first_answer_of_a_person_stands() -> None:
    """An approval is asked, then granted or rejected; a second answer changes nothing."""
    asked = ApprovalRequested("0.0", "a", "d1", 500.0)
    assert after(asked).steps["0.0"].approval == Approval("d1", 500.0)
    granted = after(asked, ApprovalGranted("0.0", "ann", "fine"), ApprovalRejected("0.0", "bob", "no")).steps["0.0"].approval
    assert granted == Approval("d1", 500.0, "granted", "ann", "fine")
    rejected = after(asked, ApprovalRejected("0.0", "bob", "no")).steps["0.0"].approval
    assert rejected == Approval("d1", 500.0, "rejected", "bob", "no")
    assert after(ApprovalGranted("0.0")).steps["0.0"].approval is None


def test_pauses_add_up() -> None:
    """A pause has a reason and positions; the time it took is kept when it is lifted, and a takeover lifts none."""
    standing = after(WorkflowPaused("review", ("0.0",)), WorkflowPaused("more"), WorkflowRecovering(2, "x"))
    assert (standing.paused, standing.waiting, standing.paused_at, standing.paused_s) == ("more", (), 101.0, 0.0)
    standing = after(WorkflowPaused("review"), WorkflowResumed(), WorkflowPaused("again"), WorkflowResumed(), WorkflowResumed())
    assert (standing.paused, standing.paused_s) == (None, 2.0)


def test_what_was_used_adds_up() -> None:
    """Attempts are counted as started; tokens and costs come from each attempt's record, failed ones included."""
    used = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "cost_usd": 0.25}
    failed = StepFailed("0.0", "a", 2, 0.5, Failure("no"), used)
    first = StepRetried("0.0", "a", 1, 0.0, Failure("no"), 1.0, used)
    standing = after(started(), first, started(attempt=2), failed)
    assert standing.usage.to_dict() == {"input_tokens": 2, "output_tokens": 4, "total_tokens": 6, "cost_usd": 0.5, "calls": 2}


def test_abandoned_steps_flag_the_run() -> None:
    """A step that was left behind flags its run, also when it was left after its flow had been cut."""
    standing = after(started(), FlowCut("", Failure("stop"), "asked"), StepAbandoned("0.0", "a"), StepAbandoned("0.0", "a"))
    assert (standing.flags, standing.cancelled, standing.walk.is_done, standing.steps) == (("abandoned",), "asked", True, {})


def test_a_flow_that_was_cut_goes_on_behind_it() -> None:
    """Cutting an inner flow drops its calls and fails it; branches beside it stay as they are."""
    inner = Seq((Call("b"), Call("c")), Flow("inner", "sequential", 9.0))
    plan = Seq((Call("a"), Par((inner, Call("d"))), Call("a")), Flow("main", "any"))
    told = [started(), done(), started("0.1.0.0", "b"), started("0.1.1", "d")]
    assert after(*told, plan=plan).flows == {"0": 101.0, "0.1.0": 103.0}
    standing = after(*told, FlowCut("0.1.0", Failure("slow", code="timeout")), plan=plan)
    assert (list(standing.ready), standing.in_flight, standing.flows) == (["0.1.1"], ("0.1.1",), {"0": 101.0})
    assert standing.walk.outcome.errors["inner"].code == "timeout"


def test_clocks_of_flows_in_loops() -> None:
    """A nested flow's clock starts with the first step of each round, and is forgotten with it; the run's own goes on."""
    plan = Loop(Seq((Call("a"), Call("b")), Flow("inner", "sequential", 9.0)), 3)
    told = [started("0#1.0", "a"), done("0#1.0", "a"), started("0#1.1", "b"), done("0#1.1", "b"), started("0#2.0", "a")]
    assert after(*told[:3], plan=plan).flows == {"0": 101.0, "0#1": 101.0}
    assert after(*told, plan=plan).flows == {"0": 101.0, "0#2": 105.0}
    assert after(started("0#1.7.1", "a"), plan=plan, hooked=True).flows == {"0": 101.0}, "the walk is not there yet"


def test_event_hooks_come_before_the_walk_begins() -> None:
    """A run with event hooks begins with what they set: conditions see it; a step started ahead of them may not come true."""
    plan = Branch((Call("a"), Call("b")), (Rule("!has(state.vip)"),))
    ahead = after(started("0.0", "a"), plan=plan, hooked=True)
    assert (ahead.is_begun, ahead.ready, ahead.in_flight) == (False, {}, ("0.0",))
    patched = after(started("0.0", "a"), EventPatched("before", Patch({"vip": 1})), BranchTaken("0", 1, "b"), plan=plan, hooked=True)
    assert (patched.is_begun, list(patched.ready), patched.steps) == (True, ["0.1"], {})
    kept = after(started("0.0", "a"), EventPatched("before", Patch({})), BranchTaken("0", 0, "a"), plan=plan, hooked=True)
    assert (list(kept.ready), kept.in_flight) == (["0.0"], ("0.0",))
    failed = after(FlowCut("", Failure("hook")), plan=plan, hooked=True)
    assert (failed.walk.is_done, failed.walk.outcome.reason) == (True, "error")


def test_event_hooks_after_the_walk_patch_the_state() -> None:
    """AFTER_EVENT_HANDLING's patch is the last change of the state."""
    standing = after(started("0", "a"), done("0", x=1), EventPatched("after", Patch({"x": 2})), plan=Call("a"))
    assert State.over(standing.walk.scope)["x"] == 2


def test_choices_that_were_not_written_yet_are_still_to_be_told() -> None:
    """A branch was taken, and the journal ends before its record: the walk has it as a note."""
    plan = Seq((Call("a"), Branch((Call("b"), Call("c")), (Rule("state.x == 1"),))))
    standing = after(started(), done(x=1), plan=plan)
    assert standing.walk.notes == [BranchTaken("0.1", 0, "b")]
    assert after(started(), done(x=1), BranchTaken("0.1", 0, "b"), plan=plan).walk.notes == []


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        (WorkflowFailed("failed", "dead_letter", 1.0, Failure("poison"), ("dead_lettered",)), "error"),
        (WorkflowFailed("failed", "history_limit", 1.0), "error"),
        (WorkflowCancelled("asked"), "error"),
    ],
)
def test_a_run_may_end_before_its_walk(ending: Any, reason: str) -> None:
    """A dead letter or a cancel ends the walk where it stands; what its steps set stays."""
    standing = after(started(), done(x=1), started("0.1.0", "b"), ending)
    assert (standing.ended, standing.ready, standing.steps) == (ending, {}, {})
    assert (standing.walk.is_done, standing.walk.outcome.reason) == (True, reason)
    assert (standing.flags, standing.cancelled) == (ending.flags, "asked" if isinstance(ending, WorkflowCancelled) else "")
    assert outputs_of(standing.walk, AGENTS) == {"a": {"x": 1}}


def test_a_run_that_was_ended_is_not_handled_any_more() -> None:
    """Its terminal record stands before the end of its walk: no phase follows it, whatever the plan asks for."""
    plan = Seq((Call("a"), Call("b")), Flow("main", "sequential", errors=ErrorRoutes(Call("h"))))
    standing = after(started(), WorkflowFailed("failed", "history_limit", 1.0, Failure("full")), plan=plan)
    assert (standing.walk.is_done, standing.walk.after, standing.ready) == (True, None, {})


JOIN = Seq((Par((Call("a"), Call("b"), Call("c")), join_timeout_s=1.0), Call("d")), Flow("main", "mixed"))


def test_a_join_that_was_closed_goes_on_without_the_others() -> None:
    """Their steps are open no more, and what follows is ready."""
    told = [started("0.0.0", "a"), started("0.0.1", "b"), done("0.0.1", "b", x=1)]
    standing = after(*told, JoinClosed("0.0", ("0.0.1",), "deadline"), plan=JOIN)
    assert (list(standing.ready), standing.steps) == ([], {})
    assert standing.walk.outcome.reason == "threshold"
    more = changed(JOIN.steps[0], failure_threshold=0.9)
    standing = after(*told, JoinClosed("0.0", ("0.0.1",), "deadline"), plan=changed(JOIN, steps=(more, Call("d"))))
    assert (list(standing.ready), standing.steps) == (["0.1"], {})


@pytest.mark.parametrize(
    ("fact", "plan", "why"),
    [
        (JoinClosed("0.0", (), "deadline"), JOIN, "other branches had ended"),
        (JoinClosed("0.0", ("0.0.0", "0.0.1"), "deadline"), JOIN, "other branches had ended"),
        (JoinClosed("0.1", (), "deadline"), JOIN, "no join that can be closed is open at 0.1"),
        (JoinClosed("0", (), "deadline"), JOIN, "no join that can be closed is open at 0"),
        (JoinClosed("0.0", ("0.0.0",), "deadline"), Seq((Par((Call("a"), Call("b"))),)), "no join that can be closed"),
    ],
)
def test_a_join_is_closed_as_it_stood(fact: JoinClosed, plan: Node, why: str) -> None:
    """A record that names other branches, or no join that may be closed, is no record of this run."""
    with pytest.raises(JournalDamagedError, match=why):
        after(started("0.0.0", "a"), done("0.0.0", "a"), fact, plan=plan)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([started("0.2", "d")], "no step is ready at 0.2"),
        ([started("0.0", "b")], "is a, not b"),
        ([done("0.1.0", "b")], "no step is ready"),
        ([started(), done(), done()], "no step is ready at 0.0"),
        ([started(), done(), StepRetried("0.0", "a", 1, 1.0, Failure("x"), 1.0)], "no step is ready"),
        ([EffectRecorded("0.7", "k", 1)], "no step is ready"),
        ([ApprovalGranted("0.9")], "no step is ready"),
        ([WorkflowRecovering(2, "x", ("0.3",))], "no step is ready"),
        ([BranchTaken("0", 1, "b")], "did not choose BranchTaken at 0"),
        ([FlowCut("0.1", Failure("x"))], "no flow is open at 0.1"),
        ([FlowCut("nowhere", Failure("x"))], "no flow is open"),
        ([FlowCut("", Failure("x")), FlowCut("", Failure("x"))], "had ended when a flow was cut"),
        ([EventPatched("before", Patch({}))], "out of place"),
        ([EventPatched("after", Patch({}))], "out of place"),
        ([EventPatched("when", Patch({}))], "out of place"),
        ([WorkflowCreated({}, "x")], "in the middle"),
        ([WorkflowCompleted("completed", "completed", 1.0)], "had not ended when the run completed"),
        ([WorkflowCancelled("x"), started()], "StepStarted stands after the end"),
        ([StepCompleted("0.0", "a", 1, 0.1, Patch({}), None, {"total_tokens": "many"})], "in the place of a number"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(told: list[Any], why: str) -> None:
    """A record about something that is not at hand makes the journal a damaged one; run and record are named."""
    with pytest.raises(JournalDamagedError, match=why) as caught:
        after(*told)
    assert (caught.value.run_id, caught.value.seq, caught.value.code) == (RUN, len(told), "AF0720")


def test_an_answer_before_the_hooks_is_refused() -> None:
    """Nothing is answered before the event hooks were recorded."""
    with pytest.raises(JournalDamagedError, match="before the run began"):
        after(done(), hooked=True)


def test_a_journal_without_its_beginning_is_refused() -> None:
    """No entries, a first entry of another type, and entries that begin later are refused."""
    entries = journal(started(), done())
    with pytest.raises(JournalDamagedError, match="how the run began"):
        replay(RUN, PLAN, an_event(), [])
    with pytest.raises(JournalDamagedError, match="how the run began"):
        replay(RUN, PLAN, an_event(), chained([started()]))
    with pytest.raises(JournalDamagedError, match="is missing") as caught:
        replay(RUN, PLAN, an_event(), entries[1:])
    assert caught.value.seq == 0
    with pytest.raises(JournalDamagedError, match="is missing"):
        replay(RUN, PLAN, an_event(), [entries[0], entries[2]])


def test_a_later_releases_record_is_not_guessed_at() -> None:
    """A type that this release does not know stops the replay with an error of its own."""
    entries = journal(started())
    fact = type("StepDreamed", (StepStarted,), {"__slots__": ()})
    strange = encode(RUN, 2, 1, 1.0, started(), entries[-1].hash)
    assert fact.__name__ == "StepDreamed"
    forged = encode_as("StepDreamed", strange, entries[-1].hash)
    with pytest.raises(JournalVersionError, match="StepDreamed") as caught:
        replay(RUN, PLAN, an_event(), [*entries, forged])
    assert (caught.value.seq, caught.value.run_id) == (2, RUN)


def encode_as(kind: str, entry: Entry, previous: bytes) -> Entry:
    """Return an entry under another type, with the hash that belongs to it."""
    return sealed(RUN, entry.seq, entry.epoch, entry.at, kind, entry.version, entry.body, previous)


# --- a run that moves to another plan ---

LONGER = Seq((Call("a"), Par((Call("b"), Call("d"))), Call("e"), Call("f")), Flow("main", "sequential"))


def test_a_plan_that_fits_is_moved_to() -> None:
    """Every step that was done stands in the new plan with the same agent: nothing is discarded."""
    told = [started(), done(x=1), started("0.1.0", "b"), done("0.1.0", "b", y=2)]
    assert misfits(RUN, LONGER, an_event(), journal(*told)) == []
    standing = after(*told, PlanMoved("h2"), plan=LONGER)
    assert (standing.plan_hash, list(standing.ready)) == ("h2", ["0.1.1"])
    assert standing.ready["0.1.1"].node == Call("d")


def test_steps_that_do_not_fit_are_told_and_discarded() -> None:
    """A step with another agent does not fit; discarded it counts as never done, and what it used still counts."""
    told = [started(), done(x=1), started("0.1.1", "c"), done("0.1.1", "c", y=2), started("0.1.0", "b")]
    assert misfits(RUN, LONGER, an_event(), journal(*told)) == [("0.1.1", "the step at 0.1.1 is d, not c")]
    standing = after(*told, PlanMoved("h2", ("0.1.1",)), started("0.1.1", "d"), plan=LONGER)
    assert list(standing.ready) == ["0.1.0", "0.1.1"]
    assert standing.usage.calls == 4
    assert State.over(standing.walk.scope).to_dict()["data"] == {"x": 1}
    with pytest.raises(JournalDamagedError, match="is d, not c"):
        after(*told, PlanMoved("h2"), plan=LONGER)


def test_choices_of_the_old_plan_need_not_be_those_of_the_new() -> None:
    """A branch that the new plan does not have is no damage where the plan was moved."""
    old = Seq((Call("a"), Branch((Call("b"), Call("c")), (Rule("true"),))))
    told = [started(), done(x=1), BranchTaken("0.1", 0, "b"), started("0.1.0", "b")]
    assert after(*told, plan=old).in_flight == ("0.1.0",)
    new = Seq((Call("a"), Branch((Call("c"), Call("b")), (Rule("false"),))))
    assert misfits(RUN, new, an_event(), journal(*told)) == []
    standing = after(*told, PlanMoved("h2", ("0.1.0",)), plan=new)
    assert (list(standing.ready), standing.in_flight) == (["0.1.1"], ())


def test_a_snapshot_from_before_the_move_is_refused() -> None:
    """A snapshot of the old plan does not stand in the new one."""
    entries = journal(started(), PlanMoved("h2"))
    body = freeze_standing(replay(RUN, PLAN, an_event(), entries[:2]))
    with pytest.raises(JournalDamagedError, match="the snapshot stands before it"):
        replay(RUN, LONGER, an_event(), entries[2:], body)


# --- events, first states, positions ---


def test_an_event_comes_back_as_it_was_accepted() -> None:
    """Id, time, session and data are those of the record; what is no event is refused."""
    given = accept(Event("a", {"k": [1]}, {"m": "t"}, session_id="s", id="e1", timestamp=3.0), "", float)
    found = event_of(RUN, WorkflowCreated(given.to_dict(), "x"))
    assert found == given
    for row in ({"target": 7}, {"data": {"k": float("nan")}}, {"nonsense": 1}, {"id": 5}, {"timestamp": "x"}, {"data": [1]}):
        with pytest.raises(JournalDamagedError, match="record 0"):
            event_of(RUN, WorkflowCreated(row, "x"))


def test_the_first_state_is_that_of_an_accepted_run() -> None:
    """Data and metadata, without what steers the run; a state of its own."""
    told = an_event({"k": 1}, {"m": "t", "route": "b", "orchestration_override": "x"})
    scope = first_scope(told)
    assert (scope.entries, scope.meta) == ({"k": 1}, {"m": "t"})
    scope.apply(Patch({"k": 2}))
    assert told.data == {"k": 1}
    assert first_scope(an_event()).meta is None


def test_frames_are_found_by_their_position() -> None:
    """Every open frame is found at its position, and nothing at another one."""
    plan = Seq((Par((Call("a"), Loop(Seq((Call("b"),)), 2), Seq((Call("c"),))), 2), Call("d")))
    walk = Walk(plan, an_event(), first_scope(an_event()))
    ready = walk.start()
    assert [frame.position for frame in ready] == ["0.0.0", "0.0.1#1.0"]
    for position in ("0", "0.0", "0.0.0", "0.0.1", "0.0.1#1", "0.0.1#1.0"):
        found = frame_at(walk, position)
        assert found is not None
        assert found.position == position
    for position in (
        "",
        "1",
        "0.1",
        "0.0.2",
        "0.0.9",
        "0.0.1#2",
        "0.0.1.0",
        "0.0#1",
        "0.0.0.1",
        "0..",
        "0.0.1#1#1",
        "0#1",
        "0.0." + "9" * 9999,
    ):
        assert frame_at(walk, position) is None, position
    walk.complete(ready[0], Patch({}))
    assert frame_at(walk, "0.0.2.0") is not None
    assert (is_below("0.1#2", "0.1"), is_below("0.11", "0.1"), is_below("0.1", "0.1"), is_below("0", "")) == (True, False, True, True)


def test_misfits_and_faults_are_told_apart() -> None:
    """A misfit is a ValueError of the core alone: who reads a journal gets coded errors only."""
    assert issubclass(MisfitError, ValueError)
    assert JournalDamagedError(RUN, None, "x").message == "run run-1: x"


# --- the same in every process ---

SCRIPT = """
from random import Random
from tests.core.test_replay import PLAN, RUN, Scribe, picture, replay
from hashlib import sha256
scribe = Scribe(PLAN, 3, Random(5))
scribe.run()
print(sha256(picture(replay(RUN, PLAN, scribe.event, scribe.entries)).encode()).hexdigest(), scribe.entries[-1].hash.hex())
"""


@pytest.mark.parametrize(("seed", "zone"), [("0", "UTC"), ("1", "Asia/Tokyo"), ("4242", "America/New_York")])
def test_a_replay_gives_the_same_in_every_process(seed: str, zone: str) -> None:
    """The hash of what a journal comes to does not depend on hash seed, time zone or locale."""
    scribe = Scribe(PLAN, 3, Random(5))
    scribe.run()
    told = picture(replay(RUN, PLAN, scribe.event, scribe.entries))
    environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": "C"}
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert found == [sha256(told.encode()).hexdigest(), scribe.entries[-1].hash.hex()]
