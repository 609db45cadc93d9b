"""The one suite that every store passes: appends, fencing, leases, rows, deletion."""

from __future__ import annotations

import asyncio
from dataclasses import fields, replace
from typing import Any

import pytest

from agentflow.core.append import Append
from agentflow.core.codec import encode
from agentflow.core.records import PlanMoved, WorkflowCreated
from agentflow.core.run_row import RunFilter, RunRow
from agentflow.errors import DuplicateEventError, FencedError, StoreError

Author = Any
Store = Any


async def test_what_is_appended_is_read_back_as_it_was(store: Store, author: Author) -> None:
    """Entries, row, plan and snapshot come back equal, in order, whole and in part."""
    run = author("r1")
    await store.append(run.begin(waiting=("0.1#2[3]", "1"), flags=("dead_lettered",), session_id="s", parent_id="p", root_id="q"))
    await store.append(run.step(3, snapshot=(4, b"\x00state")))
    assert run.entries == await store.entries("r1")
    assert run.entries[1:3] == await store.entries("r1", 1, 3)
    assert run.entries[4:] == await store.entries("r1", 4)
    assert await store.entries("r1", 3, 1) == []
    assert (4, b"\x00state") == await store.snapshot("r1")
    assert b'{"plan":1}' == await store.plan("plan")
    expected = run.row(waiting=("0.1#2[3]", "1"), flags=("dead_lettered",), session_id="s", parent_id="p", root_id="q")
    assert expected == await store.row("r1") == await store.row_of_event("event-r1")


async def test_unknown_runs_have_nothing(store: Store) -> None:
    """What was never written is None or empty, and no error."""
    assert await store.row("r") is None
    assert await store.row_of_event("e") is None
    assert await store.entries("r") == []
    assert await store.snapshot("r") is None
    assert await store.plan("p") is None
    assert await store.rows(RunFilter()) == []
    assert await store.take("a", lease_s=1) == []
    assert await store.delete(["r"]) == 0


async def test_a_newer_snapshot_replaces_the_older(store: Store, author: Author) -> None:
    """Only the newest snapshot of a run is kept."""
    run = author("r1")
    await store.append(run.begin())
    await store.append(run.step(snapshot=(1, b"old")))
    await store.append(run.step(snapshot=(3, b"new")))
    assert (3, b"new") == await store.snapshot("r1")


@pytest.mark.parametrize("off", [-1, 1, 40])
async def test_an_append_that_does_not_follow_is_fenced(store: Store, author: Author, off: int) -> None:
    """A seq that is taken, or that leaves a gap, is refused and leaves nothing behind."""
    run = author("r1")
    await store.append(run.begin())
    late = author("r1", entries=run.entries[: 2 + off] if off < 0 else [*run.entries, *author("x").write(off)])
    with pytest.raises(FencedError, match="r1"):
        await store.append(late.step(snapshot=(9, b"no"), row=run.row(state="failed")))
    assert run.entries == await store.entries("r1")
    assert await store.snapshot("r1") is None
    assert run.row() == await store.row("r1")


async def test_an_append_to_no_run_is_fenced(store: Store, author: Author) -> None:
    """Only `is_new` makes a run."""
    with pytest.raises(FencedError, match="no such run"):
        await store.append(author("r1").step())


@pytest.mark.parametrize("broken", ["gap", "no row", "row of another run"])
async def test_an_append_that_contradicts_itself_is_refused(store: Store, author: Author, broken: str) -> None:
    """Entries that do not count up, and a new run without its row, are refused, and the others of the commit are not."""
    run, other = author("r1"), author("r2")
    if broken == "gap":
        await store.append(run.begin())
        append = run.step(3)
        append.entries = (append.entries[0], append.entries[2])
    else:
        append = replace(run.begin(), row=None if broken == "no row" else other.row())
    outcomes = await asyncio.gather(store.append(append), store.append(other.begin()), return_exceptions=True)
    assert isinstance(outcomes[0], StoreError)
    assert outcomes[1] is None
    assert other.entries == await store.entries("r2")


