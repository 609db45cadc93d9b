"""Agendas: what a loop whose members say what follows has to do, round after round.

What an agenda knows is a memo of plain JSON, so that it stands in snapshots as it is. An agenda decides from recorded answers
alone: a walk that is fed with the same answers makes the same rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeAlias, cast

from agentflow.core.items import Row, Told, case_of, cases_of, distinct, routes_of
from agentflow.core.outcome import rank_of
from agentflow.core.plan import DELEGATION, MAILBOX, REVISION, WAVES, Loop, Map
from agentflow.core.values import Json, copy_json
from agentflow.errors import ControlError, JoinError, RoutingError, did_you_mean

Memo: TypeAlias = dict[str, Json]
GO_ON = ""


class Kind(Protocol):
    """One kind of agenda.

    Attributes:
        controls: the keys by which the leader's answer steers: they are its own, and reach no state.
    """

    controls: tuple[str, ...]

    def begin(self, loop: Loop, target: str, data: Mapping[str, Json], told: Told) -> Memo:
        """Return the memo of a loop that begins.

        Args:
            loop: the loop.
            target: the event's target.
            data: the flow's event data.
            told: what the member before the loop set.

        Raises:
            ControlError, RoutingError: there is nothing in it that can be done.
        """

    def items(self, loop: Loop, memo: Memo, node: Map, told: Told) -> list[Row]:
        """Return the items of a Map in the round at hand; `told` is what the member before the Map set.

        Raises:
            ControlError, RoutingError: as `begin`.
        """

    def settle(self, loop: Loop, memo: Memo, number: int) -> str:
        """Close round `number` (from 1) and say why the loop is over, GO_ON when it is not.

        Raises:
            AgentflowError: the loop has failed.
        """


class _Delegation:
    """A supervisor says who works next, until it says that it is done."""

    controls: tuple[str, ...] = ("next", "done")

    def begin(self, loop: Loop, target: str, data: Mapping[str, Json], told: Told) -> Memo:
        return {"is_done": False, "done": [], "failed": []}  # the last two: what the synthesizer is told

    def items(self, loop: Loop, memo: Memo, node: Map, told: Told) -> list[Row]:
        memo["is_done"] = told.get("done") is True
        if memo["is_done"]:
            return []
        wanted = told.get("next")
        if wanted is None or wanted in ("", []):
            if not node.default:
                name = loop.agenda.leader if loop.agenda is not None else ""
                raise ControlError(
                    f"`{name}` named nobody, and is not done", hint="return {'next': NAME}, or {'done': True} with true itself"
                )
            wanted = node.default
        named = wanted if isinstance(wanted, list) else [wanted]
        if len(named) > node.most:
            raise ControlError(f"`next` has {len(named)} members, and {node.most} are allowed", hint="each works once a round")
        return [self._item(node, one) for one in named]

    def _item(self, node: Map, one: object) -> Row:
        if isinstance(one, str):
            return {"case": case_of(node, one)}
        if not isinstance(one, Mapping):
            raise ControlError(f"`next` holds {type(one).__name__}", hint="name a member, or write {'agent': NAME, 'task': ...}")
        name = one.get("agent") or one.get("capability") or one.get("specialty") or ""
        if not name:
            raise ControlError("a table in `next` names nobody", hint="write {'agent': NAME, 'task': ...}, or a capability in its place")
        row: Row = {"case": case_of(node, str(name))}
        if "task" in one:
            task = copy_json(one["task"])
            row["given"] = task if isinstance(task, dict) else {"input": task}
        return row

    def settle(self, loop: Loop, memo: Memo, number: int) -> str:
        if memo["is_done"]:
            return "done"
        return "max_rounds" if number >= loop.bound else GO_ON


class _Mailbox:
    """Members send each other messages, until none is left, they agree, or there were enough.

    Of the messages to one member only the oldest is delivered in a round, so that it gets them in their order.
    """

    controls: tuple[str, ...] = ("consensus",)

    def begin(self, loop: Loop, target: str, data: Mapping[str, Json], told: Told) -> Memo:
        node = loop.body
        assert isinstance(node, Map)  # noqa: S101 - the shape such a loop has
        routes = routes_of(node)
        first = target if target in routes else min(routes, key=lambda name: (routes[name], name))  # a recorded plan has them sorted
        return {"mail": [{"from": "", "to": first, "body": copy_json(dict(data))}], "delivered": 0, "sent": {}}

    def items(self, loop: Loop, memo: Memo, node: Map, told: Told) -> list[Row]:
        assert loop.agenda is not None  # noqa: S101 - the shape such a loop has
        mail = cast("list[Row]", memo["mail"])
        delivered = cast("int", memo["delivered"])
        first: dict[str, int] = {}
        for at, message in enumerate(mail):
            first.setdefault(str(message["to"]), at)
        chosen = sorted(first.values())[: loop.agenda.most - delivered]
        memo["mail"] = [message for at, message in enumerate(mail) if at not in set(chosen)]
        memo["delivered"] = delivered + len(chosen)
        memo["sent"] = {}
        return [{"case": case_of(node, str(mail[at]["to"])), "given": dict(mail[at])} for at in chosen]

    def settle(self, loop: Loop, memo: Memo, number: int) -> str:
        assert loop.agenda is not None  # noqa: S101 - the shape such a loop has
        sent = cast("dict[str, list[Json]]", memo["sent"])
        memo["mail"] = [*cast("list[Json]", memo["mail"]), *(message for at in sorted(sent, key=rank_of) for message in sent[at])]
        memo["sent"] = {}
        if not memo["mail"]:
            return "quiet"
        return "max_messages" if cast("int", memo["delivered"]) >= loop.agenda.most or number >= loop.bound else GO_ON


class _Waves:
    """A plan is done in the order of its dependencies, what is independent together, and what has not run may be replaced."""

    controls: tuple[str, ...] = ("plan",)

    def begin(self, loop: Loop, target: str, data: Mapping[str, Json], told: Told) -> Memo:
        if "plan" not in told:
            raise ControlError("the planner returned no `plan`", hint="return {'plan': [{'id': ..., 'agent': ..., 'input': ...}, ...]}")
        memo: Memo = {"steps": [], "begun": [], "done": [], "failed": [], "revisions": 0}
        memo["steps"] = self._checked(loop, memo, told["plan"])
        return memo

    def items(self, loop: Loop, memo: Memo, node: Map, told: Told) -> list[Row]:
        if node.source == REVISION:
            assert loop.agenda is not None  # noqa: S101 - the shape such a loop has
            is_open = bool(memo["steps"] or memo["failed"]) and cast("int", memo["revisions"]) < loop.agenda.most_replans
            return [{}] if is_open else []
        done = {row["id"] for row in cast("list[Row]", memo["done"])}
        steps = cast("list[Row]", memo["steps"])
        wave = [step for step in steps if all(name in done for name in cast("list[Json]", step["depends_on"]))]
        ids = {step["id"] for step in wave}
        memo["steps"] = [step for step in steps if step["id"] not in ids]
        memo["begun"] = [*cast("list[Json]", memo["begun"]), *(step["id"] for step in wave)]
        return [{"case": case_of(node, str(step["agent"])), "id": step["id"], "given": {"input": step["input"]}} for step in wave]

    def settle(self, loop: Loop, memo: Memo, number: int) -> str:
        if "plan" in memo:
            memo["steps"] = self._checked(loop, memo, memo.pop("plan"))
            memo["revisions"] = cast("int", memo["revisions"]) + 1
            memo["failed"] = []
        if memo["failed"]:
            names = ", ".join(f"`{name}`" for name in cast("list[Json]", memo["failed"]))
            raise JoinError(f"the plan cannot go on: {names} failed", hint="a replanner may put other steps in their place")
        return GO_ON if memo["steps"] else "planned"

    def _checked(self, loop: Loop, memo: Memo, plan: object) -> list[Json]:
        """Return a plan's steps: each with an id of its own, a member that is there, and dependencies that can be met."""
        assert loop.agenda is not None  # noqa: S101 - the shape such a loop has
        if not isinstance(plan, list):
            raise ControlError(f"`plan` is {type(plan).__name__}, not a list of steps", hint="write [{'id': ..., 'agent': ...}, ...]")
        node = _steps_of(loop)
        done = [str(row["id"]) for row in cast("list[Row]", memo["done"])]
        over = cast("list[str]", memo["begun"])  # what has failed counts, too: it has run
        steps = [_step(node, row) for row in distinct(plan, "plan")]
        if len(over) + len(steps) > loop.agenda.most:
            raise ControlError(
                f"the plan comes to {len(over) + len(steps):,} steps, and {loop.agenda.most:,} are allowed", hint="or raise max_tasks"
            )
        for step in steps:
            if step["id"] in over:
                raise ControlError(f"step `{step['id']}` is planned again, and has run already", hint="give new steps new ids")
        _ordered(steps, done)
        return cast("list[Json]", steps)


