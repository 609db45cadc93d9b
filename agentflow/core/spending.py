"""Spending: what a run has used of each of its budgets, folded from its records, so that a restart gives nothing back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from agentflow.core.ledger import Figures
from agentflow.core.packing import number
from agentflow.core.plan import Call, Loop, Map, Node, Position, calls_of, children, walk_nodes
from agentflow.core.values import Json

ITEM = "["  # the mark of a Map's item


class Spending:
    """What was used, by scope: "" for the run, "agent:NAME" and "flow:POSITION" where they have a budget.

    Args:
        plan: says who has one.
        spent: what was used before.
    """

    __slots__ = ("_agents", "_plan", "exhausted", "spent", "warned")

    def __init__(self, plan: Node, spent: dict[str, Figures]) -> None:
        self._plan = plan
        self._agents = {call.agent: call for call in calls_of(plan) if call.policy is not None}
        self.spent = spent
        self.warned: set[str] = set()  # the scopes of which it was told that they are nearly used up
        self.exhausted: set[str] = set()  # and that they are

    def call(self, position: Position, agent: str) -> None:
        """Charge one attempt of an agent that begins at a position."""
        self._charge(position, agent, Figures(calls=1))

    def release(self, position: Position, agent: str) -> None:
        """Take back the charge of an attempt that was about to begin and was not made."""
        self._charge(position, agent, Figures(calls=-1))

    def settle(self, position: Position, agent: str, usage: Mapping[str, Json] | None) -> None:
        """Charge what an attempt used: `total_tokens`, `cost_usd` and `seconds`."""
        if usage:
            tokens, cost, seconds = (number(usage.get(name, 0)) for name in ("total_tokens", "cost_usd", "seconds"))
            self._charge(position, agent, Figures(tokens=int(tokens), cost_usd=float(cost), seconds=float(seconds)))

    def lose(self, position: Position, agent: str) -> None:
        """Charge what an attempt had reserved that ended with its process."""
        call = self._agents.get(agent)
        if call is not None and call.policy is not None and call.policy.reserve_tokens:
            self._charge(position, agent, Figures(tokens=call.policy.reserve_tokens))

    def _charge(self, position: Position, agent: str, figures: Figures) -> None:
        for scope in self._scopes(position, agent):
            self.spent[scope] = self.spent.get(scope, Figures()) + figures

    def _scopes(self, position: Position, agent: str) -> Iterator[str]:
        if not position.startswith("0"):
            return  # what comes after the main phase is on no budget
        call = self._agents.get(agent)
        if call is not None and call.policy is not None and call.policy.budget is not None:
            yield f"agent:{agent}"
        yield ""
        for place, node in nodes_above(self._plan, position):
            if place != "0" and not isinstance(node, Call) and node.flow is not None and node.flow.budget is not None:
                yield f"flow:{place}"


def has_budgets(plan: Node) -> bool:
    """Say whether anything in a plan has a budget."""
    if any(call.policy is not None and call.policy.budget is not None for call in calls_of(plan)):
        return True
    return any(not isinstance(node, Call) and node.flow is not None and node.flow.budget is not None for node in walk_nodes(plan))


def nodes_above(plan: Node, position: Position) -> Iterator[tuple[Position, Node]]:
    """Yield the nodes from the root to a step, with their positions; none for a step of a phase after the main one."""
    node, place = plan, "0"
    if not position.startswith(place):
        return
    yield place, node
    for mark, index in marks_of(position):
        parts = children(node)
        if not parts or (type(node) not in (Loop, Map) and not 0 <= index < len(parts)):
            return
        node = node.body if type(node) is Loop or type(node) is Map else parts[index]
        place += f"{mark}{index}]" if mark == ITEM else f"{mark}{index}"
        yield place, node


def marks_of(position: Position) -> Iterator[tuple[str, int]]:
    """Yield the ways down from the root: `0.2#3[4]` is `.2`, `#3` and `[4`."""
    at = 1
    while at < len(position):
        end = at + 1
        while end < len(position) and position[end].isdecimal():
            end += 1
        yield position[at], int(position[at + 1 : min(end, at + 18)] or -1)
        at = end + (position[at] == ITEM and position[end : end + 1] == "]")
