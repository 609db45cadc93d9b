"""History: runs read back from a store, as they stand and as they stood, and what verification finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentflow.core.codec import encode, sealed
from agentflow.core.failure import Failure
from agentflow.core.merge import Merge
from agentflow.core.plan import Branch, Call, Flow, Loop, Par, Seq
from agentflow.core.records import (
    ApprovalGranted,
    ApprovalRequested,
    BranchTaken,
    EventPatched,
    FlowCut,
    PlanMoved,
    StepAbandoned,
    WorkflowCancelled,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRecovering,
)
from agentflow.core.rules import Rule
from agentflow.core.run_row import CORRUPT, RunFilter
from agentflow.core.run_view import RunView
from agentflow.core.state import Patch
from agentflow.engine.history import DEAD, History
from agentflow.errors import EntrypointError, JournalDamagedError, RunNotFoundError, StoreDamagedError
from agentflow.stores.memory import MemoryStore
from tests.journals import BEGAN, Writer, done, failed, retried, started


def no_function(reference: str) -> Any:
    raise EntrypointError(f"no {reference} here")


@pytest.fixture
async def store() -> MemoryStore:
    """A journal in memory."""
    store = MemoryStore()
    await store.open()
    return store


@pytest.fixture
def history(store: MemoryStore) -> History:
    """What is read from it."""
    return History(store, Rule, no_function)


def steps(view: RunView) -> dict[str, tuple[str, str, int, int]]:
    return {step.position: (step.agent, step.status, step.attempts, step.retry_count) for step in view.steps}


# --- finding ---


async def test_runs_are_listed_by_filter(store: MemoryStore, history: History) -> None:
    """Rows come newest first, and those that fit the filter only."""
    for number, state in enumerate(("running", "paused", "running")):
        await Writer(store, f"run-{number}").begin(state=state)
    assert [row.run_id for row in await history.runs(RunFilter(state="running"))] == ["run-2", "run-0"]


async def test_a_run_is_found_by_a_unique_beginning(store: MemoryStore, history: History) -> None:
    """The whole id always finds its run; a beginning does where one run has it; else the error says why."""
    for run_id in ("run-1", "run-12", "other"):
        await Writer(store, run_id).begin()
    assert (await history.find("run-1")).run_id == "run-1"
    assert (await history.find("o")).run_id == "other"
    with pytest.raises(RunNotFoundError, match="run-12, run-1 begin so"):
        await history.find("run")
    for unknown in ("", "nowhere"):
        with pytest.raises(RunNotFoundError, match=r"memory:.*runs list"):
            await history.find(unknown)


async def test_an_ambiguous_beginning_names_a_few(store: MemoryStore, history: History) -> None:
    """Of many runs that begin alike the error names five."""
    for number in range(8):
        await Writer(store, f"run-{number}").begin()
    with pytest.raises(RunNotFoundError, match="run-3 and 3 more begin so"):
        await history.find("run")


# --- views ---


async def test_a_finished_run(store: MemoryStore, history: History) -> None:
    """A run that has ended shows its row, state, outputs, every step, and what it used."""
    await (await Writer(store, "run-1").begin(data={"n": 1})).finish()
    view = await history.view("run-1")
    assert (view.row.state, view.row.status, view.seq, view.last_seq) == ("completed", "completed", 9, 9)
    assert view.state == {"data": {"n": 1, "topic": "tea", "text": "hot", "image": "cup", "ok": True}, "meta": {}}
    assert list(view.outputs) == ["plan", "write", "draw", "check"]
    assert steps(view) == {
        "0.0": ("plan", "completed", 1, 0),
        "0.1.0": ("write", "completed", 1, 0),
        "0.1.1": ("draw", "completed", 1, 0),
        "0.2": ("check", "completed", 1, 0),
    }
    assert (view.usage.calls, view.usage.total_tokens, view.error, view.errors, view.approvals) == (4, 8, None, {}, ())
    assert (view.step("draw").duration_s, view.step("0.2").agent) == (0.5, "check")
    with pytest.raises(KeyError):
        view.step("nobody")


async def test_the_state_at_any_record(store: MemoryStore, history: History) -> None:
    """A run is shown as it stood after each record: row, state and steps of that moment, not of now."""
    await (await Writer(store, "run-1").begin()).finish()
    keys = [list((await history.view("run-1", at)).state["data"]) for at in range(10)]
    parallel = ["topic", "text", "image"]
    assert keys == [[], [], *[["topic"]] * 4, parallel, parallel, *[[*parallel, "ok"]] * 2]
    view = await history.view("run-1", 4)
    assert (view.row.state, view.row.status, view.row.ended_at, view.seq, view.last_seq) == ("running", None, None, 4, 9)
    assert steps(view) == {"0.0": ("plan", "completed", 1, 0), "0.1.0": ("write", "running", 1, 0), "0.1.1": ("draw", "running", 1, 0)}
    assert (await history.view("run-1", 0)).row.state == "pending"
    assert (await history.view("run-1", 9)).row.ended_at == BEGAN + 9
    for at in (-1, 10):
        with pytest.raises(RunNotFoundError, match="it has the records 0 to 9"):
            await history.view("run-1", at)


async def test_a_snapshot_gives_the_same_view(store: MemoryStore, history: History) -> None:
    """With a snapshot the view of each record is what it is without; one that is damaged is no loss."""
    await (await Writer(store, "run-1").begin()).finish()
    kept = Writer(store, "run-2")
    await (await kept.begin(started("0.0", "plan"), done("0.0", "plan", topic="tea"))).tell(started("0.1.0", "write"), is_kept=True)
    rest = [started("0.1.1", "draw"), done("0.1.1", "draw", image="cup"), done("0.1.0", "write", text="hot")]
    await kept.tell(*rest)
    seen: list[bytes] = []
    snapshot = store.snapshot

    async def watched(run_id: str) -> Any:
        found = await snapshot(run_id)
        seen.extend([found[1]] if found else [])
        return found

    store.snapshot = watched  # type: ignore[method-assign]
    for at in range(7):
        plain, other = await history.view("run-1", at), await history.view("run-2", at)
        assert (plain.state, plain.outputs, plain.steps, plain.usage.calls) == (other.state, other.outputs, other.steps, other.usage.calls)
    assert len(seen) == 7
    store._runs["run-2"].snapshot = (3, b"x" * 40)  # what a disk may do
    assert (await history.view("run-2")).state["data"] == {"topic": "tea", "text": "hot", "image": "cup"}


@pytest.mark.parametrize("is_kept", [False, True])
async def test_how_steps_stand(store: MemoryStore, history: History, is_kept: bool) -> None:
    """Steps are pending, running, waiting, completed or failed; retries are counted, crashes count as attempts."""
    writer = await Writer(store, "run-1").begin(started("0.0", "plan"), retried("0.0", "plan"))
    assert steps(await history.view("run-1")) == {"0.0": ("plan", "pending", 1, 1)}
    assert str((await history.view("run-1")).step("plan").error) == "OSError: busy"
    await writer.tell(started("0.0", "plan", 2), WorkflowRecovering(1, "other", ("0.0",)), is_kept=is_kept)
    assert steps(await history.view("run-1")) == {"0.0": ("plan", "pending", 2, 1)}
    await writer.tell(started("0.0", "plan", 3), done("0.0", "plan"), ApprovalRequested("0.1.1", "draw", "d1", 77.0))
    view = await history.view("run-1")
    assert (view.step("plan").error, view.step("plan").retry_count) == (None, 1)
    assert steps(view) == {"0.0": ("plan", "completed", 1, 1), "0.1.1": ("draw", "waiting", 0, 0), "0.1.0": ("write", "pending", 0, 0)}
    assert [approval.to_dict() for approval in view.approvals] == [
        {"position": "0.1.1", "agent": "draw", "digest": "d1", "deadline_at": 77.0}
    ]
    await writer.tell(ApprovalGranted("0.1.1"), failed("0.1.1", "draw", "no ink"))
    view = await history.view("run-1")
    assert (view.step("draw").status, str(view.step("draw").error), view.approvals) == ("failed", "ValueError: no ink", ())


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ([FlowCut("", Failure("slow", code="timeout"))], "AgentflowError: slow"),
        ([WorkflowFailed("failed", "dead_letter", 1.0, Failure("killed"), (DEAD,))], "AgentflowError: killed"),
        ([WorkflowFailed("failed", "history_limit", 1.0)], "AgentflowError: history_limit"),
        ([WorkflowCancelled("asked")], "CancelledRunError: the run was cancelled: asked"),
        ([StepAbandoned("0.0", "plan"), WorkflowCancelled("asked")], "CancelledRunError: the run was cancelled: asked"),
    ],
)
async def test_steps_that_were_cut_failed(store: MemoryStore, history: History, facts: list[Any], told: str) -> None:
    """A step that was open when its flow or run was ended is shown as failed, with what ended it."""
    await (await Writer(store, "run-1").begin(started("0.0", "plan"))).tell(*facts)
    step = (await history.view("run-1")).step("plan")
    assert (step.status, str(step.error)) == ("failed", told)


async def test_a_failed_run_says_why(store: MemoryStore, history: History) -> None:
    """The error is that of the terminal record, and errors has every agent's."""
    writer = await Writer(store, "run-1").begin(started("0.0", "plan"), failed("0.0", "plan"))
    assert (await history.view("run-1")).error is not None
    await writer.tell(WorkflowFailed("failed", "error", 1.0, Failure("no", "ValueError", agent="plan", position="0.0")))
    view = await history.view("run-1")
    assert (str(view.error), list(view.errors)) == ("plan at 0.0: ValueError: no", ["plan"])


