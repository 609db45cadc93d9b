"""AgendaWalk: the walk of a plan with loops whose members say what follows: graphs, supervisors, mailboxes, plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from agentflow.core.agenda import GO_ON, KINDS, Memo
from agentflow.core.answered import Answered
from agentflow.core.failure import Failure
from agentflow.core.frame import Frame
from agentflow.core.items import Row, routes_of
from agentflow.core.map_frame import MapFrame
from agentflow.core.map_walk import RESULTS, MapWalk
from agentflow.core.outcome import Answer
from agentflow.core.plan import AGENDA, MAILBOX, WAVES, Branch, Loop, Map, Node, name_of
from agentflow.core.records import BranchTaken, LoopEnded, PlanCreated, PlanRevised
from agentflow.core.state import Patch
from agentflow.core.values import Json, copy_json
from agentflow.errors import AgentflowError, HopLimitError, RoutingError

CONSENSUS = "consensus"
_REASONS = {"done": "completed", "planned": "completed"}  # of a run whose main loop ended for this


def has_agenda(node: Node) -> bool:
    """Say whether a node is one that only an AgendaWalk knows."""
    return isinstance(node, Loop) and (node.entry is not None or node.agenda is not None)


class AgendaWalk(MapWalk):
    """The state machine of one run whose plan has graphs or agendas."""

    __slots__ = ()

    # --- graphs ---

    def _begin_loop(self, frame: Frame, node: Loop, ready: list[Frame]) -> None:
        assert isinstance(frame, MapFrame)  # noqa: S101 - as above
        if node.agenda is not None:
            self._begin_agenda(frame, node, ready)
        elif node.entry is None:
            super()._begin_loop(frame, node, ready)
        else:
            self._turned.add(frame)
            frame.round, frame.trail, frame.route = 1, [], node.entry
            self._hop_from_entry(frame, node, ready)

    def _hop_from_entry(self, frame: MapFrame, node: Loop, ready: list[Frame]) -> None:
        branch = cast("Branch", node.body)
        entry, frame.route = frame.route or "", None
        frame.trail.append(entry)
        case = (branch.routes or {})[entry]
        if self.is_noting and entry:
            self.notes.append(BranchTaken(f"{frame.position}#1", case, name_of(branch.cases[case])))
        self._descend(frame, branch.cases[case], ready, case)

    def _end_round(self, frame: Frame, node: Loop, failure: Failure | None) -> tuple[bool, Failure | None]:
        assert isinstance(frame, MapFrame)  # noqa: S101 - as above
        if node.agenda is not None:
            return self._end_agenda_round(frame, node, failure)
        if node.entry is not None and failure is None:
            try:
                self._take_edge(frame, node)
            except AgentflowError as error:
                return True, self._located(frame, error)
        return super()._end_round(frame, node, failure)

    def _take_edge(self, frame: MapFrame, node: Loop) -> None:
        """Choose who is next in a graph, where the step that has ended did not say so itself."""
        here = frame.trail[-1]
        if frame.route is None:
            edges = [edge for edge in node.edges if edge.source == here]
            taken = next((edge for edge in edges if edge.when is None or edge.when.holds(self._facts(frame))), None)
            if taken is not None:
                frame.route = taken.target or None
            elif edges:
                raise RoutingError(f"no edge from `{here}` holds", hint='add an edge without `when`, e.g. to = "end"')
        target = frame.route
        if target is not None and node.max_visits and frame.trail.count(target) >= node.max_visits:
            cycle = " -> ".join([*frame.trail[-6:], target])
            raise HopLimitError(f"max_visits = {node.max_visits} of `{target}` reached: {cycle}", hint="end the cycle, or raise max_visits")

    # --- agendas ---

    def _begin_agenda(self, frame: MapFrame, node: Loop, ready: list[Frame]) -> None:
        assert node.agenda is not None  # noqa: S101 - asked before
        frame.round = 1
        self._turned.add(frame)
        above = frame.parent
        last = None if above is None else above.last
        data = self.event.data if frame.given is None else frame.given
        kind = node.agenda.kind
        frame.memo = KINDS[kind].begin(node, self.event.target or "", data, {} if last is None else last.values())
        if kind == WAVES:
            self._note_plan(frame, None)
            if not frame.memo["steps"]:
                self._end_agenda(frame, "planned")
                self._fallen.append((frame, None))
                return
        self._descend(frame, node.body, ready)

    def _end_agenda_round(self, frame: MapFrame, node: Loop, failure: Failure | None) -> tuple[bool, Failure | None]:
        assert node.agenda is not None and frame.memo is not None  # noqa: S101, PT018 - the shape it has
        memo = frame.memo
        reason = "error"
        failure = self._turn(frame, node, failure)
        if failure is None:
            old = None if "plan" not in memo else [step["id"] for step in cast("list[Row]", memo["steps"])]
            try:
                reason = KINDS[node.agenda.kind].settle(node, memo, frame.round)
                if old is not None:
                    self._note_plan(frame, old)
            except AgentflowError as error:
                failure = self._located(frame, error)
            if memo.get(CONSENSUS) is True:
                reason = CONSENSUS
                if peers_of(frame) is None:  # else it would be heard by the peers around, who have agreed on nothing
                    frame.scope.apply(Patch({CONSENSUS: True}))
            if reason == GO_ON:
                return False, None
        self._end_agenda(frame, reason)
        return True, failure

    def _end_agenda(self, frame: MapFrame, reason: str) -> None:
        if frame.parent is not None and frame.memo is not None and "done" in frame.memo:
            self._keep(frame, RESULTS, frame.memo["done"])
        if frame.is_main or (frame.node.flow is None and frame.parent is not None and frame.parent.is_main):  # type: ignore[union-attr] # a loop
            self.outcome.reason = _REASONS.get(reason, reason)
        if self.is_noting:
            self.notes.append(LoopEnded(frame.position, reason, frame.round, {}))

    def _begin_round(self, frame: Frame, node: Loop, left: Frame, ready: list[Frame]) -> None:
        if node.agenda is None:
            super()._begin_round(frame, node, left, ready)
        else:
            frame.round += 1
            self._descend(frame, node.body, ready)

    def _note_plan(self, frame: MapFrame, old: list[Json] | None) -> None:
        assert frame.memo is not None  # noqa: S101 - it was just made
        steps = cast("list[Json]", copy_json(frame.memo["steps"]))
        if self.is_noting:
            self.notes.append(PlanCreated(frame.position, steps) if old is None else PlanRevised(frame.position, old, steps))
        self._keep(frame, "plan", [*_planned(frame, old), *steps])

    def _answered(self, frame: Frame, answer: Answer) -> list[Frame]:
        if isinstance(answer, Answered) and answer.sent:
            self._post(cast("MapFrame", frame), answer)
        return super()._answered(frame, answer)

    def _post(self, frame: MapFrame, answer: Answered) -> None:
        """Keep what a member of a mailbox has sent, by the step's position: messages stand in the order of the plan."""
        item = frame
        while (mailbox := _mailbox_of(item)) is None:
            if item.parent is None:
                return  # `ctx.send` refuses where there are no peers
            item = item.parent
        sender = item.row["given"]["to"]  # type: ignore[index, call-overload] # a message
        told: list[Json] = [{"from": sender, "to": to, "body": body} for to, body in answer.sent]
        sent = cast("dict[str, list[Json]]", mailbox["sent"])
        sent[frame.position] = told


def _mailbox_of(frame: MapFrame) -> Memo | None:
    """Return the memo of the mailbox of which a frame does a message; None for other frames, e.g. members of a supervisor among peers."""
    loop = frame.agenda_loop
    is_item = frame.parent is not None and frame.parent.source is not None and frame.parent.source.source == AGENDA
    return loop.memo if is_item and loop is not None and loop.memo is not None and "sent" in loop.memo else None


def peers_of(frame: Frame) -> Mapping[str, int] | None:
    """Return the members to whom a call can send messages; None where there are none."""
    loop = frame.agenda_loop if isinstance(frame, MapFrame) else None
    while loop is not None and isinstance(loop.node, Loop) and loop.node.agenda is not None and loop.node.agenda.kind != MAILBOX:
        loop = loop.agenda_loop
    return None if loop is None else routes_of(cast("Map", cast("Loop", loop.node).body))


def _planned(frame: MapFrame, old: list[Json] | None) -> list[Json]:
    """Return the steps of earlier plans that have run or failed."""
    if old is None or frame.parent is None or frame.parent.memo is None:
        return []
    left = {*map(str, old)}
    return [step for step in cast("list[Json]", frame.parent.memo["plan"]) if cast("Row", step)["id"] not in left]
