"""What the READMEs show is what the commands print.

With UPDATE_READMES=1 in the environment these tests write the present output into the READMEs instead.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
CHANGING = [
    (re.compile(r"\bin \d+(\.\d+)? m?s\b"), "in 1 ms"),
    (re.compile(r"\brun-[0-9a-f]{12}-\d+"), "run-0123456789ab-1"),
    (re.compile(r"\b(trace|span)-[0-9a-f]+"), r"\1-0123456789ab"),
    (re.compile(r'"\d+\.\d+ms"'), '"0.020ms"'),
]


def steady(text: str) -> str:
    """Put one value in the place of each id and duration."""
    for pattern, value in CHANGING:
        text = pattern.sub(value, text)
    return text


@pytest.fixture
def printed(agentflow: Callable[..., Any], run_python: Callable[..., Any]) -> Callable[[str], str]:
    """What a command of a README prints; on stderr only where it prints nothing else."""

    def run(command: str) -> str:
        words = shlex.split(command)
        environment = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        start = {"agentflow": agentflow, "python": run_python}[words[0]]
        outcome = start(*words[1:], environment=environment)
        assert "Traceback" not in outcome.stderr, outcome.stderr
        return (outcome.stdout or outcome.stderr).rstrip()

    return run


@pytest.mark.parametrize("page", sorted(EXAMPLES.glob("*/README.md")), ids=lambda page: page.parent.name)
def test_readme_shows_what_is_printed(page: Path, printed: Callable[[str], str]) -> None:
    """Each `$ command` of a README's console blocks prints what stands below it, but for ids and durations."""

    def replayed(block: re.Match[str]) -> str:
        commands = re.findall(r"^\$ (.+)$", block.group(1), re.MULTILINE)
        shown = "\n".join(f"$ {command}\n{printed(command)}\n" for command in commands)
        return f"```console\n{shown}```"

    text = page.read_text(encoding="utf-8")
    present = BLOCK.sub(replayed, text)
    if os.environ.get("UPDATE_READMES") and steady(present) != steady(text):
        page.write_text(present, encoding="utf-8")
    else:
        assert steady(text) == steady(present)