async def test_a_step_started_ahead_of_hooks_that_did_not_come_true(store: MemoryStore, history: History) -> None:
    """A step that was started ahead of the event hooks is shown until they make the run begin elsewhere."""
    plan = Branch((Call("a"), Call("b")), (Rule("!has(state.vip)"),), flow=Flow("main", "mixed"))
    writer = await Writer(store, "run-1", plan=plan).begin(started("0.0", "a"), is_hooked=True)
    assert steps(await history.view("run-1")) == {"0.0": ("a", "running", 1, 0)}
    await writer.tell(EventPatched("before", Patch({"vip": True})), BranchTaken("0", 1, "b"))
    assert steps(await history.view("run-1")) == {"0.1": ("b", "pending", 0, 0)}


async def test_an_answer_that_nobody_asked_for(store: MemoryStore, history: History) -> None:
    """A grant without a request, which a fork may begin with, makes no step of its own."""
    await Writer(store, "run-1").begin(ApprovalGranted("0.0"))
    assert steps(await history.view("run-1")) == {"0.0": ("plan", "pending", 0, 0)}


async def test_rounds_are_steps_of_their_own(store: MemoryStore, history: History) -> None:
    """Each round of a loop has its own step."""
    plan = Loop(Call("a"), 3, flow=Flow("main", "loop"))
    await Writer(store, "run-1", plan=plan).begin(started("0#1", "a"), done("0#1", "a"), started("0#2", "a"))
    view = await history.view("run-1")
    assert steps(view) == {"0#1": ("a", "completed", 1, 0), "0#2": ("a", "running", 1, 0)}
    assert view.step("a").position == "0#2"


