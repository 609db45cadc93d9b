"""The functional API: agent steps composed in plain Python, on the same engine and journal as configured flows.

from agentflow import Workflow
from agentflow.workflow import AgentStepSpec

async with Workflow(executor, root_id="report-7", store="sqlite:journal.db", resume=True) as workflow:
    drafts = await workflow.parallel([AgentStepSpec("a", "writer", prompt="tea"), AgentStepSpec("b", "writer", prompt="cake")])
"""

from agentflow.core.ledger import Budget, BudgetSnapshot
from agentflow.workflow.builder import WorkflowBuilder
from agentflow.workflow.facade import Workflow
from agentflow.workflow.milestones import Subscription, WorkflowEvent
from agentflow.workflow.phase import Phase
from agentflow.workflow.specs import AgentStepSpec, LoopDecision, LoopOutcome, StepOutcome, identity_of
from agentflow.workflow.steps import AgentExecutor, Emit
from agentflow.workflow.tasks import TaskExecutor

__all__ = [
    "AgentExecutor",
    "AgentStepSpec",
    "Budget",
    "BudgetSnapshot",
    "Emit",
    "LoopDecision",
    "LoopOutcome",
    "Phase",
    "StepOutcome",
    "Subscription",
    "TaskExecutor",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowEvent",
    "identity_of",
]
