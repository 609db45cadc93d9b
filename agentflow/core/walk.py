"""Walk: the one interpreter of plans. A state machine without I/O: tell it what a call answered, learn what is ready.

`start()` and `complete()` return the calls that became ready, as frames: a frame stands for its call until it is completed.
`outcome` says how the walk ended. Each completion costs O(depth) of the plan, never O(plan). Nothing here knows of
asyncio, clocks or handlers: a run is resumed by feeding the recorded answers to a fresh Walk.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from agentflow.core.event import Event
from agentflow.core.facts import RunFacts, first_true
from agentflow.core.facts import outputs_of as outputs_of
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import DONE, FAILED, LOOP_KEYS, OPEN, Frame
from agentflow.core.handoff import end_hop, hand_on, hold, no_way
from agentflow.core.join import join_error, salvage, settle_branches
from agentflow.core.merge import Conflict
from agentflow.core.outcome import Answer as Answer
from agentflow.core.outcome import Outcome as Outcome
from agentflow.core.plan import Branch, Call, Loop, Map, Node, Par, Seq, has_name, key_of, name_of
from agentflow.core.records import BranchTaken, LoopEnded, Note, RouteIgnored
from agentflow.core.state import REMOVED, Patch, Scope
from agentflow.errors import RuleError


class Walk:
    """The state machine of one run.

    Args:
        plan: what to walk.
        event: the accepted event; conditions and route flows read it.
        scope: the first state.
        is_noting: keep `notes` of choices, for records and observers.
    """

    __slots__ = ("_outcome", "event", "is_done", "is_noting", "notes", "outputs", "plan", "root", "scope")

    after: Frame | None = None  # of a PolicyWalk: the call of a phase after the main one
    closing: Sequence[Frame] = ()  # and joins that are to be closed now: nothing below them may begin

    def __init__(self, plan: Node, event: Event, scope: Scope, *, is_noting: bool = False) -> None:
        self.plan = plan
        self.event = event
        self.scope = scope
        self.outputs: dict[str, Patch] = {}
        scope.outputs = self.outputs
        self.is_noting = is_noting
        self.notes: list[Note] = []
        self.is_done = False
        self._outcome: Outcome | None = None
        self.root: Frame | None = None

    def start(self) -> list[Frame]:
        """Enter the plan and return the calls that are ready."""
        ready: list[Frame] = []
        self.root = self._enter(self.plan, None, 0, self.scope, ready)
        return ready

    def complete(self, frame: Frame, answer: Answer) -> list[Frame]:  # noqa: C901, PLR0912 - each step comes through here: no calls
        """Settle a call's answer and return the calls that became ready."""
        failure: Failure | None = None
        if type(answer) is Patch:
            scope = frame.scope
            if answer.is_removing or answer.meta:
                scope.apply(answer)
            else:
                scope.entries.update(answer.data)
            if scope.outputs is None:
                scope.outputs = {frame.node.agent: answer}  # type: ignore[union-attr]
            else:
                scope.outputs[frame.node.agent] = answer  # type: ignore[union-attr]
            if answer.route:
                failure = self._hand_on(frame, answer.route)
            elif (parent := frame.parent) is not None:
                node = parent.node
                if type(node) is Seq:
                    # A shortcut through `_leave` for what most completions are, at half the cost; the same rules hold.
                    index = parent.round + 1
                    if index == len(node.steps):
                        if parent.parent is None:
                            return self._end_with(frame, parent)
                    elif type(node.steps[index]) is Call:
                        frame.node = node.steps[index]
                        frame.index = parent.round = index
                        return [frame]
                elif type(node) is Loop:
                    if node.is_handoff:
                        if parent.parent is None and parent.route is None:
                            return self._end_with(frame, parent)
                    elif self._goes_round(frame, parent, node):
                        return [frame]
        else:
            failure = answer  # type: ignore[assignment] # what is no patch
        ready: list[Frame] = []
        if failure is not None:
            failure = failure.at(agent=name_of(frame.node), position=frame.position, stage=frame.stage)
            self.outcome.tell(failure.agent, failure)
        self._leave(frame, failure, ready)
        return ready

    def cut(self, frame: Frame | None, failure: Failure, *, is_final: bool = False) -> list[Frame]:
        """End a frame (None: the whole walk) from outside: keep what is settled below it, fail it, return what became ready.

        The caller sees to it that no call below the frame is completed afterwards. Nothing becomes ready any more if `is_final`.
        """
        ready: list[Frame] = []
        frame = frame or self.root
        if frame is None:
            self.end(failure)
            return ready
        if type(frame.node) is not Call:
            salvage(frame, self._merge)
        frame.status = FAILED  # before it leaves: its time is over, it goes on with nothing
        self._leave(frame, failure, ready)
        return ready

    def degrade(self, failure: Failure) -> None:
        """Note that a step's `default_output` is about to be its answer: `failure` says why, and where."""
        self.outcome.degrade(failure)

    @property
    def outcome(self) -> Outcome:
        """How the walk stands; made on first use, since most runs need nothing but the default."""
        if self._outcome is None:
            self._outcome = Outcome()
        return self._outcome

    @property
    def is_plain(self) -> bool:
        """Whether nothing happened that an outcome would tell of: no failure, conflict or reason of its own."""
        return self._outcome is None

    # --- entering ---

    def _enter(self, node: Node, parent: Frame | None, index: int, scope: Scope, ready: list[Frame]) -> Frame:
        frame = Frame(node, parent, index, scope)
        if parent is not None and type(parent.node) is Par:
            parent.frames[index] = frame
        if type(node) is Call:
            ready.append(frame)
            return frame
        frame.round = 0
        frame.child = None
        if parent is not None and node.flow is not None:
            frame.scope = Scope({}, None, scope)
        if type(node) is Seq:  # each run comes through here, and a `match` takes twice as long
            self._descend(frame, node.steps[0], ready)
        elif type(node) is Loop:
            self._begin_loop(frame, node, ready)
        elif type(node) is Par:
            self._begin_par(frame, node, ready)
        elif type(node) is Branch:
            self._choose(frame, node, ready)
        else:
            assert type(node) is not Map  # noqa: S101 - a plan with a Map is walked by a MapWalk
            assert_never(node)
        return frame

    def _descend(self, frame: Frame, node: Node, ready: list[Frame], index: int = 0) -> None:
        if type(node) is Call:
            frame.child = child = Frame(node, frame, index, frame.scope)
            ready.append(child)
        else:
            frame.child = self._enter(node, frame, index, frame.scope, ready)

    def _go_on(self, frame: Frame, left: Frame, node: Node, index: int, ready: list[Frame]) -> None:
        """Enter the next child of a sequence or loop; from call to call the frame that was left serves again."""
        if type(node) is Call and type(left.node) is Call:
            left.node = node
            left.index = index
            left.status = OPEN
            ready.append(left)
        else:
            self._descend(frame, node, ready, index)

    def _begin_par(self, frame: Frame, node: Par, ready: list[Frame]) -> None:
        total = frame.left = len(node.branches)
        frame.frames = [None] * total
        frame.round = min(total, node.concurrency)
        frame.is_filling = True
        for index in range(frame.round):
            self._enter(node.branches[index], frame, index, Scope({}, None, frame.scope), ready)
        frame.is_filling = False
        if 0 < frame.left < total:
            self._fill(frame, node, ready)

    def _fill(self, par: Frame, node: Par, ready: list[Frame]) -> None:
        """Start branches while there is room: one that fails while it is entered makes room for the next."""
        total = len(node.branches)
        par.is_filling = True
        while par.round < total and par.round - (total - par.left) < node.concurrency:
            index = par.round
            par.round += 1
            self._enter(node.branches[index], par, index, Scope({}, None, par.scope), ready)
        par.is_filling = False

    def _begin_loop(self, frame: Frame, node: Loop, ready: list[Frame]) -> None:
        frame.round = 1
        if node.is_handoff:
            frame.trail = []
            if frame.parent is None or frame.is_main:
                frame.route = self.event.first_route()
            self._hop(frame, node, None, ready)
        else:
            hidden = {} if frame.scope is frame.outer else frame.scope.entries  # what a MapWalk hides of it
            frame.scope = Scope({**hidden, "iteration": 0, "loop_complete": REMOVED, "loop_completed": REMOVED}, None, frame.outer)
            self._descend(frame, node.body, ready)

    def _choose(self, frame: Frame, node: Branch, ready: list[Frame]) -> None:
        try:
            index = first_true(node, self._facts(frame))
        except RuleError as error:
            self._fall(frame, failure_of(error).at(agent="", position=frame.position, stage=frame.stage), ready)
            return
        if self.is_noting:
            self.notes.append(BranchTaken(frame.position, index, name_of(node.cases[index])))
        self._descend(frame, node.cases[index], ready, index)

    def _facts(self, frame: Frame) -> RunFacts:
        return RunFacts(self.event, frame.scope)

    def _fall(self, frame: Frame, failure: Failure, ready: list[Frame]) -> None:
        """Leave a frame that failed as it was entered; a PolicyWalk does so later, since more may be entered then."""
        self._leave(frame, failure, ready)

    def _hop(self, loop: Frame, node: Loop, left: Frame | None, ready: list[Frame]) -> None:
        """Enter the member of a hand-off loop that the route at hand names; its branch needs no frame of its own."""
        branch = node.body
        assert type(branch) is Branch and branch.routes is not None  # noqa: S101, PT018 - the shape a hand-off loop has
        target = loop.route or branch.default
        loop.route = None
        index = None
        if target:
            loop.trail.append(target)
            index = branch.routes.get(target)
        if index is None:
            failure = no_way(target, branch.routes).at(agent="", position=f"{loop.position}#{loop.round}", stage=loop.stage)
            self._fall(loop, failure, ready)
            return
        if self.is_noting:
            self.notes.append(BranchTaken(f"{loop.position}#{loop.round}", index, name_of(branch.cases[index])))
        if left is None:
            self._descend(loop, branch.cases[index], ready, index)
        else:
            self._go_on(loop, left, branch.cases[index], index, ready)

    def _hand_on(self, frame: Frame, route: str) -> Failure | None:
        """Give a route to the nearest enclosing route flow, or say what is wrong with it."""
        loop = frame.handoff
        if loop is None:
            if self.is_noting:
                self.notes.append(RouteIgnored(frame.position, route))
            return None
        return hand_on(loop, frame, route)

    # --- leaving ---

    def _end_with(self, frame: Frame, root: Frame) -> list[Frame]:
        """End the walk with the last call of a main flow that has no scope of its own."""
        frame.status = root.status = DONE
        root.child = None
        self.end(None)
        return []

    def _goes_round(self, frame: Frame, loop: Frame, node: Loop) -> bool:
        """Begin the next round of a plain loop of one call; False when `_leave` has to look closer."""
        if node.until is not None or loop.round >= node.bound:
            return False
        entries = frame.scope.entries
        if entries["loop_complete"] is True or entries["loop_completed"] is True:
            return False
        entries["iteration"] = loop.round
        loop.round += 1
        return True

    def _leave(self, frame: Frame, failure: Failure | None, ready: list[Frame]) -> None:  # noqa: C901, PLR0912 - one match over all nodes
        while True:
            frame.status = DONE if failure is None else FAILED
            if frame.scope is not frame.outer:
                frame.fold()
            if type(frame.node) is not Call:
                frame.child = None  # parent and child would keep each other alive
            parent = frame.parent
            if parent is None:
                self.end(failure)
                return
            match parent.node:
                case Seq(steps=steps):
                    parent.round += 1
                    if failure is None and parent.round < len(steps):
                        self._go_on(parent, frame, steps[parent.round], parent.round, ready)
                        return
                case Loop() as node:
                    is_over, failure = self._end_round(parent, node, failure)
                    if not is_over:
                        self._begin_round(parent, node, frame, ready)
                        return
                case Par() as node:
                    if not self._end_branch(parent, node, frame, failure, ready):
                        return
                    failure = self._join(parent, node)
                case Branch() | Call() | Map():
                    pass  # a branch ends as the way it took did, a Map as its join; a call is nobody's parent
                case _:
                    assert_never(parent.node)
            frame = parent
            if failure is not None:
                self._leave(frame, failure, ready)  # a PolicyWalk may make something else of it
                return

    def _begin_round(self, frame: Frame, node: Loop, left: Frame, ready: list[Frame]) -> None:
        frame.round += 1
        if node.is_handoff:
            self._hop(frame, node, left, ready)
        else:
            self._go_on(frame, left, node.body, 0, ready)

    def _end_round(self, frame: Frame, node: Loop, failure: Failure | None) -> tuple[bool, Failure | None]:
        """Close a round: is the loop over, and with what failure?"""
        if node.is_handoff:
            return end_hop(frame, node, failure)
        entries = frame.scope.entries
        reason = "error" if failure is not None else ""
        if not reason:
            try:
                is_met = entries.get("loop_complete") is True or entries.get("loop_completed") is True
                if is_met or (node.until is not None and node.until.holds(self._facts(frame))):
                    reason = "condition_met"
                elif frame.round >= node.bound:
                    reason = "max_iterations"
            except RuleError as error:
                reason = "error"
                failure = failure_of(error).at(agent=name_of(node.body), position=frame.position, stage=frame.stage)
        if not reason:
            entries["iteration"] = frame.round
            return False, None
        if frame.is_main:
            self.outcome.reason = reason
        if self.is_noting:
            final = {key: value for key in LOOP_KEYS if (value := entries.get(key, REMOVED)) is not REMOVED}
            self.notes.append(LoopEnded(frame.position, reason, frame.round, final))  # type: ignore[arg-type]
        return True, failure

    # --- joins ---

    def _end_branch(self, par: Frame, node: Par, branch: Frame, failure: Failure | None, ready: list[Frame]) -> bool:
        """Count a branch as finished, start the next that waits, and say whether it was the last."""
        if failure is not None:
            branch.failure = failure
            if has_name(branch.node):  # else it was told under the name of who failed
                self.outcome.tell(key_of(branch.node), failure)
        par.left -= 1
        if par.left == 0:
            return True
        if par.round < len(node.branches) and not par.is_filling:
            self._fill(par, node, ready)  # the last branch may end in there: then it has joined already
        return False

    def _join(self, par: Frame, node: Par) -> Failure | None:
        failure = self._merge(par, node)
        failed = [frame for frame in par.frames if frame is not None and frame.status == FAILED]
        routes = [frame.route for frame in par.frames if frame is not None and frame.status == DONE and frame.route]
        par.frames = []
        if routes:
            hold(par, routes[-1])
        if not failed:
            return failure
        error = join_error(node, failed)
        if error is not None:
            return error.at(agent=", ".join(dict.fromkeys(name_of(frame.node) for frame in failed)), position=par.position, stage=par.stage)
        self.outcome.is_partial = True
        return failure

    def _merge(self, par: Frame, node: Par) -> Failure | None:
        return self._note_merge(*settle_branches(par, node))

    def _note_merge(self, failure: Failure | None, conflicts: list[Conflict]) -> Failure | None:
        if conflicts:
            self.outcome.conflicts.extend(conflicts)
        return failure

    def end(self, failure: Failure | None) -> None:
        """End the walk as it stands."""
        self.is_done = True
        self.root = None
        if failure is not None:
            self.outcome.failure = failure
        if self._outcome is not None:
            self._outcome.close()