async def test_a_run_that_moved_to_another_plan(store: MemoryStore, history: History) -> None:
    """After a move the run is shown under its new plan, and before it under the old one; a snapshot from before helps no more."""
    new = Seq((Call("plan"), Call("check")), Flow("main", "sequential"))
    other = await Writer(store, "run-0", plan=new).begin()  # keeps the new plan
    writer = Writer(store, "run-1")
    await writer.begin(started("0.0", "plan"), done("0.0", "plan", topic="tea"))
    await writer.tell(started("0.1.0", "write"), done("0.1.0", "write", text="hot"), is_kept=True)
    await writer.tell(PlanMoved(other.row.plan_hash, ("0.1.0",)), plan_hash=other.row.plan_hash, pattern="sequential")
    view = await history.view("run-1")
    assert steps(view) == {"0.0": ("plan", "completed", 1, 0), "0.1": ("check", "pending", 0, 0)}
    assert view.state["data"] == {"topic": "tea"}
    before = await history.view("run-1", 4)
    assert (before.step("write").status, before.row.plan_hash) == ("completed", Writer(store, "x").row.plan_hash)
    await writer.tell(started("0.1", "check"), done("0.1", "check", ok=True))
    assert (await history.view("run-1")).step("check").status == "completed"
    assert await history.verify() == []