async def test_refused_appends_do_not_spoil_the_others_of_their_commit(store: Store, author: Author) -> None:
    """Of many appends at once exactly those that do not fit are refused, whatever is wrong with them."""
    runs = [author(f"r{n}") for n in range(30)]
    await asyncio.gather(*[store.append(run.begin()) for run in runs])
    waiting = []
    for n, run in enumerate(runs):
        if n % 3 == 1:
            waiting.append(store.append(author(run.run_id, epoch=7, entries=list(run.entries)).step()))
        elif n % 3 == 2:
            again = author(f"again{n}")
            waiting.append(store.append(replace(again.begin(), row=replace(again.row(), event_id=f"event-r{n}"))))
        else:
            waiting.append(store.append(run.step()))
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(None), FencedError, DuplicateEventError] * 10 == [type(outcome) for outcome in outcomes]
    for run in runs:
        assert run.entries == await store.entries(run.run_id)
    assert 30 == len(await store.rows(RunFilter()))


async def test_many_appends_to_one_run_may_wait_together(store: Store, author: Author) -> None:
    """Appends that were queued without waiting for each other follow one another."""
    run = author("r1")
    await asyncio.gather(*[store.append(run.begin()), *[store.append(run.step(1)) for _ in range(50)]])
    assert run.entries == await store.entries("r1")


async def test_of_two_writers_of_one_seq_one_is_fenced(store: Store, author: Author) -> None:
    """Compare-and-append: the second writer of a seq is refused, in one commit and in two."""
    run = author("r1")
    await store.append(run.begin())
    for _ in range(2):
        rivals = [author("r1", entries=list(run.entries)) for _ in range(2)]
        outcomes = await asyncio.gather(*[store.append(rival.step()) for rival in rivals], return_exceptions=True)
        assert [type(None), FencedError] == [type(outcome) for outcome in outcomes]
        run.entries = rivals[0].entries
    assert run.entries == await store.entries("r1")


@pytest.mark.parametrize("is_together", [True, False])
async def test_an_event_makes_one_run(store: Store, author: Author, is_together: bool) -> None:
    """The same event again, or another one under its id, is refused, naming the run that has it."""
    first, same, other = author("r1"), author("r1"), author("r3")
    second = replace(other.begin(), row=replace(other.row(), event_id="event-r1", event_hash="bb"))
    if not is_together:
        await store.append(first.begin())
    begin = [first.begin()] if is_together else []
    waiting = [store.append(append) for append in [*begin, same.begin(), second]]
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    told = [(error.run_id, error.is_same) for error in outcomes if isinstance(error, DuplicateEventError)]
    assert [("r1", True), ("r1", False)] == told
    assert await store.row("r3") is None


async def test_appends_that_share_a_fate_are_written_together(store: Store, author: Author) -> None:
    """A run's next records, and the first ones of the runs that it brings forth, are there at once; each goes on by itself."""
    run, first, second = author("r1"), author("r2"), author("r3")
    await store.append(run.begin())
    also = (first.begin(parent_id="r1", root_id="r1"), replace(second.begin(), snapshot=(1, b"kept")))
    await store.append(replace(run.step(1, row=run.row(reason="grown")), also=also))
    for one in (run, first, second):
        assert one.entries == await store.entries(one.run_id)
    assert run.row(reason="grown") == await store.row("r1")
    assert first.row(parent_id="r1", root_id="r1") == await store.row_of_event("event-r2")
    assert (1, b"kept") == await store.snapshot("r3")
    assert ["r1", "r2", "r3"] == [row.run_id for row in await store.rows(RunFilter(newest_first=False))]
    await asyncio.gather(*[store.append(one.step()) for one in (second, run, first)])
    for one in (run, first, second):
        assert one.entries == await store.entries(one.run_id)


@pytest.mark.parametrize("wrong", ["itself", "known event", "known run", "no such run", "gap", "twice"])
async def test_of_appends_that_share_a_fate_all_are_refused_or_none(store: Store, author: Author, wrong: str) -> None:
    """Whichever of them does not fit, nothing of any is written; the others of the commit are, before it and behind."""
    run, known, before, behind = (author(name) for name in ("r1", "known", "before", "behind"))
    await asyncio.gather(*[store.append(one.begin()) for one in (run, known, before, behind)])
    entries = list(run.entries)
    good, bad, last = author("good"), author("bad"), author("last")
    append = run.step()
    part = bad.begin()
    if wrong == "itself":
        append = replace(append, epoch=7)
    elif wrong == "known event":
        part = replace(part, row=replace(bad.row(), event_id="event-known"))
    elif wrong == "known run":
        part = author("known").begin()
        part = replace(part, row=replace(part.row, event_id="another"))
    elif wrong == "no such run":
        part = replace(part, is_new=False, row=None)
    elif wrong == "gap":
        part.entries = part.entries[1:]
    else:
        part = replace(good.begin(), row=replace(good.row(), event_id="another"))
        good = author("good")
    together = replace(append, also=(good.begin(), part, last.begin()))
    outcomes = await asyncio.gather(
        store.append(before.step()), store.append(together), store.append(behind.step()), return_exceptions=True
    )
    assert (None, None) == (outcomes[0], outcomes[2])
    assert isinstance(outcomes[1], DuplicateEventError if wrong == "known event" else StoreError)
    for name in ("good", "bad", "last"):
        assert await store.row(name) is None
        assert [] == await store.entries(name)
    assert entries == await store.entries("r1")
    for one in (known, before, behind):
        assert one.entries == await store.entries(one.run_id)
    run.entries = entries
    await store.append(replace(run.step(), also=(author("good").begin(),)))  # and what is right is taken then
    assert run.entries == await store.entries("r1")
    assert await store.row("good") is not None


