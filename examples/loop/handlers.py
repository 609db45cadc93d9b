"""An editor that mends one kind of fault a round, until the text is good enough."""

from __future__ import annotations

import re
from collections.abc import Callable

from agentflow import Event, State

Rule = tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]]

RULES: list[Rule] = [
    ("stray spaces", re.compile(r" {2,}| +(?=[.,;!?])"), lambda found: " " if found.group().startswith("  ") else ""),
    ("repeated words", re.compile(r"\b(\w+)( \1\b)+", re.IGNORECASE), r"\1"),
    ("filler words", re.compile(r"\b(?:very|really|basically|actually|just) ", re.IGNORECASE), ""),
    ("wordy phrases", re.compile(r"\bin order to\b", re.IGNORECASE), "to"),
    ("small first letters", re.compile(r"(?:^|(?<=[.!?] ))[a-z]"), lambda found: found.group().upper()),
]


def improve(event: Event, state: State) -> State:
    """Mend the first kind of fault that is left, score the text, and end the loop at the wanted quality."""
    text: str = state["content"]
    for name, pattern, replacement in RULES:
        if pattern.search(text):
            text = pattern.sub(replacement, text)
            state["mended"] = [*state.get("mended", []), name]
            break
    score = quality(text)
    state["content"] = text
    state["quality_score"] = score
    state["scores"] = [*state.get("scores", []), score]
    if score >= event.data.get("target_quality", 0.95):
        state["loop_complete"] = True
        state.meta["completion_reason"] = "quality_threshold_met"
    state.meta["loop_iteration"] = str(state["iteration"] + 1)
    return state


def quality(text: str) -> float:
    """Return the share of rules that the text keeps, 0 to 1."""
    kept = sum(not pattern.search(text) for _, pattern, _ in RULES)
    return round(kept / len(RULES), 2)
