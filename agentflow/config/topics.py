"""MQTT topics and the filters that take them: what is well formed, what takes what, and whether two filters meet."""

from __future__ import annotations

from collections.abc import Sequence

LONGEST = 1024  # of a topic or filter, in bytes of UTF-8; the protocol allows more, nobody needs it
MOST_LEVELS = 64
ONE, REST = "+", "#"


def filter_fault(text: str) -> str:
    """Return what is wrong with a topic filter as a sentence's end, "" when it can be subscribed to."""
    fault = _text_fault(text)
    if fault:
        return fault
    levels = text.split("/")
    if text.startswith("$"):
        return "begins with `$`: such topics are the broker's own"
    if text == REST or all(level in (ONE, REST) for level in levels):
        return "takes every topic there is"
    if any(level != REST and REST in level for level in levels) or REST in levels[:-1]:
        return "has a `#` that is not its last level"
    if any(level != ONE and ONE in level for level in levels):
        return "has a `+` that is only part of a level"
    return ""


def topic_fault(text: str) -> str:
    """Return what is wrong with a topic as a sentence's end, "" when something can be published there."""
    fault = _text_fault(text)
    if fault:
        return fault
    if text.startswith("$"):
        return "begins with `$`: such topics are the broker's own"
    return "has a wildcard" if ONE in text or REST in text else ""


def takes(pattern: str, topic: str) -> bool:
    """Say whether a filter takes a topic."""
    return not (topic.startswith("$") and not pattern.startswith("$")) and _meet(pattern.split("/"), topic.split("/"))


def overlap(first: str, second: str) -> bool:
    """Say whether there is a topic that both filters take."""
    return _meet(first.split("/"), second.split("/"))


def _meet(first: Sequence[str], second: Sequence[str]) -> bool:
    """Say whether two lists of levels can be the same; `#` also stands for no level at all."""
    for at in range(max(len(first), len(second)) + 1):
        here, there = (first[at] if at < len(first) else None), (second[at] if at < len(second) else None)
        if REST in (here, there):
            return True
        if here is None or there is None:
            return here is there
        if here != there and ONE not in (here, there):
            return False
    return True


def _text_fault(text: str) -> str:
    if not text:
        return "is empty"
    if len(text.encode("utf-8", "surrogatepass")) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    if any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 or 0xD800 <= ord(char) < 0xE000 or ord(char) & 0xFFFE == 0xFFFE for char in text):
        return "has a character that no topic can have"
    return f"has more than {MOST_LEVELS} levels" if text.count("/") >= MOST_LEVELS else ""