async def test_many_appends_that_share_fates_wait_together(store: Store, author: Author) -> None:
    """Each keeps its own, whatever becomes of the others of its commit."""
    runs = [author(f"r{n}") for n in range(20)]
    await asyncio.gather(*[store.append(run.begin()) for run in runs])
    children = [author(f"c{n}") for n in range(20)]
    waiting = []
    for n, (run, child) in enumerate(zip(runs, children, strict=True)):
        begin = child.begin()
        if n % 4 == 3:
            begin = replace(begin, row=replace(begin.row, event_id="event-r0"))
        waiting.append(store.append(replace(run.step(), also=(begin,))))
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(None), type(None), type(None), DuplicateEventError] * 5 == [type(outcome) for outcome in outcomes]
    for n, child in enumerate(children):
        assert ([] if n % 4 == 3 else child.entries) == await store.entries(child.run_id)


async def test_a_run_id_is_given_once(store: Store, author: Author) -> None:
    """A second run under a known id is refused, although its event is new."""
    await store.append(author("r1").begin())
    twin = author("r1")
    with pytest.raises(FencedError):
        await store.append(replace(twin.begin(), row=replace(twin.row(), event_id="another")))


async def test_only_the_row_may_change(store: Store, author: Author) -> None:
    """An append may have no entries; a row's epoch, owner and event are not its to change."""
    run = author("r1")
    await store.append(run.begin(owner="a"))
    changed = replace(run.row(state="paused", reason="approval", due_at=5.0), epoch=9, owner="thief")
    await store.append(Append("r1", 2, 1, row=changed))
    assert run.row(state="paused", reason="approval", due_at=5.0, owner="a") == await store.row("r1")
    assert run.entries == await store.entries("r1")


async def test_every_field_of_a_row_is_kept(store: Store, author: Author) -> None:
    """No field of RunRow is lost on the way, in a new row and in a changed one."""
    row = RunRow(
        run_id="r1", event_id="e1", event_hash="h1", state="paused", status="partial", reason="r", flags=("a", "ü"), pattern="loop",
        session_id="s", plan_hash="p", epoch=3, owner="o", started_at=1.25, ended_at=2.5, due_at=3.75, waiting=("0",), parent_id="x",
        root_id="y",
    )  # fmt: skip
    assert [] == [field.name for field in fields(row) if getattr(row, field.name) in ("", None, (), 1)]
    await store.append(Append("r1", 0, 3, author("r1", epoch=3).write(), row=row, is_new=True))
    assert row == await store.row("r1")
    bare = RunRow(run_id="r1", event_id="e1", event_hash="h1", epoch=3, owner="o")
    await store.append(Append("r1", 2, 3, row=bare))
    assert bare == await store.row("r1")


async def test_a_dead_owner_s_runs_are_taken_under_a_new_epoch(store: Store, author: Author) -> None:
    """Taking gives the open runs, oldest first, with the epoch raised; the living owner's and the ended ones stay."""
    for name, owner, state in (("r1", "dead", "running"), ("r2", "alive", "running"), ("r3", "dead", "paused"), ("r4", "dead", "running")):
        run = author(name)
        await store.append(run.begin(owner=owner, state=state))
        if name == "r4":
            await store.append(run.end())
    assert [] == await store.take("alive", lease_s=60, run_ids=["none"])
    taken = await store.take("new", lease_s=60)
    assert [("r1", 2, "new"), ("r3", 2, "new")] == [(row.run_id, row.epoch, row.owner) for row in taken]
    assert taken[0] == await store.row("r1")
    assert [] == await store.take("third", lease_s=60)
    await store.release("new")
    assert ["r1"] == [row.run_id for row in await store.take("third", lease_s=60, limit=1)]
    assert ["r3"] == [row.run_id for row in await store.take("fourth", lease_s=60, run_ids={"r3", "r2", "r9"})]