def _steps_of(loop: Loop) -> Map:
    """Return the Map that does a plan's steps: the loop's body, or the first member of it."""
    body = loop.body
    while not isinstance(body, Map):
        assert not hasattr(body, "agent")  # noqa: S101 - the shape such a loop has
        body = body.steps[0]  # type: ignore[union-attr]
    return body


def _step(node: Map, row: Row) -> Row:
    name = row.get("agent")
    if name is None and len(cases_of(node.body)) == 1:
        name = next(iter(routes_of(node)))
    needs = row.get("depends_on") or []
    if not isinstance(needs, list):
        raise ControlError(f"`depends_on` of step `{row['id']}` is no list", hint="list the ids of the steps before it")
    known: Json = name if isinstance(name, str) and name in routes_of(node) else node.default
    if not known:
        raise RoutingError(f"step `{row['id']}` names no member: `{name}`", hint=did_you_mean(str(name), routes_of(node)))
    return {"id": row["id"], "agent": known, "input": row.get("input"), "depends_on": [str(one) for one in needs]}


def _ordered(steps: Sequence[Row], done: Sequence[str]) -> None:
    """Refuse steps whose dependencies cannot be met: one is unknown, or they go round in a circle."""
    met = {*done}
    known = {*done, *(str(step["id"]) for step in steps)}
    for step in steps:
        for name in cast("list[str]", step["depends_on"]):
            if name not in known:
                raise ControlError(f"step `{step['id']}` depends on `{name}`, which is no step", hint=did_you_mean(name, known))
    left = list(steps)
    while left:
        free = [step for step in left if met.issuperset(cast("list[str]", step["depends_on"]))]
        if not free:
            names = ", ".join(f"`{step['id']}`" for step in left)
            raise ControlError(f"deadlock: steps {names} wait for each other", hint="take one of them out of a depends_on")
        met.update(str(step["id"]) for step in free)
        left = [step for step in left if step["id"] not in met]


KINDS: Mapping[str, Kind] = {DELEGATION: _Delegation(), MAILBOX: _Mailbox(), WAVES: _Waves()}