async def test_the_row_of_a_moment(store: MemoryStore, history: History) -> None:
    """A moment at which the run was paused shows why, what waited and until when."""
    asked = ApprovalRequested("0.0", "plan", "d1", 99.0)
    writer = await Writer(store, "run-1").begin(asked, WorkflowPaused("approval", ("0.0",)), state="paused")
    await writer.tell(ApprovalGranted("0.0"), state="running")
    row = (await history.view("run-1", 2)).row
    assert (row.state, row.reason, row.waiting, row.due_at) == ("paused", "approval", ("0.0",), 99.0)
    await writer.tell(WorkflowCancelled("asked", None, ("abandoned",)), state="cancelled", status="cancelled", ended_at=9.0)
    row = (await history.view("run-1", 4)).row
    assert (row.state, row.status, row.ended_at) == ("cancelled", "cancelled", 9.0), "the last one is what the store has"


async def test_a_view_as_json(store: MemoryStore, history: History) -> None:
    """The JSON of a view has the row's keys, its state by another name, and copies of what is in it."""
    await Writer(store, "run-1").begin(ApprovalRequested("0.0", "plan", "d1"), data={"a": {"b": 1}}, session_id="s1")
    view = await history.view("run-1")
    told = view.to_dict()
    assert (told["run_id"], told["state_name"], told["status"], told["session_id"]) == ("run-1", "running", None, "s1")
    assert told["state"] == {"data": {"a": {"b": 1}}, "meta": {}}
    assert [step["status"] for step in told["steps"]] == ["waiting"]  # type: ignore[union-attr,index,call-overload]
    assert told["approvals"][0]["digest"] == view["approvals"][0]["digest"] == "d1"  # type: ignore[index,call-overload]
    told["state"]["data"]["a"]["b"] = 2  # type: ignore[index,call-overload]
    assert view.state["data"]["a"] == {"b": 1}


async def test_events_are_the_records(store: MemoryStore, history: History) -> None:
    """Records come with their numbers, from any of them on."""
    await (await Writer(store, "run-1").begin()).finish()
    assert [record.seq for record in await history.events("run-1")] == list(range(10))
    assert [(record.seq, record.type) for record in await history.events("run", 9)] == [(9, "WorkflowCompleted")]
    with pytest.raises(RunNotFoundError):
        await history.events("nowhere")


async def test_records_and_row_are_read_together(store: MemoryStore, history: History) -> None:
    """A run that is written while it is read is shown as one moment of it."""
    writer = await Writer(store, "run-1").begin()
    entries, is_first = store.entries, True

    async def slow(*arguments: Any) -> Any:
        nonlocal is_first
        found = list(await entries(*arguments))
        if is_first:
            is_first = False
            await writer.finish()
        return found

    store.entries = slow  # type: ignore[method-assign]
    assert (await history.view("run-1")).row.state == "completed"


# --- lists for upkeep ---


