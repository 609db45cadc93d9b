"""Writes the generated parts of the documents, so that they cannot say anything but what the code does.

    python docs/generate.py           write what is stale, and say what was written
    python docs/generate.py --check   write nothing; name what is stale and exit 1

Whole pages: docs/reference/config.md from the models, cli.md from the help of each command, api.md from the docstrings,
errors.md from the explanations. In other pages, what stands between `<!-- generated: NAME -->` and `<!-- end -->`: the
modes and the layers in ARCHITECTURE.md, and in concepts/flows-and-modes.md and patterns/*.md the diagram of the TOML above it.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import FunctionType
from typing import Any

import agentflow
import agentflow.testing
from agentflow import app
from agentflow.cli import main as run_command
from agentflow.cli.explain import explanations
from agentflow.config.model import FlowConfig
from agentflow.config.schema import reference
from agentflow.core.diagram import mermaid
from agentflow.core.plan import Node, children
from agentflow.modes import MODES
from agentflow.recorded import RecordedRuns

DOCS = Path(__file__).resolve().parent
REFERENCE = DOCS / "reference"
COMMANDS = (
    *("run", "resume", "validate", "explain", "schema", "visualize", "plan", "create", "config show", "agents", "workers", "version"),
    *(
        f"runs {name}"
        for name in ("list", "show", "watch", "pause", "resume", "cancel", "approve", "reject", "retry", "fork", "verify", "gc")
    ),
    *("events", "trace", "stats", "dead-letters list", "dead-letters show", "dead-letters replay"),
    *(f"journal {name}" for name in ("verify", "backup", "migrate", "stats")),
)

_PART = re.compile(r"(?<=<!-- generated: )([\w-]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields):")
_ENTRY = re.compile(r"([\w, *.]+): (.*)")


def main(arguments: list[str]) -> int:
    """Write or check every generated page."""
    is_check = arguments == ["--check"]
    if arguments and not is_check:
        print("usage: python docs/generate.py [--check]")
        return 2
    stale = [path for path, text in pages() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path, text in pages():
        if path in stale:
            print(f"{'stale' if is_check else 'wrote'}: {path.relative_to(DOCS.parent)}")
            if not is_check:
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    if is_check and stale:
        print("run: make docs")
    return 1 if is_check and stale else 0


def pages() -> Iterator[tuple[Path, str]]:
    """Yield each page that has generated parts, and its text as it should be."""
    yield REFERENCE / "config.md", reference()
    yield REFERENCE / "cli.md", cli_page()
    yield REFERENCE / "api.md", api_page()
    yield REFERENCE / "errors.md", errors_page()
    for path in (DOCS / "ARCHITECTURE.md", DOCS / "concepts" / "flows-and-modes.md", *sorted((DOCS / "patterns").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        yield path, _PART.sub(lambda found: f"{found[1]}{found[2]}{PARTS[found[1]](found.string[: found.start()])}", text)


# ---------------------------------------------------------------- parts of pages


SAMPLE = {
    "collaborative_agents": ["a", "b"],
    "sequential_agents": ["c", "d"],
    "loop_agent": "a",
    "map": "a",
    "reduce": "b",
    "planner": "p",
    "workers": ["a", "b"],
    "supervisor": "s",
    "agents": ["a", "b"],
    "synthesizer": "z",
    "replanner": "r",
    "branches": [{"when": "state.x", "then": "a", "else": "b"}],
    "edges": [{"from": "a", "to": "b"}],
    "entry": "a",
}
SAMPLES = {
    "parallel": {"steps": [{"agent": "a"}, {"agent": "b"}, {"agent": "c", "depends_on": ["a", "b"]}]},
    "map_reduce": {"over": "items"},
}


def modes_part(_before: str) -> str:
    """Return the table of the modes, and the shape of the plan that each one makes."""
    rows = ["| mode | what it does | its own keys | plan |", "|---|---|---|---|"]
    drawn = ["```mermaid", "flowchart LR"]
    for name, mode in MODES.items():
        plan = mode.plan(FlowConfig.model_validate({"mode": name, **SAMPLE, **SAMPLES.get(name, {})}))
        keys = ", ".join(f"`{key}`" for key in sorted(mode.keys))
        rows.append(f"| {name} | {mode.summary} | {keys} | `{shape(plan)}` |")
        drawn.append(f'    {name}(["{name}"]) --> {name}0["{_label(plan)}"]')
        drawn += _arrows(plan, f"{name}0")
    return "\n".join([*rows, "", *drawn, "```", ""])


def shape(plan: Node) -> str:
    """Return a plan as nested words, e.g. `Seq(Par(a, b), Seq(c, d))`."""
    return f"{_label(plan)}({', '.join(map(shape, children(plan)))})" if children(plan) else _label(plan)


def _label(node: Node) -> str:
    return str(getattr(node, "agent", None) or type(node).__name__)


def _arrows(node: Node, name: str) -> Iterator[str]:
    for index, child in enumerate(children(node)):
        yield f'    {name} --> {name}_{index}["{_label(child)}"]'
        yield from _arrows(child, f"{name}_{index}")


def layers_part(_before: str) -> str:
    """Return the layers as import-linter keeps them, from high to low."""
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return "\n".join(["```text", *layers, "```", ""])


def diagram_part(before: str) -> str:
    """Return the diagram of the nearest TOML block above."""
    block = re.findall(r"```toml\n(.*?)```", before, re.DOTALL)[-1]
    mapping = tomllib.loads(block)
    mapping.setdefault("agent_flow", {}).setdefault("name", "main")  # else the title is the current folder's name
    plan, found = app.load(mapping, environ={}).check()
    if plan is None:
        raise SystemExit("\n".join(one.render() for one in found))
    return f"```mermaid\n{mermaid(plan)}```\n"


PARTS: dict[str, Callable[[str], str]] = {"modes": modes_part, "layers": layers_part, "diagram": diagram_part}


# ---------------------------------------------------------------- whole pages


def cli_page() -> str:
    """Return the reference of the command line: the help of each command."""
    parts = ["# Command line", "", "Written from the commands' own help by `make docs`; edits here are lost.", ""]
    for name in ("", *COMMANDS):
        parts += [f"## agentflow {name}".rstrip(), "", "```text", _help_of(name).strip(), "```", ""]
    parts += [
        "## Exit codes",
        "",
        "| code | meaning |",
        "|---|---|",
        "| 0 | done; also when a run completed only in part, unless `--strict` |",
        "| 1 | a run failed or was cancelled |",
        "| 2 | a mistake in the configuration or in the command |",
        "| 5 | timed out: a run's own limit, or `--timeout` |",
        "| 130, 143 | ended by SIGINT (Ctrl-C), by SIGTERM |",
        "",
        "Codes 3 (waits for approval) and 4 (budget spent) are kept for runs that do not exist yet. Of several runs the highest",
        "code counts.",
    ]
    return "\n".join(parts) + "\n"


def _help_of(name: str) -> str:
    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = run_command([*name.split(), "--help"])
    if code:
        raise SystemExit(f"agentflow {name} --help ended with {code}")
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines())


def errors_page() -> str:
    """Return the reference of the codes."""
    known = explanations()
    parts = ["# Codes", "", "Written from the explanations by `make docs`; edits here are lost. `agentflow explain CODE` prints the same."]
    parts += ["", "| code | |", "|---|---|", *(f"| [{code}](#{code.lower()}) | {entry['title']} |" for code, entry in known.items())]
    for code, entry in known.items():
        parts += ["", f"## {code}", "", f"**{entry['title']}.** {entry['meaning']}", "", f"What to do: {entry['cure']}"]
        if "example" in entry:
            parts += ["", "```text", entry["example"].strip("\n"), "```"]
    return "\n".join(parts) + "\n"


def api_page() -> str:
    """Return the reference of the Python API: every public name, from its docstring."""
    parts = ["# Python API", "", "Written from the docstrings by `make docs`; edits here are lost.", ""]
    parts += ["```python", "from agentflow import (", *(f"    {name}," for name in agentflow.__all__), ")", "```"]
    for name in agentflow.__all__:
        parts += _entry(name, getattr(agentflow, name))
    parts += ["", "## agentflow.testing", "", *_text(inspect.getdoc(agentflow.testing) or "")]
    for name in agentflow.testing.__all__:
        parts += _entry(f"testing.{name}", getattr(agentflow.testing, name))
    return "\n".join(parts) + "\n"


def _entry(title: str, thing: Any) -> Iterator[str]:
    name = title.rpartition(".")[2]
    yield from ("", f"## {title}", "")
    if not inspect.isclass(thing):
        yield from (_signature(name, thing), "", *_text(inspect.getdoc(thing) or ""))
        return
    if not issubclass(thing, (Enum, BaseException)) and (_is_own_init(thing) or hasattr(thing, "__dataclass_fields__")):
        yield from (_signature(name, thing), "")
    yield from _text(inspect.getdoc(thing) or "")
    if issubclass(thing, Enum):
        yield from ("", ", ".join(f"`{name}.{member.name}`" for member in thing))
    for part in (thing, RecordedRuns) if issubclass(thing, RecordedRuns) else (thing,):  # what a runner does with a journal is its own
        for member, value in vars(part).items():
            yield from _member(name, member, value)


def _member(owner: str, member: str, value: Any) -> Iterator[str]:
    function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
    if member.startswith("_") or (owner, member) in INNER:
        return
    if isinstance(value, property):
        yield from ("", f"### {owner}.{member}", "", *_text(inspect.getdoc(value) or ""))
    elif isinstance(function, FunctionType):
        yield from ("", f"### {owner}.{member}", "", _signature(member, function), "", *_text(inspect.getdoc(function) or ""))


# Public for the engine's sake; a user has no need of them.
INNER = {
    ("Event", "view"),
    ("Event", "view_in"),
    ("Event", "view_with"),
    ("Event", "first_route"),
    ("Event", "fields"),
    ("Event", "is_touched"),
    ("State", "over"),
    ("State", "patch_to"),
    ("VirtualLoop", "time"),
    ("VirtualLoop", "shutdown_default_executor"),
}
_OWN_MAKERS = {"Runner", "Context", "RunHandle", "RunResult"}  # handed out, not made by a user


def _is_own_init(thing: type) -> bool:
    return "__init__" in vars(thing) and thing.__name__ not in _OWN_MAKERS


class _Bare:
    """An annotation that is shown as it was written, without quotes."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    told = [
        parameter.replace(annotation=_Bare(str(parameter.annotation)))
        for parameter in signature.parameters.values()
        if parameter.name not in {"self", "cls"}
    ]
    is_told = signature.return_annotation not in {inspect.Signature.empty, "None", None}
    returned = _Bare(str(signature.return_annotation)) if is_told else inspect.Signature.empty
    is_async = "async " if inspect.iscoroutinefunction(function) else ""
    return f"```python\n{is_async}{name}{signature.replace(parameters=told, return_annotation=returned)}\n```"


def _text(docstring: str) -> Iterator[str]:
    """Yield a docstring as Markdown: code that is indented becomes a block, and its sections become lists."""
    is_code = False
    for number, paragraph in enumerate(docstring.split("\n\n")):
        lines = paragraph.split("\n")
        was_code, is_code = is_code, all(line.startswith("    ") for line in lines)
        if was_code and not is_code:
            yield "```"
        if number:
            yield ""
        if is_code:
            if not was_code:
                yield "```python"
            elif not lines[0].startswith("     "):
                yield ""  # two blank lines before what stands at the top, as the formatter wants it
            yield from (line[4:] for line in lines)
        elif _SECTION.fullmatch(lines[0]):
            yield from _list(lines)
        else:
            yield from lines
    if is_code:
        yield "```"


def _list(lines: list[str]) -> Iterator[str]:
    yield f"{lines[0]}"
    yield ""
    for line in lines[1:]:
        entry = _ENTRY.fullmatch(line.strip())
        if line.startswith("        "):
            yield f"  {line.strip()}"
        elif entry:
            yield f"- {', '.join(f'`{name.strip()}`' for name in entry[1].split(','))}: {entry[2]}"
        else:
            yield f"- {line.strip()}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
