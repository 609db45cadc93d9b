"""Orders: what may be asked of a run in each state, what it records, and what an illegal order says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentflow.core.failure import Failure
from agentflow.core.orders import approve, cancel, open_approvals, pause, reject, resume, state_of
from agentflow.core.plan import Call, Flow, Par, Seq
from agentflow.core.records import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequested,
    Fact,
    FlowCut,
    StepFailed,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowFailed,
    WorkflowPaused,
    WorkflowRecovering,
    WorkflowResumed,
)
from agentflow.core.standing import Standing
from agentflow.errors import IllegalTransitionError
from tests.core.test_replay import RUN, after, done, started

Order = Callable[[Standing], tuple[Fact, ...]]

PARALLEL = Par((Call("a"), Call("a"), Call("b")), flow=Flow("main", "collaborative"))
ASKED = ApprovalRequested("0.0", "a", "d1", 500.0)
DONE = [started(), done(), started("0.1.0", "b"), done("0.1.0", "b"), started("0.1.1", "c"), done("0.1.1", "c"), started("0.2", "d")]
COMPLETED = [*DONE, done("0.2", "d"), WorkflowCompleted("completed", "completed", 1.0)]

STATES: dict[str, list[Fact]] = {
    "pending": [],
    "running": [started()],
    "paused": [started(), WorkflowPaused("review")],
    "waiting": [ASKED, WorkflowPaused("approval", ("0.0",))],
    "recovered": [started(), WorkflowRecovering(2, "other", ("0.0",))],
    "cancelling": [started(), FlowCut("", Failure("stop"), "asked")],
    "completed": COMPLETED,
    "failed": [started(), StepFailed("0.0", "a", 1, 0.5, Failure("no")), WorkflowFailed("failed", "error", 1.0)],
    "cancelled": [started(), WorkflowCancelled("asked")],
}
ORDERS: dict[str, Order] = {"pause": pause, "resume": resume, "cancel": cancel}
LEGAL = {
    *(("pause", state) for state in ("running", "recovered")),
    *(("resume", state) for state in ("paused",)),
    *(("cancel", state) for state in ("pending", "running", "paused", "waiting", "recovered", "cancelling")),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("order", ORDERS)
def test_the_table_of_legal_orders(order: str, state: str) -> None:
    """Each order either returns records that replay behind the run's, or raises and says run, state, order and what is allowed."""
    standing = after(*STATES[state])
    if (order, state) in LEGAL:
        told = ORDERS[order](standing)
        again = after(*STATES[state], *told)
        assert again.seq == standing.seq + len(told)
    else:
        with pytest.raises(IllegalTransitionError) as caught:
            ORDERS[order](standing)
        assert (caught.value.run_id, caught.value.state, caught.value.order) == (RUN, state_of(standing), order)
        assert RUN in caught.value.message
        assert state_of(standing) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("waiting", "paused"),
        ("recovered", "running"),
        ("cancelling", "running"),
        *((state, state) for state in ("pending", "completed", "failed")),
    ],
)
def test_the_state_that_records_say(state: str, expected: str) -> None:
    """A run that waits for people is paused; one that was taken over, or is being cancelled, is what it was before."""
    assert state_of(after(*STATES[state])) == expected


def test_a_run_whose_last_step_is_done_is_running() -> None:
    """Between the last step and the end a run is running, and can be paused or cancelled no more."""
    standing = after(*COMPLETED[:-1])
    assert state_of(standing) == "running"
    with pytest.raises(IllegalTransitionError, match="its last step is done"):
        cancel(standing, "late")


def test_pause_and_resume() -> None:
    """A pause records its reason and no positions; resuming records who did it; paused twice is illegal."""
    assert pause(after(started()), "human review") == (WorkflowPaused("human review"),)
    assert resume(after(started(), WorkflowPaused("human review")), "ann") == (WorkflowResumed("ann"),)
    with pytest.raises(IllegalTransitionError, match="allowed: resume, cancel"):
        pause(after(started(), WorkflowPaused("human review")))
    with pytest.raises(IllegalTransitionError, match="allowed: pause, cancel"):
        resume(after(started()))


