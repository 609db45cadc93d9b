"""Lists the contenders: a new peer is one module under `contenders/` and one entry here."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workloads import Mode, Workload


@dataclass(frozen=True)
class Entry:
    """Describes one line of the tables.

    `requires` is the package that must be importable, `venv` the folder that is looked for under --peers, `statement`
    the import whose cost W10 measures (empty: another line of the same framework measures it), `modes` those that the
    line takes part in (None: all), `durable` the ids of the durable workloads that it takes part in, and then in no others.
    """

    label: str
    contender: str
    requires: str = "asyncio"
    venv: str = ""
    statement: str = ""
    modes: tuple[Mode, ...] | None = None
    durable: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """The module of the contender class."""
        return "benchmarks.contenders." + self.contender.partition(":")[0]

    @property
    def class_name(self) -> str:
        """The name of the contender class."""
        return self.contender.partition(":")[2]

    def python(self, peers: Path | None) -> str | None:
        """Return the interpreter to run under, or None when the peer is not installed.

        A virtual environment under `peers` comes first, then the running interpreter if it has the package.
        """
        if peers and self.venv:
            found = peers / self.venv / "bin" / "python"
            if found.exists():
                return str(found.absolute())
        try:
            importable = importlib.util.find_spec(self.requires) is not None
        except ModuleNotFoundError:  # the package above a dotted name is missing
            importable = False
        return sys.executable if importable else None

    def takes(self, workload: Workload) -> bool:
        """Tell whether the line takes part in a workload."""
        if self.durable or workload.is_durable:
            return workload.id in self.durable
        return self.modes is None or workload.mode in self.modes


SIZES = ("W8ds", "W8dl")
LOOPS = ("W9da", "W9dc")

ENTRIES = (
    Entry("bare", "floors:Bare"),
    Entry("own_task", "floors:OwnTask"),
    Entry("agentflow", "agentflow:AgentFlow", "agentflow"),
    Entry("agentflow_copy", "agentflow:AgentFlowCopy", "agentflow"),
    Entry("agentflow_until", "agentflow:AgentFlowUntil", "agentflow", modes=("loop",)),
    Entry(
        "langgraph",
        "langgraph:LangGraph",
        "langgraph",
        "langgraph",
        "from langgraph.graph import StateGraph, START, END",
    ),
    Entry(
        "pydantic_graph",
        "pydantic_graph:PydanticGraph",
        "pydantic_graph",
        "pydantic_graph",
        "from pydantic_graph import GraphBuilder",
    ),
    Entry(
        "llama_index_workflows",
        "llama_index_workflows:LlamaIndexWorkflows",
        "workflows",
        "llama_index_workflows",
        "from workflows import Workflow, step",
    ),
    Entry("burr", "burr:Burr", "burr", "burr", "from burr.core import ApplicationBuilder, action"),
    Entry(
        "google_adk_agents",
        "google_adk:Agents",
        "google.adk",
        "google_adk",
        "from google.adk.agents import SequentialAgent; from google.adk.runners import Runner",
    ),
    Entry("google_adk_workflow", "google_adk:WorkflowGraph", "google.adk", "google_adk"),
    Entry(
        "agent_framework",
        "agent_framework:GraphWorkflow",
        "agent_framework",
        "agent_framework",
        "from agent_framework import WorkflowBuilder, FunctionExecutor",
    ),
    Entry("agent_framework_functional", "agent_framework:FunctionalWorkflow", "agent_framework", "agent_framework"),
    Entry("crewai", "crewai:CrewFlow", "crewai", "crewai", "from crewai.flow.flow import Flow, listen, start"),
    Entry("sqlite_full", "durable_floors:SqliteFull", durable=("W6", "W7d", *SIZES)),
    Entry("sqlite_full_input_delta", "durable_floors:SqliteFullInputDelta", durable=("W6", *SIZES, *LOOPS)),
    Entry("sqlite_full_thread", "durable_floors:SqliteFullThread", durable=("W6", *SIZES)),
    Entry("sqlite_full_group", "durable_floors:SqliteFullGroup", durable=("W6", "W7d")),
    Entry("sqlite_full_group_input", "durable_floors:SqliteFullGroupInput", durable=("W7d",)),
    Entry("file_fsync", "durable_floors:FileFsync", durable=("W6", *SIZES)),
    Entry("agentflow_durable", "agentflow:AgentFlowDurable", "agentflow", durable=("W6", "W7d", *SIZES, *LOOPS)),
    Entry("burr_sqlite", "burr:BurrSqlite", "burr", "burr", durable=("W6", "W7d", *SIZES)),
    Entry("langgraph_sqlite_sync", "langgraph:LangGraphSqlite", "langgraph", "langgraph", durable=("W6", "W7d", *SIZES)),
)

FLOORS = ("bare", "own_task")
PRODUCT = ("agentflow", "agentflow_copy", "agentflow_until", "agentflow_durable")


def peers_among(labels: list[str]) -> list[str]:
    """Return those labels that are neither floors nor lines of agentflow."""
    return [label for label in labels if label not in FLOORS and label not in PRODUCT]
