"""PolicyWalk: the walk of a plan with failure policies: what is borne, what ends a failed flow, and the phases after the main one.

The phases: main, then the error handler (position `!`), then compensation (`~` before the position of the step that is undone,
in the reverse order of completion), then the end. A step is undone when it has an answer of its own and the run fails. A walk
that is cancelled goes through none of them. Other plans are walked by `Walk` itself, and pay nothing for all this.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from agentflow.core.event import Event
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import DONE, FAILED, OPEN, Frame, SpecialFrame
from agentflow.core.handoff import hand_on
from agentflow.core.join import is_lost, settle
from agentflow.core.outcome import COMPENSATION, HANDLER, Answer
from agentflow.core.plan import CONTINUE, Call, ErrorRoutes, Flow, Loop, Map, Node, Par, Position, Seq, children, key_of, name_of
from agentflow.core.records import RouteIgnored
from agentflow.core.state import REMOVED, Patch, Scope
from agentflow.core.values import Json, copy_json
from agentflow.core.walk import Walk
from agentflow.errors import CancelledRunError, HistoryLimitError, JoinClosedError, RuleError

RECOVERED = "recovered"  # the handler's key that makes the run end well; its own, as `loop_complete` is a loop's
_FINAL = frozenset({CancelledRunError.code, HistoryLimitError.code})  # after these nothing begins
LOST, DEADLINE = "fail_fast", "deadline"  # why a join is closed


def has_policy(node: Node) -> bool:
    """Say whether a node has a failure policy that only a PolicyWalk knows."""
    if isinstance(node, Call):
        return node.policy is not None and node.policy.compensate is not None
    flow = node.flow
    if flow is not None and (flow.on_error == CONTINUE or flow.rescue is not None or flow.errors is not None):
        return True
    return isinstance(node, Par) and (node.fail_fast or node.join_timeout_s is not None)


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was completed and can be undone; `is_rescue` tells it from a round of its loop that stands at the same position."""

    position: Position
    call: Call
    patch: Patch
    is_rescue: bool = False


