"""A newspaper: the chief delegates to a desk, its editor to a checking team, and that team's lead to two checkers."""

from __future__ import annotations

from typing import Any

from agentflow import Event, State, agent

ARCHIVE = {"the bridge opened in 1932": True, "the bridge is 2 km long": False}

Answer = dict[str, Any]


@agent("chief")
async def run_paper(event: Event, state: State) -> Answer:
    """Top level: a story from the desk, then the page."""
    if "story" not in state:
        return {"next": {"agent": "news_desk", "task": {"topic": event.data["topic"]}}}
    return {"next": "layout"} if "page" not in state else {"done": True}


@agent("editor")
async def run_desk(event: Event, state: State) -> Answer:
    """Second level: write, have it checked, and drop what is not true."""
    if "claims" not in state:
        return {"next": "reporter"}
    if "verdicts" not in state:
        return {"next": {"agent": "checking", "task": {"claims": state["claims"]}}}
    true = [claim for claim, is_true in state["verdicts"].items() if is_true]
    return {"done": True, "story": f"{event.data['topic']}: {', '.join(true)}."}


@agent("reporter")
async def report(event: Event, state: State) -> Answer:
    """Write down what people say."""
    return {"claims": [*ARCHIVE, "the bridge was painted last week"]}


@agent("lead_checker")
async def run_checks(event: Event, state: State) -> Answer:
    """Third level: the archive first; a call only for what it does not know."""
    if "verdicts" not in state:
        return {"next": "archive"}
    unknown = [claim for claim in event.data["claims"] if claim not in state["verdicts"]]
    return {"next": {"agent": "caller", "task": {"claims": unknown}}} if unknown else {"done": True}


@agent("archive")
async def look_up(event: Event, state: State) -> Answer:
    """Judge the claims that the archive knows."""
    return {"verdicts": {claim: ARCHIVE[claim] for claim in event.data["claims"] if claim in ARCHIVE}}


@agent("caller")
async def call(event: Event, state: State) -> Answer:
    """Ask the painters, who confirm everything."""
    return {"verdicts": {**state["verdicts"], **dict.fromkeys(event.data["claims"], True)}}


@agent("layout")
async def lay_out(event: Event, state: State) -> Answer:
    """Set the page."""
    return {"page": state["story"].upper()}
