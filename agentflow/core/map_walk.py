"""MapWalk: the walk of a plan whose members have inputs of their own, or say themselves what follows.

It walks Maps and members with inputs, beside all that other walks know; an AgendaWalk knows graphs and agendas too. A Map
becomes the join of its items when it is entered, so that joins, snapshots and replay know nothing of it. Other plans pay nothing
for all this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from agentflow.core.agenda import KINDS, Memo
from agentflow.core.event import Event
from agentflow.core.facts import RunFacts
from agentflow.core.failure import Failure, failure_of
from agentflow.core.frame import DONE, FAILED, Frame
from agentflow.core.handoff import hold
from agentflow.core.inputs import data_of, filled
from agentflow.core.items import Row, Told, cases_of, items_of
from agentflow.core.join import settle_branches
from agentflow.core.map_frame import MapFrame
from agentflow.core.outcome import Answer
from agentflow.core.part import REDUCE, REPLAN, Input, Previous, Results, Template
from agentflow.core.plan import (
    AGENDA,
    DELEGATION,
    MAILBOX,
    REVISION,
    STEPS,
    STOP,
    TASKS,
    Branch,
    Call,
    Loop,
    Map,
    Node,
    Par,
    Seq,
    key_of,
    name_of,
    part_of,
)
from agentflow.core.policy_walk import PolicyWalk
from agentflow.core.records import MapBegun, PlanCreated
from agentflow.core.state import Patch, Scope
from agentflow.core.values import Json, copy_json
from agentflow.errors import AgentflowError, JoinError

RESULTS = "results"  # the state's key for what the items came to, where no member follows that is given it
CONSENSUS = "consensus"  # the key by which the members of a mailbox agree
ROUTE = "route:"
_REASONS = {"done": "completed", "planned": "completed"}  # of a run whose main loop ended for this


def has_inputs(node: Node) -> bool:
    """Say whether a node is one that only a MapWalk knows."""
    return isinstance(node, Map) or part_of(node) is not None


class MapWalk(PolicyWalk):
    """The state machine of one run whose plan has Maps, graphs, agendas or inputs."""

    __slots__ = ()

    # --- inputs ---

    def _facts(self, frame: Frame) -> RunFacts:
        return RunFacts(self.event, frame.scope, frame.given)

    def _give(self, frame: MapFrame) -> None:
        """Give a frame the event data that it has in place of what stands around it."""
        if "given" in frame.row:
            frame.given = cast("Mapping[str, Json]", frame.row["given"])
        part = part_of(frame.node)
        if part is not None and part.input is not None:
            frame.given = self._data(frame, part.input)

    def _data(self, frame: MapFrame, told: Input) -> Mapping[str, Json] | None:
        if isinstance(told, Template):
            return data_of(told, self._facts(frame))
        if isinstance(told, Previous):
            last = None if frame.parent is None else frame.parent.last
            return frame.given if last is None else last.values()
        instruction = None if told.instruction is None else filled(told.instruction, self._facts(frame))
        return self._results(frame, told, instruction)

    def _results(self, frame: MapFrame, told: Results, instruction: Json) -> dict[str, Json]:
        loop = frame.agenda_loop
        if told.form == REPLAN and loop is not None and loop.memo is not None:
            data = dict(self.event.data if frame.given is None else frame.given)
            ids: list[Json] = [step["id"] for step in cast("list[Row]", loop.memo["steps"])]
            return copy_json({**data, "done": loop.memo["done"], "failed": loop.memo["failed"], "remaining": ids})  # type: ignore[return-value]
        memo = (None if frame.parent is None else frame.parent.memo) or {}
        results = cast("list[Row]", memo.get("results", []))
        failed: list[Json] = [row["id"] for row in results if row["output"] is None]
        if told.form == REDUCE:
            outputs: list[Json] = [row["output"] for row in results if row["output"] is not None]
            return copy_json({"input": instruction, "results": outputs, "failed": failed})  # type: ignore[return-value]
        done: list[Json] = [row for row in results if row["output"] is not None]
        return copy_json({"plan": memo.get("plan", []), "results": done, "failed": failed})  # type: ignore[return-value]

    # --- entering ---

    def _enter(self, node: Node, parent: Frame | None, index: int, scope: Scope, ready: list[Frame]) -> Frame:
        frame = MapFrame(node, parent, index, scope)
        if parent is not None and type(parent.node) is Par:
            parent.frames[index] = frame
        if type(node) is not Call:
            frame.round, frame.child = 0, None
            if parent is not None and node.flow is not None:
                frame.scope = Scope({}, None, scope)
        if frame.controls:
            frame.hide_controls()
        try:
            self._give(frame)
            self._go_in(frame, node, ready)
        except (AgentflowError, IndexError) as error:
            self._fallen.append((frame, self._located(frame, error)))
        return frame

    def _go_in(self, frame: MapFrame, node: Node, ready: list[Frame]) -> None:
        match node:
            case Seq():
                self._descend(frame, node.steps[0], ready)
            case Loop():
                self._begin_loop(frame, node, ready)
            case Par():
                self._begin_par(frame, node, ready)
            case Branch():
                self._choose(frame, node, ready)
            case Map():
                self._begin_map(frame, node, ready)
            case Call():
                ready.append(frame)

    def _descend(self, frame: Frame, node: Node, ready: list[Frame], index: int = 0) -> None:
        frame.child = self._enter(node, frame, index, frame.scope, ready)

    def _go_on(self, frame: Frame, left: Frame, node: Node, index: int, ready: list[Frame]) -> None:
        assert isinstance(frame, MapFrame)  # noqa: S101 - all but special frames are, and those have no members
        if type(frame.node) is Seq and not (isinstance(left, MapFrame) and left.is_borne):
            frame.last = frame.output(left)
        self._descend(frame, node, ready, index)

    def _begin_map(self, frame: MapFrame, node: Map, ready: list[Frame]) -> None:
        frame.expand(node, self._rows(frame, node))
        if self.is_noting and frame.rows and node.source in (AGENDA, TASKS):
            self.notes.append(MapBegun(frame.position, tuple(str(row.get("id") or self._name(node, row)) for row in frame.rows)))
        if frame.rows:
            self._begin_par(frame, cast("Par", frame.node), ready)
        else:
            self._leave_results(frame, node, self._gather(frame, node))
            self._fallen.append((frame, None))

    def _rows(self, frame: MapFrame, node: Map) -> list[Row]:
        above = frame.parent
        last = None if above is None else above.last
        told: Told = {} if last is None else last.values()
        if node.source not in (AGENDA, REVISION):
            rows = items_of(node, frame.scope, told)
            if node.source == TASKS:
                plan: list[Json] = [row["given"] for row in rows]
                self._keep(frame, "plan", plan)
                if self.is_noting:
                    self.notes.append(PlanCreated(frame.position, plan))
            return rows
        loop = frame.agenda_loop
        assert loop is not None and loop.memo is not None and isinstance(loop.node, Loop) and loop.node.agenda is not None  # noqa: S101, PT018 - the shape it has
        return KINDS[loop.node.agenda.kind].items(loop.node, loop.memo, node, told)

    def _name(self, node: Map, row: Row) -> str:
        return name_of(cases_of(node.body)[cast("int", row.get("case", 0))])

    def _keep(self, frame: MapFrame, name: str, value: Json) -> None:
        """Keep something about a Map where the members after it find it."""
        if frame.parent is not None:
            frame.parent.memo = {**(frame.parent.memo or {}), name: value}

    # --- leaving ---

    def _answered(self, frame: Frame, answer: Answer) -> list[Frame]:
        failure: Failure | None = None
        if isinstance(answer, Patch):
            frame.scope.apply(answer)
            frame.scope.keep({key_of(frame.node): answer})
            if answer.route:
                failure = self._hand_on(frame, answer.route)
        else:
            failure = answer
        ready: list[Frame] = []
        if failure is not None:
            failure = failure.at(agent=name_of(frame.node), position=frame.position, stage=frame.stage)
            self.outcome.tell(key_of(frame.node), failure)
        self._leave(frame, failure, ready)
        return self._risen(ready)

    def _is_borne(self, frame: Frame) -> bool:
        assert isinstance(frame, MapFrame)  # noqa: S101 - a special frame is left with its flow
        frame.is_borne = self._is_let_go(frame)
        return frame.is_borne

    def _is_let_go(self, frame: Frame) -> bool:
        part = part_of(frame.node)
        if frame.parent is None or part is None or not part.on_error:
            return super()._is_borne(frame)
        if part.on_error.startswith(ROUTE):
            frame.parent.route = part.on_error.removeprefix(ROUTE)
        return part.on_error != STOP

    def _leave(self, frame: Frame, failure: Failure | None, ready: list[Frame]) -> None:
        if isinstance(frame, MapFrame):
            frame.close()
        super()._leave(frame, failure, ready)

    def _miss(self, frame: Frame, reason: str) -> None:
        if isinstance(frame, MapFrame):
            frame.close()
        super()._miss(frame, reason)

    # --- joins ---

    def _join(self, par: Frame, node: Par) -> Failure | None:
        assert isinstance(par, MapFrame)  # noqa: S101 - as above
        source = par.source
        frames = par.frames
        if source is None:
            return super()._join(par, node) or self._stopped(par, frames)
        results = self._gather(par, source)
        par.close()
        if not (source.is_bearing and source.source == AGENDA):
            failure = super()._join(par, node)
            if failure is None:
                self._leave_results(par, source, results)
            return failure
        failure = self._merge(par, node)
        self.outcome.is_partial = self.outcome.is_partial or any(frame is not None and frame.status == FAILED for frame in frames)
        routes = [frame.route for frame in frames if frame is not None and frame.status == DONE and frame.route]
        if routes:
            hold(par, routes[-1])
        par.frames = []
        return failure

    def _merge(self, par: Frame, node: Par) -> Failure | None:
        assert isinstance(par, MapFrame)  # noqa: S101 - as above
        if par.source is None:
            return super()._merge(par, node)
        if not par.source.is_collecting:
            return self._note_merge(*settle_branches(par, node, is_net=True))
        for frame in par.frames:
            if frame is not None and frame.outer.outputs:
                par.scope.keep(dict(frame.outer.outputs))
        return None

    def _stopped(self, par: MapFrame, frames: Sequence[Frame | None]) -> Failure | None:
        """Return why a join fails all the same: a step of it has failed that is not to be borne."""
        for frame in frames:
            part = None if frame is None or frame.status != FAILED else part_of(frame.node)
            if frame is not None and part is not None and part.on_error == STOP:
                error = JoinError(f"step `{key_of(frame.node)}` failed, and its on_error is `stop`: {frame.failure.message}")
                return failure_of(error).at(agent=name_of(frame.node), position=par.position, stage=par.stage)
        return None

    def _gather(self, par: MapFrame, source: Map) -> list[Row]:
        """Tell what a Map's items came to those who go on with it, the next member or the agenda around it, and return it."""
        results = [self._result(par, frame) for frame in (par.frames if par.rows else []) if frame is not None]
        loop = par.agenda_loop
        if source.source in (AGENDA, REVISION):
            assert loop is not None and loop.memo is not None and isinstance(loop.node, Loop) and loop.node.agenda is not None  # noqa: S101, PT018 - the shape it has
            self._note_results(loop.memo, source, loop.node.agenda.kind, results)
        elif source.is_collecting:
            self._keep(par, RESULTS, cast("Json", results))
        return results

    def _leave_results(self, par: MapFrame, source: Map, results: list[Row]) -> None:
        """Set in the state what a collecting Map came to, where no member follows that is given it."""
        above = par.parent
        if source.is_collecting and (above is None or type(above.node) is not Seq or par.index + 1 == len(above.node.steps)):
            par.scope.apply(Patch({RESULTS: [row["output"] for row in results]}))

    def _note_results(self, memo: Memo, source: Map, kind: str, results: list[Row]) -> None:
        if source.source == REVISION:
            output = next((row["output"] for row in results if row["output"] is not None), {})
            if "plan" in cast("Row", output):
                memo["plan"] = cast("Row", output)["plan"]
        elif kind == MAILBOX:
            memo[CONSENSUS] = any(row["output"] is not None and cast("Row", row["output"]).get(CONSENSUS) is True for row in results)
        else:
            if kind == DELEGATION:  # the same may work in each round: its calls are told apart by their number
                known = len(cast("list[Json]", memo["done"])) + len(cast("list[Json]", memo["failed"]))
                results = [{**row, "id": known + at} for at, row in enumerate(results)]
            memo["done"] = [*cast("list[Json]", memo["done"]), *(row for row in results if row["output"] is not None)]
            memo["failed"] = [*cast("list[Json]", memo["failed"]), *(row["id"] for row in results if row["output"] is None)]

    def _result(self, par: MapFrame, frame: Frame) -> Row:
        """Return what an item came to: its `id` or index, who worked for it, and the `output`, None where it failed."""
        part = part_of(frame.node)
        is_step = par.source is not None and par.source.source == STEPS
        name: Json = part.id if part is not None and part.id else key_of(frame.node) if is_step else frame.index
        output: Json = None
        if frame.status == DONE and not (isinstance(frame, MapFrame) and frame.is_borne):
            patch = par.output(frame) or frame.outer.net_patch()
            output = patch.values()
        return {"id": name, "agent": name_of(frame.node), "output": output}

    def _located(self, frame: Frame, error: BaseException) -> Failure:
        agent = name_of(frame.node) if type(frame.node) is Call else ""
        failure = failure_of(error, attempts=0).at(agent=agent, position=frame.position, stage=frame.stage)
        if agent:
            self.outcome.tell(key_of(frame.node), failure)
        return failure


def instruction_of(frame: Frame, event: Event) -> Json:
    """Return what a member's own `input` says; of an item of a plan the plan's input; None for nothing.

    Raises:
        UnknownNameError: a template names what is not there any more.
    """
    part = part_of(frame.node)
    told = None if part is None else part.input
    template = told if isinstance(told, Template) or told is None else told.instruction
    if template is not None:
        # A later stage's instruction may speak of what it is given; any other input has taken the place of what it speaks of.
        given = frame.given if isinstance(told, Previous) else _given_around(cast("MapFrame", frame))
        return filled(template, RunFacts(event, frame.scope, given))
    return None if frame.given is None else copy_json(frame.given.get("input"))


def _given_around(frame: MapFrame) -> Mapping[str, Json] | None:
    """Return the event data that a member had if it had no input of its own."""
    if "given" in frame.row:
        return cast("Mapping[str, Json]", frame.row["given"])
    return None if frame.parent is None else frame.parent.given
