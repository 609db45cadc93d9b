"""The keys and tables of the patterns: steps, tasks, delegation, messages, plans, decision trees and graphs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from agentflow.config.advice import is_reference
from agentflow.config.policies import Output, as_json
from agentflow.config.section import ADVICE, NAME, ONE, SEVERAL, TABLE, Count, Name, Seconds, Section

AGGREGATES = ("first", "vote", "concat")
BEST = "best:"  # how an `aggregate` begins that names a key of the answers
MOST_TASKS = MOST_MESSAGES = 100
MOST_ROUNDS = 10
MOST_DEPTH = 5
MOST_REPLANS = 3
MOST_EVENTS = 100

Retries = Annotated[int, Field(ge=0, le=100)]
Bound = Annotated[int, Field(ge=1, le=10_000)]


def _step_error(value: str) -> str:
    if value in {"stop", "continue"}:
        return value
    advice = 'write "stop" or "continue"; "route:" is for a flow as a whole and for nodes of a graph'
    raise PydanticCustomError("AF0104", "is none of the two things a step can do on an error", {ADVICE: advice})


def _node_error(value: str) -> str:
    kind, _, name = value.partition(":")
    if value in {"stop", "continue"} or (kind == "route" and NAME.fullmatch(name)):
        return value
    advice = 'write "stop", "continue", or "route:" and the name of a node'
    raise PydanticCustomError("AF0104", "is none of the three things a node can do on an error", {ADVICE: advice})


def _pattern(value: str) -> str:
    if value:
        return value
    raise PydanticCustomError("AF0104", "is empty, and matches no event", {ADVICE: 'write a target, or a pattern such as "order.*"'})


def _aggregate(value: str) -> str:
    if value in AGGREGATES or (value.startswith(BEST) and value != BEST) or is_reference(value, may_lack_function=False):
        return value
    advice = 'write "first", "vote", "concat", "best:" and a key of the answers, or "module:function"'
    raise PydanticCustomError("AF0104", "is no way to make one answer of many", {ADVICE: advice})


def _form(value: object) -> str:
    return TABLE if isinstance(value, dict) else SEVERAL if isinstance(value, list) else ONE


Value = Annotated[Any, AfterValidator(as_json)]
Schema = Annotated[Annotated[str, Tag(ONE)] | Annotated[Output, Tag(TABLE)], Discriminator(_form)]
Members = Annotated[Annotated[str, Tag(ONE)] | Annotated[list[str], Tag(SEVERAL)], Discriminator(_form)]
Ways = Annotated[
    Annotated[str, Tag(ONE)] | Annotated["BranchConfig", Tag(TABLE)] | Annotated[list["BranchConfig"], Tag(SEVERAL)],
    Discriminator(_form),
]


class StepConfig(Section):
    """A step of parallel, pipeline, map_reduce or orchestrator_workers: one agent or flow, with an input of its own."""

    id: Name | None = Field(
        default=None, description="The name of its outputs, and of the step for others that depend on it. Default: its agent's name."
    )
    name: str = Field(default="", description="What people read in its place in plans and diagrams, free text.")
    agent: str = Field(description="The agent or flow that does it.")
    input: Value = Field(
        default=None,
        description="What it is given: any value. In strings `{{ outputs.gather.text }}` stands for what the run knows, below `outputs`, "
        "`state`, `meta` or `event`. Default: the event's data.",
    )
    phase: Literal["map", "reduce", "plan", "work", "synthesize"] | None = Field(
        default=None,
        description="map_reduce: `map` or `reduce`. orchestrator_workers: `plan`, `work` or `synthesize`. Required there, else refused.",
    )
    max_retries: Retries | None = Field(
        default=None, description="Retries beyond the first try, 0 to 100. Default: those of its agent, else of the flow."
    )
    requires_approval: bool | None = Field(
        default=None, description="The step waits until a person approves it. Default: as its agent says. For agents only."
    )
    approval_timeout_seconds: Seconds | None = Field(
        default=None, description="How long it waits for its approval before it fails, in seconds. Default: as its agent says."
    )
    depends_on: list[str] | None = Field(
        default=None, description="parallel: the ids of the steps that end before it begins. Default: it waits for none."
    )
    on_error: Annotated[str, AfterValidator(_step_error)] | None = Field(
        default=None,
        description="What its failure does to the flow: `stop` or `continue`. Default: as the flow says.",
        json_schema_extra={"enum": ["stop", "continue"]},
    )


class NodeConfig(Section):
    """A node of a graph: only those need a table that are more than an agent or flow by its own name."""

    name: Name = Field(description="The node's name in edges and outputs.")
    agent: str | None = Field(default=None, description="The agent or flow that does it. Default: that of the node's name.")
    input: Value = Field(default=None, description="What it is given, as a step's `input`. Default: the event's data.")
    on_error: Annotated[str, AfterValidator(_node_error)] | None = Field(
        default=None,
        description="What its failure does: `stop` ends the graph, `continue` takes the edges as if it had answered nothing, `route:NODE` "
        "goes on at another node. Default: as the flow says.",
        json_schema_extra={"pattern": "^(stop|continue|route:[A-Za-z0-9_.-]{1,64})$"},
    )
    title: str = Field(default="", description="What people read in its place in plans and diagrams, free text.")


class EdgeConfig(Section):
    """An edge of a graph: of those that leave a node the first whose condition holds is taken."""

    source: str = Field(alias="from", description="The node it leaves: a node's, an agent's or a flow's name.")
    target: str = Field(alias="to", description="The node it leads to; `end` ends the graph, unless something is named so.")
    when: str | None = Field(
        default=None, description="A CEL condition over `state`, `outputs` and `event`. Default: it holds in any case."
    )


class BranchConfig(Section):
    """A question of a decision tree: where it holds one way is taken, else the other."""

    when: str = Field(description="A CEL condition over `state`, `outputs` and `event`.")
    then: Ways = Field(
        description="Where it holds: an agent or flow, a table with the next question, or an array of such tables, of which the first "
        "that holds is taken."
    )
    otherwise: Ways | None = Field(
        default=None, alias="else", description="Where it does not, as `then`. Default: the next question of the array, if there is one."
    )


class PatternKeys(Section):
    """What the patterns read of a flow beside the keys of all flows."""

    steps: list[StepConfig] = Field(
        default=[], description="parallel, pipeline, map_reduce, orchestrator_workers: the steps, in this order."
    )
    map: str | None = Field(default=None, description="map_reduce: the agent or flow that is called for each item of `over`.")
    over: str | None = Field(default=None, description="map_reduce, pipeline: the key of the state that holds the list of items.")
    reduce: str | None = Field(default=None, description="map_reduce: the agent or flow that is given the results.")
    map_failures: Literal["fail", "skip"] = Field(
        default="fail", description="map_reduce: whether a failed item fails the flow, or the reducer is told which ones failed."
    )
    planner: str | None = Field(
        default=None, description="orchestrator_workers, plan_execute: the agent that sets `tasks`, or `plan`, in its answer."
    )
    workers: Members | None = Field(
        default=None, description="orchestrator_workers: who does the tasks: agents or flows, or one agent, best with a pool of workers."
    )
    synthesizer: str | None = Field(
        default=None,
        description="orchestrator_workers, supervisor, hierarchical, plan_execute: who makes one answer of the results. Default: nobody.",
    )
    max_tasks: Bound = Field(
        default=MOST_TASKS,
        description="orchestrator_workers, plan_execute: the most tasks for one event, 1 to 10,000. Where a flow goes `over` a list: the "
        "most items of it, by default 1,000.",
    )
    supervisor: str | None = Field(default=None, description="supervisor, hierarchical: the agent that says who works next.")
    agents: list[str] | None = Field(
        default=None, description="supervisor, hierarchical, peer_to_peer, plan_execute: who works, agents or flows."
    )
    max_rounds: Bound = Field(default=MOST_ROUNDS, description="supervisor, hierarchical: the most calls of the supervisor, 1 to 10,000.")
    max_depth: Annotated[int, Field(ge=1, le=16)] = Field(
        default=MOST_DEPTH, description="hierarchical: how many levels of supervisors there are at most, 1 to 16."
    )
    max_messages: Bound = Field(
        default=MOST_MESSAGES, description="peer_to_peer: the most messages that are delivered for one event, 1 to 10,000."
    )
    replanner: str | None = Field(
        default=None, description="plan_execute: the agent that may replace what has not run. Default: nobody, and a failed step ends it."
    )
    max_replans: Annotated[int, Field(ge=0, le=100)] = Field(
        default=MOST_REPLANS, description="plan_execute: how often a plan is revised at most, 0 to 100."
    )
    branches: list[BranchConfig] = Field(
        default=[], description="decision_tree: the questions at its root, of which the first that holds is taken."
    )
    nodes: list[NodeConfig] = Field(default=[], description="graph: the nodes that are more than an agent or flow by its own name.")
    edges: list[EdgeConfig] = Field(default=[], description="graph: the ways from node to node, in the order in which they are tried.")
    max_visits: Bound | None = Field(
        default=None, description="graph: how often each node is visited at most, 1 to 10,000. Required where edges make a circle."
    )
    entry: str | None = Field(default=None, description="graph: the node it begins at.")
    aggregate: Annotated[str, AfterValidator(_aggregate)] | None = Field(
        default=None,
        description="collaborative, mixed, parallel: how one answer is made of all: `first`, `vote`, `concat`, `best:KEY` or "
        "`module:function`. Default: patches are merged.",
    )
    state_schema: Schema | None = Field(
        default=None,
        description="A JSON Schema of the state: its file, relative to the file that says it, or a table. A step whose patch breaks it "
        "fails. Default: any state is good.",
    )
    max_events: Count = Field(default=MOST_EVENTS, description="The most events that agents emit on behalf of one, at least 1.")


class ContractKeys(Section):
    """What an agent declares of the state it works on and the events it takes."""

    reads: list[str] | None = Field(default=None, description="The keys of the state that it reads. Default: not declared.")
    writes: list[str] | None = Field(
        default=None, description="The keys of the state that it may set; any other fails its step. Default: any."
    )
    output_schema: Schema | None = Field(
        default=None,
        description="A JSON Schema of its answer: a file, relative to the file that says it, or a table. An answer that breaks it fails "
        "the attempt. Default: any answer is good.",
    )
    subscribes: list[Annotated[str, AfterValidator(_pattern)]] | None = Field(
        default=None,
        description="Patterns of the targets of events for which it is called, e.g. `order.*`: `*` stands for any characters, `?` for one. "
        "Default: none.",
    )
    background: bool = Field(
        default=False, description="Its steps are runs of their own, for which nobody waits; what they set is not merged."
    )
