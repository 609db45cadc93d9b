"""An article is revised until it is good, and then published; one that is hopeless, or cannot be published, goes on the shelf."""

from __future__ import annotations

from typing import Any

from agentflow import Event, State, agent

FILLERS = {"very", "really", "just", "quite"}

Answer = dict[str, Any]


@agent("analyzer")
async def analyze(event: Event, state: State) -> Answer:
    """Score the text: the share of its words that say something."""
    words = state["text"].split()
    fillers = [word for word in words if word in FILLERS]
    return {"score": round(1 - len(fillers) / len(words), 2), "fillers": fillers}


@agent("reviser")
async def revise(event: Event, state: State) -> Answer:
    """Take the first filler out; the node's input says what they are."""
    words = state["text"].split()
    words.remove(event.data["input"]["words"][0])
    return {"text": " ".join(words), "scores": [*state.get("scores", []), event.data["input"]["score"]]}


@agent("publisher")
async def publish(event: Event, state: State) -> Answer:
    """Publish under a title, without which there is nothing to publish under."""
    return {"published": f"{state['title']}: {state['text']}"}


@agent("shelf")
async def shelve(event: Event, state: State) -> Answer:
    """Keep it."""
    return {"shelved": True}