async def test_a_lease_ends_by_itself_and_is_renewed(store: Store, author: Author) -> None:
    """An owner that stops renewing is dead when its lease is over, and not before."""
    await store.append(author("r1").begin(owner="a"))
    await store.renew("a", 0.02)
    await store.renew("a", 60)
    await asyncio.sleep(0.03)
    assert [] == await store.take("b", lease_s=60)
    await store.renew("a", 0.02)
    await asyncio.sleep(0.03)
    assert ["r1"] == [row.run_id for row in await store.take("b", lease_s=60)]


async def test_of_two_coordinators_the_frozen_one_is_fenced(store: Store, author: Author) -> None:
    """One coordinator freezes past its lease, the other takes its runs: each later append of the first is refused.

    Every seq has one writer, epochs never go back, and nothing of what was acknowledged is lost.
    """
    rounds = 40
    fenced = acknowledged = 0
    run = author("r1")
    await store.append(run.begin(owner="c0"))
    for turn in range(rounds):
        await store.renew(f"c{turn}", 60)
        await store.append(run.step())
        acknowledged += 1
        frozen = author("r1", epoch=run.epoch, entries=list(run.entries))  # what it believes when it falls asleep
        await store.release(f"c{turn}")  # its lease is over
        (row,) = await store.take(f"c{turn + 1}", lease_s=60)
        run.epoch = row.epoch
        if turn % 2:
            await store.append(run.step())  # the new one is faster than the old one wakes
            acknowledged += 1
        outcomes = await asyncio.gather(
            store.append(frozen.step()), store.append(run.step()), store.append(frozen.step()), return_exceptions=True
        )
        assert [FencedError, type(None), FencedError] == [type(outcome) for outcome in outcomes]
        fenced += 2
        acknowledged += 1
    entries = await store.entries("r1")
    assert run.entries == entries
    assert sorted(entry.epoch for entry in entries) == [entry.epoch for entry in entries]
    print(f"{rounds} takeovers, {fenced} appends fenced, {acknowledged} acknowledged")
    assert (rounds + 1, 2 * rounds) == (run.epoch, fenced)


async def test_a_hold_has_one_holder_and_a_growing_epoch(store: Store) -> None:
    """A named lease is prolonged under its epoch; it passes on when it is over or released, and its epoch grows."""
    assert 1 == await store.hold("mqtt", "a", 60)
    assert 1 == await store.hold("mqtt", "a", 60)
    assert await store.hold("mqtt", "b", 60) is None
    assert 1 == await store.hold("other", "b", 60)
    await store.release("a")
    assert 2 == await store.hold("mqtt", "b", 0.02)
    assert await store.hold("mqtt", "a", 60) is None
    await asyncio.sleep(0.03)
    assert 3 == await store.hold("mqtt", "a", 60)
    assert [4, None] == [await store.hold("once", name, 60) and 4 for name in ("a", "b")]


async def test_rows_are_filtered_and_ordered(store: Store, author: Author) -> None:
    """Each condition of a filter counts, they combine, and the order and limit are kept."""
    said = [
        {"state": "running", "pattern": "loop", "session_id": "s1"},
        {"state": "paused", "pattern": "route", "session_id": "s1", "flags": ("degraded",)},
        {"state": "completed", "status": "partial", "pattern": "loop", "flags": ("dead_lettered", "degraded")},
        {"state": "failed", "status": "timed_out", "pattern": "loop", "session_id": "s2"},
    ]
    for n, fields_ in enumerate(said):
        await store.append(author(f"r{n}").begin(**{**fields_, "started_at": float(n)}))

    async def ids(**wanted: Any) -> str:
        return "".join(row.run_id[1] for row in await store.rows(RunFilter(**wanted)))

    assert "3210" == await ids()
    assert "0123" == await ids(newest_first=False)
    assert "32" == await ids(limit=2)
    assert "" == await ids(limit=0)
    assert "10" == await ids(beyond="r2")
    assert "3" == await ids(beyond="r2", newest_first=False)
    assert "1" == await ids(beyond="r3", session_id="s1", limit=1)
    assert "" == await ids(beyond="nobody")
    assert "10" == await ids(is_open=True)
    assert "0" == await ids(is_open=True, newest_first=False, limit=1)
    assert "23" == await ids(is_open=False, newest_first=False)
    assert "1" == await ids(state="paused")
    assert "3" == await ids(status="timed_out")
    assert "320" == await ids(pattern="loop")
    assert "0" == await ids(pattern="loop", session_id="s1")
    assert "310" == await ids(has_session=True)
    assert "2" == await ids(has_session=False)
    assert "01" == await ids(is_open=True, has_session=True, newest_first=False)
    assert "32" == await ids(since=2.0)
    assert "21" == await ids(flag="degraded")
    assert "" == await ids(flag="grade")
    assert "" == await ids(flag="' OR 1=1 --")


