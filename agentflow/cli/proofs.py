"""`agentflow plan`: what is sure of a plan before it runs, as JSON and for a person."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agentflow import app
from agentflow.config.journal import BESIDE_THE_FILE
from agentflow.config.model import AgentConfig, Config
from agentflow.core.bounds import bounds_of, worst_case_tokens
from agentflow.core.checklist import AgentTraits, Surroundings, checklist_of, unknown_tokens_in, unreached_in
from agentflow.core.plan import Node
from agentflow.core.proofs import (
    JOIN,
    BudgetProof,
    ErrorProof,
    JoinProof,
    LoopProof,
    budgets_of,
    conflicts_of,
    errors_of,
    joins_of,
    loops_of,
    rows,
)
from agentflow.core.values import Json

MOST_ROWS = 50  # of one kind, for a person


def surroundings_of(project: app.Project) -> Surroundings:
    """Return what a configuration says of its agents, its journal and its log."""
    config, journal = project.config, project.config.journal
    agents = {name: _traits(config, agent, name in project.extra_agents) for name, agent in config.agents.items() if agent.enabled}
    return Surroundings(
        {name: agents.get(name, AgentTraits()) for name in (*agents, *project.extra_agents)},
        project.journal(BESIDE_THE_FILE).durability,
        journal.url is not None or journal.durability is not None,
        config.logging.level,
        config.llm is not None,
    )


def proofs_row(plan: Node, surroundings: Surroundings) -> dict[str, Json]:
    """Return all that is sure of a plan as JSON; a figure that nothing bounds is null."""
    worst = bounds_of(plan)
    conflicts, unknown = conflicts_of(plan)
    return {
        "worst_case_calls": worst.calls,
        "worst_case_steps": worst.steps,
        "worst_case_hops": worst.hops,
        "worst_case_seconds": None if worst.wall_s is None else round(worst.wall_s, 3),
        "worst_case_tokens": worst_case_tokens(plan, surroundings.tokens),
        "unknown_tokens": list(unknown_tokens_in(plan, surroundings)),
        "budgets": rows(budgets_of(plan)),
        "loops": rows(loops_of(plan)),
        "joins": rows(joins_of(plan)),
        "write_conflicts": rows(conflicts),
        "unknown_writes": rows(unknown),
        "unreached_agents": list(unreached_in(plan, surroundings)),
        "errors": rows(errors_of(plan)),
        "checklist": [{"item": one.item, "ok": one.is_met, "reason": one.reason} for one in checklist_of(plan, surroundings)],
    }


def proof_lines(plan: Node, surroundings: Surroundings) -> Iterator[str]:
    """Yield all that is sure of a plan, for a person."""
    yield _worst_case(plan, surroundings)
    conflicts, unknown = conflicts_of(plan)
    yield from _listed("budgets", (_budget(one) for one in budgets_of(plan)))
    yield from _listed("loops", (_loop(one) for one in loops_of(plan)))
    yield from _listed("joins", (_join(one) for one in joins_of(plan)))
    ends = {"strict": "the flow fails when they differ"}
    written = [
        f"{one.position}  {one.flow}: `{one.key}` by {', '.join(one.agents)}: {ends.get(one.merge, 'the last one wins')}"
        for one in conflicts
    ]
    silent = [f"{one.position}  {one.flow}: unknown of {', '.join(one.agents)}, without `writes`" for one in unknown]
    yield from _listed("may be written side by side", written + silent)
    yield from _listed("errors", (_error(one) for one in errors_of(plan)))
    yield from _listed("reached by no path", unreached_in(plan, surroundings))
    yield from _listed(
        "checklist", (f"[{'x' if one.is_met else ' '}] {one.item}: {one.reason}" for one in checklist_of(plan, surroundings))
    )


def _traits(config: Config, agent: AgentConfig, is_registered: bool) -> AgentTraits:
    """Return what is known of an agent: a model's answer is as long as it may be, any other agent uses what it sets aside."""
    is_model = config.llm is not None and bool(agent.system_prompt) and agent.handler is None and not is_registered
    answer = config.llm.max_tokens if is_model and config.llm is not None else None
    tokens = max(answer or 0, agent.reserve_tokens) or None
    if is_model and answer is None:
        tokens = None
    return AgentTraits(tokens, len(agent.capabilities), bool(agent.subscribes))


def _worst_case(plan: Node, surroundings: Surroundings) -> str:
    worst, tokens = bounds_of(plan), worst_case_tokens(plan, surroundings.tokens)
    seconds = "unbounded" if worst.wall_s is None else f"{worst.wall_s:,.10g} s"
    told = f"worst case: {worst.calls:,} calls ({worst.steps:,} without retries), {worst.hops:,} hand-offs, {seconds}"
    return f"{told}, tokens unknown" if tokens is None else f"{told}, {tokens:,} tokens"


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    """Yield lines below a title, nothing where there are none; of many the first."""
    found = list(lines)
    if found:
        yield f"{title}:"
        yield from (f"  {line}" for line in found[:MOST_ROWS])
        if len(found) > MOST_ROWS:
            yield f"  and {len(found) - MOST_ROWS:,} more"


def _budget(one: BudgetProof) -> str:
    figures = {"tokens": one.tokens, "US dollars": one.cost_usd, "seconds": one.seconds, "calls": one.calls}
    return f"{one.scope}: {', '.join(f'{figure:,} {name}' for name, figure in figures.items() if figure is not None)}"


def _loop(one: LoopProof) -> str:
    return f"{one.position}  {one.flow}: until {one.stop}; at most {one.most:,} {one.unit}"


def _join(one: JoinProof) -> str:
    limit = f"more than {one.failure_threshold:g} of {one.members:,} fail" if one.quorum is None else f"fewer than {one.quorum} succeed"
    told = [f"fails when {limit}" + (", at once" if one.fail_fast else "")]
    if one.bears_failures:
        told = ["failures go to the next step"]
    told += [] if one.join_timeout_seconds is None else [f"closed after {one.join_timeout_seconds:g} s"]
    told += [f"aggregate {one.aggregate}"] if one.aggregate is not None else [f"merge {one.merge}"] if one.merge else ["nothing is merged"]
    return f"{one.position}  {one.flow}: {'; '.join(told)}"


def _error(one: ErrorProof) -> str:
    told = [f"{one.attempts} attempts"] if one.attempts > 1 else []
    told += [f"or else {', '.join(one.fallback)}"] if one.fallback else []
    told += ["or else its default output"] if one.has_default else []
    end = "counts for the join" if one.on_error == JOIN else one.on_error
    return f"{one.position}  {one.agent}: {', '.join((*told, end))} ({one.by})"