def test_resuming_what_waits_for_people_names_approve() -> None:
    """A run that only waits for people is not resumed; it is approved or rejected, and then it may go on."""
    waiting = STATES["waiting"]
    with pytest.raises(IllegalTransitionError, match=r"allowed: approve or reject 0\.0, cancel"):
        resume(after(*waiting))
    assert resume(after(*waiting, ApprovalGranted("0.0"))) == (WorkflowResumed(),)
    by_a_person = [started("0.2", "b"), ApprovalRequested("0.0", "a", "d"), WorkflowPaused("review")]
    assert resume(after(*by_a_person, plan=PARALLEL)) == (WorkflowResumed(),), "a person's pause is lifted all the same"


def test_cancel_once() -> None:
    """A cancel cuts the whole run; asked again it changes nothing; where nobody runs it, it ends at once."""
    (cut,) = cancel(after(started()), "too slow")
    assert isinstance(cut, FlowCut)
    assert (cut.position, cut.cancelled, cut.failure.code, cut.failure.message) == (
        "",
        "too slow",
        "cancelled",
        "the run was cancelled: too slow",
    )
    assert cancel(after(started(), cut), "again") == ()
    alone = cancel(after(started()), is_alone=True)
    assert alone[1:] == (WorkflowCancelled("cancelled"),)
    assert cancel(after(started(), cut), is_alone=True) == (WorkflowCancelled("too slow"),)
    assert after(started(), *alone).cancelled == "cancelled"
    assert state_of(after(*alone)) == "cancelled"


def test_the_first_answer_counts_and_the_second_changes_nothing() -> None:
    """Approving or rejecting what waits records it; what was answered, is over or never waited returns ()."""
    standing = after(ASKED)
    assert approve(standing, "0.0", "ann", "fine", digest="d1", at=499.0) == (ApprovalGranted("0.0", "ann", "fine"),)
    assert approve(standing, "a") == (ApprovalGranted("0.0"),)
    assert reject(standing, "a", "bob", "not authorized") == (ApprovalRejected("0.0", "bob", "not authorized"),)
    for answer in (ApprovalGranted("0.0"), ApprovalRejected("0.0")):
        assert approve(after(ASKED, answer), "0.0") == ()
        assert reject(after(ASKED, answer), "a") == ()
    for facts in ([started()], COMPLETED, STATES["cancelled"]):
        assert approve(after(*facts), "0.0") == reject(after(*facts), "a") == ()
    assert open_approvals(after(ASKED, WorkflowCancelled("asked"))) == {}


@pytest.mark.parametrize(("given", "why"), [({"digest": "d0"}, "what waits at 0.0 now is d1"), ({"at": 500.0}, "deadline")])
def test_an_approval_is_of_what_was_seen_and_in_time(given: dict[str, Any], why: str) -> None:
    """An approval of something else than what waits, or after its deadline, is refused."""
    with pytest.raises(IllegalTransitionError, match=why) as caught:
        approve(after(ASKED), "0.0", **given)
    assert (caught.value.order, caught.value.state) == ("approve", "running")


def test_an_agent_that_waits_twice_is_named_by_position() -> None:
    """Two steps of one agent that wait are told apart by position only; once one is answered, the name is enough."""
    asked = [ApprovalRequested("0.0", "a", "d1"), ApprovalRequested("0.1", "a", "d2")]
    standing = after(*asked, plan=PARALLEL)
    for order in (approve, reject):
        with pytest.raises(IllegalTransitionError, match=r"2 steps of a wait; name a position: 0\.0, 0\.1"):
            order(standing, "a")
    assert approve(standing, "0.1") == (ApprovalGranted("0.1"),)
    assert approve(after(*asked, ApprovalRejected("0.1"), plan=PARALLEL), "a") == (ApprovalGranted("0.0"),)


def test_rounds_of_a_loop_are_told_apart() -> None:
    """An answer for one round is none for the next."""
    from agentflow.core.plan import Loop

    plan = Loop(Seq((Call("a"),)), 3, flow=Flow("main", "loop"))
    told = [ApprovalRequested("0#1.0", "a", "d1"), ApprovalGranted("0#1.0"), started("0#1.0", "a"), done("0#1.0", "a")]
    standing = after(*told, ApprovalRequested("0#2.0", "a", "d2"), plan=plan)
    assert approve(standing, "0#1.0") == ()
    assert approve(standing, "0#2.0") == approve(standing, "a") == (ApprovalGranted("0#2.0"),)