async def test_runs_that_wait_behind_another_of_their_session(store: MemoryStore, history: History) -> None:
    """Blocked are the open runs of a session but the first, whatever state that is in; a damaged run blocks nothing, and is not blocked."""
    for run_id, session, state in (
        *(("run-1", "s1", "paused"), ("run-2", "s1", "pending"), ("run-3", "s1", "pending")),
        *(("run-4", "s2", "running"), ("run-5", "s2", "pending"), ("run-6", None, "paused"), ("run-7", None, "pending")),
        *(("run-8", "s3", "paused"), ("run-9", "s3", "pending"), ("run-10", "s4", "pending")),
    ):
        await Writer(store, run_id).begin(session_id=session, state=state)
    store._runs["run-8"].row = replace(store._runs["run-8"].row, flags=(CORRUPT,))
    told = {run_id: (row.run_id, row.state) for run_id, row in (await history.blocked()).items()}
    assert told == {"run-2": ("run-1", "paused"), "run-3": ("run-1", "paused"), "run-5": ("run-4", "running")}


async def test_runs_that_may_be_deleted(store: MemoryStore, history: History) -> None:
    """Expired are runs that ended before a time; open ones, later ones and dead letters are kept."""
    for run_id, began in (("run-1", 0.0), ("run-2", 100.0), ("run-3", 0.0)):
        await (await Writer(store, run_id, began=began).begin()).finish()
    await Writer(store, "run-4").begin()
    store._runs["run-3"].row = replace(store._runs["run-3"].row, flags=(DEAD,))
    assert [row.run_id for row in await history.expired(50.0)] == ["run-1"]


# --- verification ---


async def test_a_sound_journal(store: MemoryStore, history: History) -> None:
    """A journal with runs in every state has no problems."""
    await (await Writer(store, "run-1").begin()).finish()
    await Writer(store, "run-2").begin(started("0.0", "plan"), done("0.0", "plan"))
    kept = await Writer(store, "run-3").begin(started("0.0", "plan"))
    await kept.tell(done("0.0", "plan"), is_kept=True)
    await Writer(store, "run-4").begin(WorkflowPaused("review"), state="paused", reason="review")
    await Writer(store, "run-5").begin(state="pending")
    await Writer(store, "run-6").begin(started("0.0", "plan"), state="recovering")
    await Writer(store, "run-7").begin(WorkflowCancelled("asked"), state="cancelled", status="cancelled", ended_at=1.0)
    failed_run = WorkflowFailed("timed_out", "timeout", 1.0)
    await Writer(store, "run-8").begin(failed_run, state="failed", status="timed_out", ended_at=1.0)
    assert await history.verify() == []
    assert await history.verify("run-8") == []
    with pytest.raises(RunNotFoundError):
        await history.verify("nowhere")


Damage = Callable[[MemoryStore], None]


def _entries(change: Callable[[list[Any]], Any]) -> Damage:
    return lambda store: change(store._runs["run-1"].entries)


def _row(**fields: Any) -> Damage:
    def damage(store: MemoryStore) -> None:
        run = store._runs["run-1"]
        run.row = replace(run.row, **fields)

    return damage


def _foreign_snapshot(store: MemoryStore) -> None:
    store._runs["run-1"].snapshot = store._runs["run-2"].snapshot


def _moved_snapshot(store: MemoryStore) -> None:
    snapshot = store._runs["run-1"].snapshot
    assert snapshot is not None
    store._runs["run-1"].snapshot = (snapshot[0] - 1, snapshot[1])


def _second_answer(entries: list[Any]) -> None:
    entries.append(encode("run-1", len(entries), 1, 1.0, done("0.0", "plan"), entries[-1].hash))


def _later_type(entries: list[Any]) -> None:
    entries.append(sealed("run-1", len(entries), 1, 1.0, "FromTheFuture", 1, b"{}", entries[-1].hash))


