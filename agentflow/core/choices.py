"""Choices: the records of what the walk decides by itself; the same answers make the same choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agentflow.core.plan import Position
from agentflow.core.values import Json


@dataclass(frozen=True, slots=True)
class BranchTaken:
    """A branch took case number `case`, by a condition or a route; `name` is that case's agent or flow."""

    position: Position
    case: int
    name: str


@dataclass(frozen=True, slots=True)
class LoopEnded:
    """A loop ended after `iterations` rounds; `reason` is condition_met, max_iterations or error, of a loop with an agenda done,
    max_rounds, planned, quiet, consensus, max_messages or error.

    `final` holds the loop's own keys (`iteration`, `loop_complete`, `loop_completed`), which leave the state with it.
    """

    position: Position
    reason: str
    iterations: int
    final: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class MapBegun:
    """A Map at a position begins with items that members chose: `items` has their ids, or the names of those who work for them."""

    position: Position
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PlanCreated:
    """A planner's answer was taken: `steps` has its steps or tasks, with all that it said of them."""

    position: Position
    steps: Json


@dataclass(frozen=True, slots=True)
class PlanRevised:
    """A replanner's answer was taken: `steps` come in the place of `old`, the ids of those that had not run."""

    position: Position
    old: Json
    steps: Json


@dataclass(frozen=True, slots=True)
class RouteIgnored:
    """A step named a route, and no route flow encloses it."""

    position: Position
    route: str


Note: TypeAlias = BranchTaken | LoopEnded | MapBegun | PlanCreated | PlanRevised | RouteIgnored
