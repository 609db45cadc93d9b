"""Checklist: the questions that every orchestration is asked before it runs, each with its answer from the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentflow.core.bounds import Bounds, bounds_of, most_items, worst_case_tokens
from agentflow.core.plan import CONTINUE, Branch, Call, Loop, Map, Node, agents_of, children
from agentflow.core.proofs import JOIN, ErrorProof, LoopProof, errors_of, loops_of, sites_in

MOST_CAPABILITIES = 8  # of one agent: what can do everything fills its context with what most calls do not need
MOST_AGENTS_A_STEP = 2
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class AgentTraits:
    """What the checklist knows of an agent beside the plan.

    Attributes:
        tokens: what one attempt uses at most; None where nobody says.
        capabilities: how many it has.
        is_called_by_events: it takes events by itself, whatever the plan says.
    """

    tokens: int | None = None
    capabilities: int = 0
    is_called_by_events: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a plan runs in: its enabled agents by name, and what is kept and told of it.

    `durability` is the journal's, `is_journal_chosen` says that the configuration names it rather than a default of the command
    line, `log_level` is the least severe one that is logged, `has_model` says that language models answer.
    """

    agents: Mapping[str, AgentTraits]
    durability: str = "full"
    is_journal_chosen: bool = True
    log_level: str = "info"
    has_model: bool = False

    @property
    def tokens(self) -> dict[str, int]:
        """What one attempt uses at most, of the agents of whom that is known."""
        return {name: agent.tokens for name, agent in self.agents.items() if agent.tokens is not None}


@dataclass(frozen=True, slots=True)
class Check:
    """One question, whether it is met, and why."""

    item: str
    is_met: bool
    reason: str


def unreached_in(plan: Node, surroundings: Surroundings) -> tuple[str, ...]:
    """Return the enabled agents that no path of a plan reaches, and no event of its own."""
    reached = set(agents_of(plan))
    return tuple(name for name, agent in surroundings.agents.items() if name not in reached and not agent.is_called_by_events)


def unknown_tokens_in(plan: Node, surroundings: Surroundings) -> tuple[str, ...]:
    """Return the agents of a plan of whose tokens nothing is known."""
    known = surroundings.tokens
    return tuple(name for name in agents_of(plan) if name not in known)


def checklist_of(plan: Node, surroundings: Surroundings) -> list[Check]:
    """Ask all questions."""
    worst = bounds_of(plan)
    return [
        _termination(loops_of(plan)),
        _attempts(worst),
        _errors(plan, errors_of(plan)),
        _progress(surroundings),
        _recovery(surroundings),
        _limits(plan, worst, surroundings),
        _delegation(plan, worst, surroundings),
        _focus(plan, surroundings),
    ]


def _termination(loops: list[LoopProof]) -> Check:
    told = "nothing repeats" if not loops else f"{_count(len(loops), 'loop')}, each with a stop condition and a cap"
    return Check("termination is defined", True, told)


def _attempts(worst: Bounds) -> Check:
    most = f"at most {_count(worst.calls, 'attempt')} of {_count(worst.steps, 'step')}"
    extra = worst.calls - worst.steps
    return Check("iterations and retries are bounded", True, f"{most}, {extra:,} of them after failures" if extra else most)


def _errors(plan: Node, steps: list[ErrorProof]) -> Check:
    item = "errors are handled at each step"
    helped = [step for step in steps if step.attempts > 1 or step.fallback or step.has_default]
    bare = [step for step in steps if step not in helped]
    if not bare:
        return Check(item, True, "each step is retried, or has somebody in its place")
    ends = {"stop": "ends its flow", CONTINUE: "is passed over", JOIN: "counts for its join"}
    told = dict.fromkeys(ends.get(step.on_error, "is routed on") for step in bare)
    flow = None if isinstance(plan, Call) else plan.flow
    handled = "" if flow is None or flow.errors is None else ", an error handler is called"
    return Check(item, True, f"{_count(len(bare), 'step')} without a retry or fallback: a failure {', '.join(told)}{handled}")