class PolicyWalk(Walk):
    """The state machine of one run whose plan has failure policies."""

    __slots__ = ("_degraded", "_fallen", "_is_final", "_turned", "after", "closing", "undo")

    after: SpecialFrame | None
    closing: list[Frame]

    def __init__(self, plan: Node, event: Event, scope: Scope, *, is_noting: bool = False) -> None:
        super().__init__(plan, event, scope, is_noting=is_noting)
        self.undo: list[Done] = []
        self.after = None
        self.closing = []
        self._degraded: set[Position] = set()
        self._fallen: deque[tuple[Frame, Failure | None]] = deque()
        self._turned: set[Frame] = set()  # loops that have begun a round since the last call was completed
        self._is_final = False

    @property
    def degraded(self) -> set[Position]:
        """The open steps that `default_output` is about to answer: there is nothing to undo."""
        return self._degraded

    def start(self) -> list[Frame]:
        """As of every walk."""
        return self._risen(super().start())

    def complete(self, frame: Frame, answer: Answer) -> list[Frame]:
        """As of every walk; also the calls that no step of the plan is."""
        if isinstance(frame, SpecialFrame) and frame.parent is None:
            return self._complete_after(frame, answer)
        node = frame.node
        policy = node.policy if isinstance(node, Call) else None
        if isinstance(node, Call) and policy is not None and policy.compensate is not None:
            position = frame.position
            if isinstance(answer, Patch) and position not in self._degraded:
                self.undo.append(Done(position, node, answer, isinstance(frame, SpecialFrame)))
        if self._degraded:
            self._degraded.discard(frame.position)
        return self._risen(self._complete_rescue(frame, answer) if isinstance(frame, SpecialFrame) else self._answered(frame, answer))

    def _answered(self, frame: Frame, answer: Answer) -> list[Frame]:
        """Settle the answer of a step of the plan."""
        return super().complete(frame, answer)

    def cut(self, frame: Frame | None, failure: Failure, *, is_final: bool = False) -> list[Frame]:
        """As of every walk. No phase follows a cancellation, a full journal, an end with `is_final`, nor one in such a phase."""
        if frame is None:
            self._is_final = is_final or failure.code in _FINAL
        ready = self._risen(super().cut(frame, failure))
        self.closing = [par for par in self.closing if par.is_live]
        return ready

    def degrade(self, failure: Failure) -> None:
        """As of every walk."""
        super().degrade(failure)
        self._degraded.add(failure.position)

    def end(self, failure: Failure | None) -> None:
        """End the walk as it stands."""
        self.after = None
        self.undo.clear()
        self.closing.clear()
        self._degraded.clear()
        super().end(failure)

    # --- flows that go on after a failure ---

    def _fall(self, frame: Frame, failure: Failure, ready: list[Frame]) -> None:
        self._fallen.append((frame, failure))

    def _risen(self, ready: list[Frame]) -> list[Frame]:
        """Leave what has failed as it was entered: in a row, since flows that go on may enter more of its kind, and in depth none ends."""
        while self._fallen:
            frame, failure = self._fallen.popleft()
            self._leave(frame, failure, ready)
        self._turned.clear()
        return ready

    def _leave(self, frame: Frame, failure: Failure | None, ready: list[Frame]) -> None:
        if failure is not None:
            if self._is_rescued(frame, failure, ready):
                return
            if frame.parent is None and not self._is_final:
                self._conclude(frame, failure, ready)
                return
            if self._is_borne(frame) and frame.parent not in self._turned:
                self._bear(frame, failure)
                failure = None
        super()._leave(frame, failure, ready)

    def _is_borne(self, frame: Frame) -> bool:
        """Say whether the sequence or loop around a frame goes on although it has failed."""
        parent = frame.parent
        if parent is None or not isinstance(parent.node, Seq | Loop):
            return False
        flow = _flow_around(parent)
        return flow is not None and flow.on_error == CONTINUE

    def _begin_loop(self, frame: Frame, node: Loop, ready: list[Frame]) -> None:
        self._turned.add(frame)
        super()._begin_loop(frame, node, ready)

    def _end_round(self, frame: Frame, node: Loop, failure: Failure | None) -> tuple[bool, Failure | None]:
        return super()._end_round(frame, node, self._turn(frame, node, failure))

    def _turn(self, frame: Frame, node: Loop, failure: Failure | None) -> Failure | None:
        """Note that a round has ended; one in which nobody was called fails the loop, or a million rounds would end all at once."""
        if frame in self._turned and failure is None:
            error = RuleError("nobody was called in a round of the loop", hint="look at the errors of its branches")
            failure = failure_of(error).at(agent=name_of(node.body), position=frame.position, stage=frame.stage)
        self._turned.add(frame)
        return failure

    def _bear(self, frame: Frame, failure: Failure) -> None:
        node = frame.node
        is_known = isinstance(node, Call) or (node.flow is not None and not frame.is_main)
        self.outcome.tell(key_of(node) if is_known else failure.agent or name_of(node), failure)
        self.outcome.is_partial = True

    def _is_rescued(self, frame: Frame, failure: Failure, ready: list[Frame]) -> bool:
        """Let a flow that fails by itself go on with the call that its `on_error` names, as its last step; once."""
        node = frame.node
        rescue = _rescue_of(node)
        if rescue is None or isinstance(node, Call | Par | Map) or frame.status != OPEN or isinstance(frame.child, SpecialFrame):
            return False
        self._bear(frame, failure)
        if frame.is_main:
            self.outcome.reason = "completed"  # a loop may have said otherwise
        if isinstance(node, Loop):
            frame.round += 1
        last = len(children(node.body)) if isinstance(node, Loop) and node.is_handoff else len(children(node))
        frame.child = child = SpecialFrame(rescue, frame, last, frame.scope, failure)
        child.given = self.given_for(failure)
        ready.append(child)
        return True

    def _complete_rescue(self, frame: SpecialFrame, answer: Answer) -> list[Frame]:
        flow = frame.parent
        assert flow is not None  # noqa: S101 - what has none is no rescue
        failure = self._settle_special(frame, frame.scope, answer)
        if isinstance(answer, Patch) and answer.route:
            loop = flow.handoff  # its own flow has ended, so that it may hand on in the one around
            if loop is not None:
                failure = hand_on(loop, flow, answer.route)
            else:
                self._ignore(frame, answer.route)
        if failure is not None:
            failure = failure.at(agent=name_of(frame.node), position=frame.position, stage=frame.stage)
            self.outcome.tell(failure.agent, failure)
        ready: list[Frame] = []
        frame.status = DONE if failure is None else FAILED
        self._leave(flow, failure, ready)
        return ready

    def _settle_special(self, frame: SpecialFrame, scope: Scope, answer: Answer) -> Failure | None:
        if not isinstance(answer, Patch):
            return answer
        scope.apply(answer)
        scope.keep({name_of(frame.node): answer})
        return None

    def _ignore(self, frame: Frame, route: str) -> None:
        if self.is_noting:
            self.notes.append(RouteIgnored(frame.position, route))

    # --- joins that do not wait for every branch ---

    def _end_branch(self, par: Frame, node: Par, branch: Frame, failure: Failure | None, ready: list[Frame]) -> bool:
        if failure is not None and node.fail_fast and par not in self.closing:
            failed = sum(frame is not None and frame.status == FAILED for frame in par.frames)
            if is_lost(node, failed):
                self.closing.append(par)
        is_over = super()._end_branch(par, node, branch, failure, ready)
        if is_over and par in self.closing:
            self.closing.remove(par)
        return is_over

    def _fill(self, par: Frame, node: Par, ready: list[Frame]) -> None:
        if par not in self.closing:
            super()._fill(par, node, ready)

    def counted(self, par: Frame) -> tuple[Position, ...]:
        """Return the positions of the branches of a join that have ended."""
        return tuple(frame.position for frame in par.frames if frame is not None and frame.status != OPEN)

    def close_join(self, par: Frame, reason: str) -> list[Frame]:
        """Let a join go on without the branches that have not ended, and return what became ready.

        They count as failed; but at the deadline an agent with a `default_output` gives that. The caller sees to it that no call
        below the join is completed afterwards.
        """
        node = par.node
        assert isinstance(node, Par)  # noqa: S101 - nothing else joins
        for index, known in enumerate(par.frames):
            frame = known
            if frame is None:
                frame = par.frames[index] = type(par)(node.branches[index], par, index, Scope({}, None, par.scope))
            elif frame.status == OPEN:
                settle(frame, self._merge)
            else:
                continue
            self._miss(frame, reason)
        ready: list[Frame] = []
        failure = self._join(par, node)
        self._leave(par, failure, ready)
        self._risen(ready)
        self.closing = [other for other in self.closing if other.is_live]
        return ready

    def _miss(self, frame: Frame, reason: str) -> None:
        name, node = name_of(frame.node), frame.node
        error = JoinClosedError(f"`{name}` had no answer when its join was closed ({reason})")
        failure = failure_of(error, attempts=0).at(agent=name, position=frame.position, stage=frame.stage)
        policy = node.policy if isinstance(node, Call) else None
        if reason == DEADLINE and policy is not None and policy.default_output is not None:
            self.outcome.degrade(failure)
            patch = Patch(copy_json(dict(policy.default_output)), is_removing=False)  # type: ignore[arg-type] # a dict gives a dict
            frame.scope.apply(patch)
            frame.scope.keep({name: patch})
            frame.status = DONE
            return
        frame.status, frame.failure = FAILED, failure
        self.outcome.tell(name, failure)

    # --- the phases after the main one ---

    def _conclude(self, root: Frame, failure: Failure, ready: list[Frame]) -> None:
        """End the main phase, which has failed."""
        root.status = FAILED
        if root.scope is not root.outer:
            root.fold()
        root.child = None
        self.root = None
        self.closing.clear()
        self.outcome.failure = failure
        handler = handler_for(self.plan, failure)
        if handler is None:
            self._compensate(ready)
        else:
            ready.append(self.handle(handler, failure))

    def handle(self, handler: Call, failure: Failure) -> SpecialFrame:
        """Enter the error handler, which sees a state without its own key."""
        self.after = frame = SpecialFrame(handler, None, HANDLER, Scope({RECOVERED: REMOVED}, None, self.scope), failure)
        frame.given = self.given_for(failure)
        return frame

    def _compensate(self, ready: list[Frame]) -> None:
        """Undo the last step that is not undone yet; end the walk when none is left, or nothing is to be undone after all."""
        failure = self.outcome.failure
        if not self.undo or failure is None:
            self.end(failure)
        else:
            ready.append(self.compensate(self.undo[-1], failure))

    def compensate(self, done: Done, failure: Failure) -> SpecialFrame:
        """Enter the compensator of a step."""
        policy = done.call.policy
        assert policy is not None  # noqa: S101 - a step without a compensator is not noted
        call = policy.compensate
        assert call is not None  # noqa: S101 - as above
        self.after = frame = SpecialFrame(call, None, COMPENSATION + done.position, self.scope, failure)
        output: dict[str, Json] = done.patch.values()
        frame.given = {"position": done.position, "agent": done.call.agent, "output": output, "error": _told(failure)}
        return frame

    def _complete_after(self, frame: SpecialFrame, answer: Answer) -> list[Frame]:
        ready: list[Frame] = []
        outcome = self.outcome
        failure: Failure | None = None
        if isinstance(answer, Patch):
            data = {key: value for key, value in answer.data.items() if key != RECOVERED or frame.mark != HANDLER}
            self.scope.apply(Patch(data, answer.meta, answer.is_removing))
            self.scope.keep({name_of(frame.node): answer})
            if answer.route:
                self._ignore(frame, answer.route)
        else:
            failure = answer.at(agent=name_of(frame.node), position=frame.position, stage=frame.stage)
            outcome.tell(failure.agent, failure)
        frame.status = DONE if failure is None else FAILED
        if frame.mark != HANDLER:
            self.undo.pop()
        elif isinstance(answer, Patch) and answer.data.get(RECOVERED) is True:
            outcome.handling, outcome.failure, outcome.is_partial, outcome.reason = "recovered", None, True, "completed"
            outcome.tell(frame.failure.agent or name_of(self.plan), frame.failure)
        else:
            outcome.handling = "handled" if failure is None else "failed"
        self._compensate(ready)
        return ready

    def given_for(self, failure: Failure) -> dict[str, Json]:
        """Return the event data of who is called for a failure."""
        place: dict[str, Json] = {"agent": failure.agent, "position": failure.position, "attempts": failure.attempts}
        return {"error": _told(failure), **place, "event": self.event.to_dict()}


def _told(failure: Failure) -> dict[str, Json]:
    return {name: getattr(failure, name) for name in ("code", "type", "message", "category", "severity")}


def _flow_around(frame: Frame | None) -> Flow | None:
    while frame is not None:
        if not isinstance(frame.node, Call) and frame.node.flow is not None:
            return frame.node.flow
        frame = frame.parent
    return None


def _rescue_of(node: Node) -> Call | None:
    return None if isinstance(node, Call) or node.flow is None else node.flow.rescue


def handler_for(plan: Node, failure: Failure) -> Call | None:
    """Return who handles a failure: by its code or class, else its severity, else its category, else whoever handles all."""
    routes = (None if isinstance(plan, Call) or plan.flow is None else plan.flow.errors) or ErrorRoutes()
    for name in (failure.code, *failure.kinds):
        if name in routes.codes:
            return routes.codes[name]
    return routes.severities.get(failure.severity) or routes.categories.get(failure.category) or routes.default