@pytest.mark.parametrize(
    ("damage", "seq", "told"),
    [
        (_entries(lambda entries: entries.__setitem__(1, replace(entries[1], body=b"{}"))), 1, "checksum"),
        (_entries(lambda entries: entries.pop(1)), 1, "is missing"),
        (_entries(lambda entries: entries.clear()), 0, "is missing"),
        (_entries(_second_answer), 4, "no step is ready at 0.0"),
        (_entries(_later_type), 4, "does not know FromTheFuture"),
        (_row(plan_hash="feed"), None, "'feed' for its plan_hash"),
        (_row(state="completed", status="completed", ended_at=1.0), None, "says 'completed' for its state, its records say 'running'"),
        (_row(state="paused"), None, "'paused' for its state"),
        (_row(event_id="e"), None, "'e' for its event"),
        (_row(session_id="s9"), None, "'s9' for its session"),
        (_row(pattern="loop"), None, "'loop' for its pattern"),
        (_row(status="completed"), None, "'completed' for its status"),
        (_row(epoch=0), None, "epoch 0"),
        (_row(flags=()), None, "lacks the flags abandoned"),
        (_foreign_snapshot, None, "of another run"),
        (_moved_snapshot, 2, "stands after another record"),
        (lambda store: store._plans.clear(), None, "is not kept"),
    ],
)
async def test_damage_is_found_and_named(store: MemoryStore, history: History, damage: Damage, seq: int | None, told: str) -> None:
    """Each kind of damage is told of with its run and record."""
    for run_id in ("run-1", "run-2"):
        writer = await Writer(store, run_id).begin(started("0.0", "plan"), StepAbandoned("0.0", "plan"), flags=("abandoned",))
        await writer.tell(done("0.0", "plan"), is_kept=True)
    assert await history.verify() == []
    damage(store)
    history = History(store, Rule, no_function)  # which has not read the plan yet
    problems = await history.verify("run-1")
    assert any(problem.run_id == "run-1" and problem.seq == seq and told in problem.message for problem in problems), problems
    assert await history.verify()
    assert f"run run-1{'' if seq is None else f', record {seq}'}: " in "".join(map(str, problems))
    assert problems[0].to_dict() == {"run_id": "run-1", "seq": problems[0].seq, "message": problems[0].message}


async def test_what_a_view_of_a_damaged_run_says(store: MemoryStore, history: History) -> None:
    """A run without records, without its beginning, or with a record that does not fit is not shown."""
    writer = await Writer(store, "run-1").begin(started("0.0", "plan"))
    entries = store._runs["run-1"].entries
    _second_answer(entries)
    _second_answer(entries)
    with pytest.raises(JournalDamagedError, match="record 3: no step is ready"):
        await history.view("run-1")
    store._runs["run-1"].entries = [encode("run-1", 0, 1, 1.0, started("0.0", "plan"), b"")]
    with pytest.raises(JournalDamagedError, match="how the run began"):
        await history.view("run-1")
    del writer.entries[:]
    store._runs["run-1"].entries = []
    with pytest.raises(JournalDamagedError, match="record 0: is missing"):
        await history.view("run-1")


async def test_a_damaged_record_behind_a_snapshot(store: MemoryStore, history: History) -> None:
    """A record that is not what was written is named, whether it is read from a snapshot on or from the beginning."""
    writer = await Writer(store, "run-1").begin(started("0.0", "plan"))
    await writer.tell(done("0.0", "plan"), is_kept=True)
    await writer.tell(started("0.1.0", "write"))
    entries = store._runs["run-1"].entries
    entries[3] = replace(entries[3], at=5.0)
    with pytest.raises(JournalDamagedError, match="record 3: does not have the checksum"):
        await history.view("run-1")
    assert (await history.view("run-1", 2)).state["data"] == {}


async def test_a_cut_flow_leaves_the_steps_beside_it(store: MemoryStore, history: History) -> None:
    """Steps outside the flow that was cut go on."""
    plan = Par((Seq((Call("a"), Call("b")), Flow("inner", "sequential")), Call("c")), flow=Flow("main", "collaborative"))
    writer = await Writer(store, "run-1", plan=plan).begin(started("0.0.0", "a"), started("0.1", "c"))
    await writer.tell(FlowCut("0.0", Failure("slow", code="timeout")))
    assert steps(await history.view("run-1")) == {"0.0.0": ("a", "failed", 1, 0), "0.1": ("c", "running", 1, 0)}


