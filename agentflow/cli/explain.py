"""`agentflow explain`: what a code means and what to do; and `agentflow schema`, what a configuration may say."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files

import tomli

from agentflow.cli import terminal
from agentflow.cli.usage import UnknownCodeError


def explanations() -> dict[str, dict[str, str]]:
    """Return the explanations by code: title, meaning, cure, and an example where there is one."""
    text = files("agentflow.cli").joinpath("explanations.toml").read_text(encoding="utf-8")
    return tomli.loads(text)


def explain(code: str | None) -> None:
    """Print what a code means; without one, the list of all.

    Raises:
        UnknownCodeError: there is no such code.
    """
    known = explanations()
    if code is None:
        for name, entry in known.items():
            terminal.out(f"{name:10} {entry['title']}")
        return
    found = next((name for name in known if name.casefold() == code.strip("[] ").casefold()), None)
    if found is None:
        close = get_close_matches(_full(code), known, n=3, cutoff=0.7)
        named = " or ".join(f"`{name}`" for name in close)
        raise UnknownCodeError(f"no code {code!r}", hint=f"did you mean {named}?" if close else "`agentflow explain` alone lists all codes")
    terminal.out(_page(found, known[found]))


def _full(code: str) -> str:
    """Return a code as it is written out: `102` is AF0102."""
    digits = code.upper().removeprefix("AF")
    return f"AF{digits:0>4}" if digits.isdigit() else code


def schema() -> None:
    """Print the JSON Schema of the configuration."""
    from agentflow.config.schema import json_schema

    terminal.out(terminal.as_json(json_schema(), is_indented=True))


def _page(code: str, entry: Mapping[str, str]) -> str:
    lines = [f"{code}: {entry['title']}", "", entry["meaning"], "", f"What to do: {entry['cure']}"]
    if "example" in entry:
        lines += ["", "Example:", "", *(f"    {line}".rstrip() for line in entry["example"].split("\n"))]
    return "\n".join(lines)