def _progress(surroundings: Surroundings) -> Check:
    item, every = "progress is observable", "each step's start, retries and end"
    if surroundings.log_level == "debug":
        return Check(item, True, f"{every} are lines of the log")
    if surroundings.durability != "none":
        return Check(item, True, f'{every} are in the journal, and with logging.level = "debug" lines of the log')
    return Check(item, False, f'{every} are told nowhere: name a file in [journal], or set logging.level = "debug"')


def _recovery(surroundings: Surroundings) -> Check:
    item = "state can be recovered"
    if surroundings.durability == "none":
        return Check(item, False, "nothing is kept on disk: a run is lost with its process; name a file in [journal]")
    kept = {"full": "each step is on disk before the next one begins", "relaxed": "steps survive the process, not a power cut"}
    own = "" if surroundings.is_journal_chosen else "; run from Python, only with a section [journal]"
    return Check(item, True, kept[surroundings.durability] + own)


def _limits(plan: Node, worst: Bounds, surroundings: Surroundings) -> Check:
    item = "resources are limited"
    flow = None if isinstance(plan, Call) else plan.flow
    budget = None if flow is None else flow.budget
    tokens = worst_case_tokens(plan, surroundings.tokens)
    time = "no limit of time" if worst.wall_s is None else f"time: {worst.wall_s:,.10g} s"
    if budget is not None and budget.tokens is not None:
        told, is_bounded = f"tokens: a budget of {budget.tokens:,}", True
    elif tokens is not None:
        told, is_bounded = f"tokens: {tokens:,}", True
    else:
        told, is_bounded = f"tokens: nothing bounds those of {_named(unknown_tokens_in(plan, surroundings))}", not surroundings.has_model
    return Check(item, worst.wall_s is not None and is_bounded, f"{time}; {told}")


def _delegation(plan: Node, worst: Bounds, surroundings: Surroundings) -> Check:
    """Ask whether more agents stand ready than can ever be called."""
    item = "delegation is in proportion"
    for site in sites_in(plan):
        node, loop = site.node, site.node
        if isinstance(loop, Loop) and loop.agenda is not None:
            members = max((len(_cases(one.node)) for one in sites_in(loop.body) if isinstance(one.node, Map)), default=0)
            most = loop.agenda.most
        elif isinstance(node, Map):
            members, most = len(_cases(node)), most_items(node)
        else:
            continue
        if members > most > 1:
            return Check(item, False, f"flow `{site.flow}` has {members} members, of whom at most {most} are ever called")
    if len(surroundings.agents) > MOST_AGENTS_A_STEP * max(1, worst.steps):
        return Check(item, False, f"{len(surroundings.agents)} agents for at most {_count(worst.steps, 'step')}")
    return Check(item, True, f"{_count(len(surroundings.agents), 'agent')} for at most {_count(worst.steps, 'step')}")


def _focus(plan: Node, surroundings: Surroundings) -> Check:
    reached = set(agents_of(plan))
    crowded = [name for name, agent in surroundings.agents.items() if name in reached and agent.capabilities > MOST_CAPABILITIES]
    if crowded:
        told = f"more than {MOST_CAPABILITIES} capabilities in one agent: {_named(tuple(crowded))}; split it"
        return Check("no agent does everything", False, told)
    return Check("no agent does everything", True, f"none has more than {MOST_CAPABILITIES} capabilities")


def _cases(node: Node) -> tuple[Node, ...]:
    body = node.body if isinstance(node, Map) else node
    return children(body) if isinstance(body, Branch) and body.routes is not None else ()


def _named(names: tuple[str, ...]) -> str:
    told = ", ".join(names[:MOST_NAMED])
    return told if len(names) <= MOST_NAMED else f"{told} and {len(names) - MOST_NAMED:,} more"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