async def test_every_accepted_run_is_in_one_state(store: MemoryStore, history: History) -> None:
    """accepted = pending + running + recovering + paused + terminal, and a terminal run has a status of its state."""
    await (await Writer(store, "run-1").begin()).finish()
    await Writer(store, "run-2").begin()
    assert await history.verify() == []
    run = store._runs["run-1"]
    run.row = replace(run.row, status="timed_out")
    assert "it is completed with status timed_out" in "\n".join(map(str, await history.verify()))
    counts = store.counts

    async def lost() -> dict[str, int]:
        found = await counts()
        return found | {"records": found["records"] + 3, "running": found["running"] - 1}

    store.counts = lost  # type: ignore[method-assign]
    told = "\n".join(map(str, await history.verify()))
    assert "the journal: 2 runs were accepted, and 1 are in a state that there is" in told
    assert "the journal: there are 14 records, and 11 of them belong to runs that can be read" in told


async def test_a_state_that_there_is_not(store: MemoryStore, history: History) -> None:
    """A row with a state that no run can have is told of."""
    await Writer(store, "run-1").begin(started("0.0", "plan"))
    run = store._runs["run-1"]
    run.row = replace(run.row, state="lost")
    store._runs["run-1"] = run

    async def counts() -> dict[str, int]:
        return {"lost": 1, "runs": 1, "records": 2}

    store.counts = counts  # type: ignore[method-assign]
    assert "no run can be lost" in "\n".join(map(str, await history.verify()))


async def test_a_page_that_cannot_be_read(store: MemoryStore, history: History) -> None:
    """A run whose records cannot be read is named, the others are checked; rows that cannot be read are told of too."""
    for run_id in ("run-1", "run-2"):
        await (await Writer(store, run_id).begin()).finish()
    entries = store.entries

    async def torn(run_id: str, start: int = 0, stop: int | None = None) -> Any:
        if run_id == "run-1":
            raise StoreDamagedError("run run-1 cannot be read", run_id=run_id)
        return await entries(run_id, start, stop)

    store.entries = torn  # type: ignore[method-assign]
    assert [(problem.run_id, problem.message) for problem in await history.verify()] == [("run-1", "run run-1 cannot be read")]

    async def no_rows(wanted: RunFilter) -> Any:
        raise StoreDamagedError("the row of run run-2 cannot be read", run_id="run-2")

    store.rows = no_rows  # type: ignore[method-assign]
    assert [problem.run_id for problem in await history.verify()] == ["run-2"]


async def test_a_journal_that_is_written_meanwhile(store: MemoryStore, history: History) -> None:
    """What is written or deleted while a journal is checked is no problem."""
    writer = await Writer(store, "run-1").begin()
    await (await Writer(store, "run-2").begin()).finish()
    snapshot = store.snapshot

    async def busy(run_id: str) -> Any:
        if run_id == "run-1" and len(writer.entries) == 1:
            await writer.finish()
            await Writer(store, "run-3").begin()
            await store.delete(["run-2"])
        return await snapshot(run_id)

    store.snapshot = busy  # type: ignore[method-assign]
    assert await history.verify() == []


async def test_a_plan_whose_merge_function_is_not_at_hand(store: MemoryStore, history: History) -> None:
    """A run that cannot be replayed here for want of user code is not called sound."""
    merge = Merge("ordered", {"x": "handlers:add"}, {"handlers:add": lambda before, values: before})
    plan = Par((Call("a"), Call("b")), merge=merge, flow=Flow("main", "collaborative"))
    await Writer(store, "run-1", plan=plan).begin()
    assert ["cannot be replayed here: no handlers:add here"] == [problem.message for problem in await history.verify()]
    with pytest.raises(EntrypointError):
        await history.view("run-1")
