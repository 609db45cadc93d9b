"""An analyzer decides who answers: each agent hands on by naming the next one."""

from __future__ import annotations

from agentflow import AgentResult, Event, State

HARD_WORDS = {"integration", "migration", "legal", "security"}


async def analyze(event: Event, state: State) -> AgentResult:
    """Call a request complex when it is long or touches a hard subject, and route it."""
    words = event.data["request"].lower().split()
    is_complex = len(words) > 20 or bool(HARD_WORDS.intersection(words))
    analysis = "complex" if is_complex else "simple"
    return AgentResult({"analysis": analysis}, route="specialist" if is_complex else "general")


async def answer_as_specialist(event: Event, state: State) -> AgentResult:
    """Take the request seriously."""
    return AgentResult({"response": f"A specialist looks into: {event.data['request']}"}, route="formatter")


async def answer_in_general(event: Event, state: State) -> AgentResult:
    """Answer at once."""
    return AgentResult({"response": f"Here you are: {event.data['request']}"}, route="formatter")


async def format_answer(event: Event, state: State) -> dict[str, str]:
    """Put the answer into a letter; naming nobody ends the run."""
    return {"final_response": f"Dear customer,\n{state['response']}"}