async def test_only_ended_runs_are_deleted(store: Store, author: Author) -> None:
    """Deletion takes an ended run with all it has, leaves the others, and frees its event's id."""
    kept, gone = author("r1"), author("r2")
    await store.append(kept.begin())
    await store.append(gone.begin(plan_hash="other"))
    await store.append(gone.step(snapshot=(1, b"s")))
    await store.append(replace(gone.end(), row=gone.row(state="completed", plan_hash="other")))
    assert 1 == await store.delete(["r1", "r2", "r2", "r3"])
    assert await store.row("r2") is None
    assert [] == await store.entries("r2")
    assert await store.snapshot("r2") is None
    assert await store.plan("other") is None
    assert await store.plan("plan") is not None
    await store.append(kept.step())
    again = author("r2")
    await store.append(again.begin(plan_hash="other"))
    assert again.entries == await store.entries("r2")
    assert await store.plan("other") is not None


async def test_plans_that_records_name_are_kept(store: Store, author: Author) -> None:
    """A plan goes with the last run that has walked it: one from which a run has moved away is still needed to read it back."""
    moved, gone = author("r1"), author("r2")
    told = [WorkflowCreated({}, "mixed", "first"), PlanMoved("second"), PlanMoved("third")]
    entries = [encode("r1", 0, 1, 1.0, told[0], b"")]
    for seq in (1, 2):
        entries.append(encode("r1", seq, 1, 1.0, told[seq], entries[-1].hash))
    for plan_hash in ("first", "second", "fourth"):
        other = author(f"of-{plan_hash}")
        await store.append(other.begin(plan_hash=plan_hash))
        await store.append(replace(other.end(), row=other.row(state="completed", plan_hash=plan_hash)))
    row = moved.row(plan_hash="third")
    await store.append(Append("r1", 0, 1, tuple(entries), row, ("third", b"{}"), is_new=True))
    await store.append(gone.begin())
    assert 3 == await store.delete(["of-first", "of-second", "of-fourth", "r1", "r2"])
    plans = {plan_hash for plan_hash in ("first", "second", "third", "fourth", "plan") if await store.plan(plan_hash) is not None}
    assert {"first", "second", "third", "plan"} == plans
    moved.entries = entries
    await store.append(moved.step(1, row=replace(row, state="completed")))
    assert 1 == await store.delete(["r1"])
    assert [None] * 3 == [await store.plan(plan_hash) for plan_hash in ("first", "second", "third")]


async def test_counts_add_up(store: Store, author: Author) -> None:
    """Every accepted run is in exactly one state."""
    for n, state in enumerate(("pending", "running", "paused", "recovering", "completed", "failed", "cancelled", "completed")):
        await store.append(author(f"r{n}").begin(state=state))
    counts = await store.counts()
    assert 2 == counts["completed"]
    assert 1 == counts["cancelled"]
    assert (8, 16) == (counts["runs"], counts["records"])
    assert counts["runs"] == sum(counts.values()) - counts["runs"] - counts["records"] - counts["bytes"]


async def test_a_cancelled_waiter_disturbs_nobody(store: Store, author: Author) -> None:
    """Cancelling whoever waits takes nothing back and hurts nobody else."""
    run, other = author("r1"), author("r2")
    first = store.append(run.begin())
    first.cancel()
    await store.append(other.begin())
    await store.append(run.step())
    assert run.entries == await store.entries("r1")


async def test_a_store_may_be_closed_twice(store: Store) -> None:
    """Closing again does nothing."""
    await store.close()
    await store.close()
