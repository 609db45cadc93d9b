"""`validate`, `plan`, `visualize`, `agents`, `config show`, `explain` and `schema`: looking without running."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentflow
from agentflow.cli.explain import explanations

Call = Callable[..., Any]
PACKAGE = Path(agentflow.__file__).parent

BROKEN = """[orchestration]
mode = "sequential"
sequental_agents = ["a"]
timeout_seconds = "30"
sequential_agents = ["a", "colector"]

[agents.a]
[agents.collector]
"""


@pytest.fixture
def broken(project: Path) -> Path:
    """A file with three mistakes."""
    file = project / "broken.toml"
    file.write_text(BROKEN, encoding="utf-8")
    return file


def test_validate_reports_every_mistake_at_once(call: Call, broken: Path) -> None:
    """All mistakes are printed in one pass with code, place, line and help, and the exit code is 2."""
    outcome = call("validate", "broken.toml")
    assert outcome.code == 2
    assert ["AF0102", "AF0103", "AF0205"] == re.findall(r"^error\[(\w+)\]", outcome.out, re.MULTILINE)
    assert "broken.toml:3:1" in outcome.out
    assert outcome.out.endswith("3 errors, 0 warnings\n")


def test_validate_of_a_sound_file_exits_0(call: Call) -> None:
    """A file without mistakes is told so; warnings do not change the exit code."""
    assert call("validate").out == "0 errors, 0 warnings\n"
    outcome = call("validate", "--config-set", "orchestration.until=true")
    assert (outcome.code, "AF0290" in outcome.out) == (0, True)


def test_validate_prints_json_rows(call: Call, broken: Path) -> None:
    """`--format json` is an array of rows with the documented keys, over all files."""
    outcome = call("validate", "agentflow.toml", "broken.toml", "nowhere.toml", "--format", "json")
    rows = outcome.json
    assert outcome.code == 2
    assert [row["code"] for row in rows] == ["AF0102", "AF0103", "AF0205", "AF0107"]
    assert all(set(row) == {"code", "severity", "file", "line", "column", "message", "help"} for row in rows)
    assert (rows[0]["file"], rows[0]["line"], rows[0]["column"]) == ("broken.toml", 3, 1)


def test_validate_prints_annotations(call: Call, broken: Path) -> None:
    """`--format github` is one workflow command a mistake."""
    lines = call("validate", "broken.toml", "--format", "github").out.splitlines()
    assert lines[0].startswith("::error file=broken.toml,line=3,col=1,title=AF0102::")
    assert len(lines) == 3


def test_validate_imports_no_user_code_unless_asked(call: Call, project: Path) -> None:
    """Handlers are imported with `--handlers` only; then those that are missing or broken are mistakes too."""
    (project / "handlers.py").write_text("raise RuntimeError('imported')\n", encoding="utf-8")
    assert call("validate").code == 0
    outcome = call("validate", "--handlers", "--format", "json")
    assert (outcome.code, [row["code"] for row in outcome.json]) == (2, ["AF0403"])
    (project / "handlers.py").write_text("import sys\n", encoding="utf-8")


def test_validate_lists_agents_without_handlers(call: Call, project: Path) -> None:
    """`validate --handlers` names the agents that lack a handler, and passes when none does."""
    assert call("validate", "--handlers").code == 0
    config = (project / "agentflow.toml").read_text(encoding="utf-8")
    (project / "agentflow.toml").write_text(config + "[agents.forgotten]\n", encoding="utf-8")
    outcome = call("validate", "--handlers", "--format", "json")
    assert [row["code"] for row in outcome.json] == ["AF0402"]
    assert "forgotten" in outcome.json[0]["message"]
    assert "\n" not in outcome.json[0]["help"]
    text = call("validate", "--handlers").out
    assert re.search(r'^ +@agent\("forgotten"\)\n +async def forgotten\(event, state\):\n', text, re.MULTILINE)
    assert text.endswith("\n\n1 error, 0 warnings\n")


def test_registered_mode_is_known_with_handlers(call: Call, project: Path) -> None:
    """A mode registered in Python is unknown to a file read alone, and known with `--handlers`."""
    code = """
from agentflow.core.plan import Call, Seq


def register(runner):
    runner.register_mode("twice", lambda flow: Seq((Call("a"), Call("a"))))
    runner.register_agent("a", lambda event, state: {"n": state.get("n", 0) + 1})
"""
    (project / "modes.py").write_text(code, encoding="utf-8")
    text = '[agent_flow]\nentrypoint = "modes:register"\n[orchestration]\nmode = "twice"\n[agents.a]\n'
    (project / "twice.toml").write_text(text, encoding="utf-8")
    assert call("validate", "twice.toml").code == 2
    assert call("validate", "twice.toml", "--handlers").code == 0
    assert call("plan", "twice.toml", "--handlers", "--json").json["worst_case_calls"] == 2
    assert call("run", "twice.toml", "--json").json["state"]["data"] == {"n": 2}


@pytest.mark.parametrize("command", ["run", "plan", "visualize", "validate"])
def test_broken_file_is_refused_by_every_command(call: Call, broken: Path, command: str) -> None:
    """Every command that needs a plan refuses a file with mistakes, listing all of them."""
    outcome = call(command, "broken.toml")
    assert outcome.code == 2
    assert "3 errors, 0 warnings" in outcome.out + outcome.err


def test_plan_as_json(call: Call) -> None:
    """`plan --json` has the tree and the worst case, with `worst_case_calls` counting retries."""
    sets = ["orchestration.mode=sequential", 'orchestration.sequential_agents=["greeter", "waiter"]', "orchestration.retry_attempts=2"]
    row = call("plan", "--json", *(word for one in sets for word in ("--config-set", one))).json
    assert (row["name"], row["mode"], row["worst_case_calls"], row["worst_case_steps"]) == ("desk", "sequential", 6, 2)
    assert [step["agent"] for step in row["plan"]["steps"]] == ["greeter", "waiter"]
    assert row["worst_case_seconds"] == round(row["worst_case_seconds"], 3)


def test_plan_for_people_is_a_tree(call: Call) -> None:
    """`plan` prints the tree by indentation and the worst case below it."""
    outcome = call("plan")
    assert outcome.out.startswith("desk [route]: hand on, at most 32 times\n  the one that is routed to\n    greeter")
    assert "worst case: 33 calls" in outcome.out


def test_plan_of_a_flow_that_stands_in_many_places_is_printed_at_once(call: Call, project: Path) -> None:
    """Flows nested so that the whole tree has 10^12 nodes are shown once each; as JSON such a tree is refused."""
    names = [f"f{number}" for number in range(12)]
    text = f'[orchestration]\nmode = "sequential"\nsequential_agents = {json.dumps(["f0"] * 10)}\n[agents.a]\n'
    for name, below in zip(names, [*names[1:], "a"], strict=True):
        text += f'[flows.{name}]\nmode = "sequential"\nsequential_agents = {json.dumps([below] * 10)}\n'
    (project / "large.toml").write_text(text, encoding="utf-8")
    outcome = call("plan", "large.toml")
    assert "10,000,000,000,000 calls" in outcome.out
    assert "(as above)" in outcome.out
    assert call("plan", "large.toml", "--json").code == 2
    assert len(call("visualize", "large.toml").out.splitlines()) < 3000


def test_visualize_prints_or_writes_mermaid(call: Call, project: Path) -> None:
    """`visualize` prints a flowchart, or writes it: a .md file gets a block that shows it."""
    text = call("visualize").out
    assert text.startswith("flowchart TD\n")
    assert 'step0r1_0["greeter"]' in text
    assert call("visualize", "--output", "out/flow.mmd").out == ""
    assert (project / "out/flow.mmd").read_text(encoding="utf-8") == text
    call("visualize", "--output", "flow.md")
    assert (project / "flow.md").read_text(encoding="utf-8") == f"```mermaid\n{text}```\n"


def test_agents_are_listed_with_what_they_are(call: Call) -> None:
    """`agents --json` says of each what it is for, whether it is enabled, and whether the main flow reaches it."""
    sets = ["orchestration.mode=sequential", 'orchestration.sequential_agents=["greeter"]', "agents.waiter.enabled=false"]
    words = [word for one in sets for word in ("--config-set", one)]
    rows = {row["name"]: row for row in call("agents", "--json", *words).json}
    assert rows["greeter"] == {
        "name": "greeter",
        "role": "greeter",
        "description": "Says hello.",
        "capabilities": ["greeting"],
        "reads": None,
        "writes": None,
        "version": "",
        "handler": None,
        "enabled": True,
        "reached": True,
    }
    assert (rows["waiter"]["enabled"], rows["waiter"]["reached"]) == (False, False)
    text = call("agents", *words).out
    assert "greeter  (reached by the main flow)\n    role: greeter" in text
    assert "waiter  (disabled, not reached by the main flow)" in text
    assert "handler: not named in the file" in text


def test_agents_are_listed_with_what_they_declare(call: Call) -> None:
    """The keys of the state that each reads and may set; who declares that it sets none, and who declares nothing."""
    sets = ['agents.greeter.reads=["name", "mood"]', 'agents.greeter.writes=["greeting"]', "agents.waiter.writes=[]"]
    words = [word for one in sets for word in ("--config-set", one)]
    rows = {row["name"]: (row["reads"], row["writes"]) for row in call("agents", "--json", *words).json}
    assert (rows["greeter"], rows["waiter"], rows["busy"]) == ((["name", "mood"], ["greeting"]), (None, []), (None, None))
    text = call("agents", *words).out
    assert "    reads: name, mood\n    writes: greeting\n" in text
    assert "    writes: nothing\n" in text
    assert text.count("writes:") == 2


def test_config_show_tells_where_values_come_from(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--origin` puts file and line, the variable, the flag, or `default` behind each value."""
    monkeypatch.setenv("AGENTFLOW__ORCHESTRATION__MAX_HOPS", "3")
    rows = call("config", "show", "--origin", "--json", "--config-set", "orchestration.max_iterations=7").json
    assert rows["orchestration.mode"] == {"value": "route", "origin": "agentflow.toml:7"}
    assert rows["orchestration.max_hops"] == {"value": 3, "origin": "AGENTFLOW__ORCHESTRATION__MAX_HOPS"}
    assert rows["orchestration.max_iterations"] == {"value": 7, "origin": "command line"}
    assert rows["orchestration.on_error"] == {"value": "stop", "origin": "default"}
    lines = call("config", "show", "--origin").out.splitlines()
    assert any(re.fullmatch(r'orchestration\.mode = "route" +# agentflow\.toml:7', line) for line in lines)


def test_config_show_of_a_broken_file_shows_what_there_is(call: Call, broken: Path) -> None:
    """The effective values are on stdout, the mistakes on stderr, and the exit code is 2."""
    outcome = call("config", "show", "broken.toml")
    assert outcome.code == 2
    assert 'orchestration.mode = "sequential"' in outcome.out
    assert "AF0102" in outcome.err


def test_schema_is_json_schema(call: Call) -> None:
    """`schema` prints the JSON Schema of the configuration."""
    schema = call("schema").json
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "orchestration" in schema["properties"]


def used_codes() -> set[str]:
    """Return every code in the package's source: AFdddd anywhere, and the `code` of every error class."""
    found: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"\bAF0\d{3}\b", text))
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found |= {
                    line.value.value
                    for line in node.body
                    if isinstance(line, ast.Assign)
                    and getattr(line.targets[0], "id", "") == "code"
                    and isinstance(line.value, ast.Constant)
                }
    return found


def test_every_code_is_explained_and_none_that_is_not_used() -> None:
    """Each code that the package can show has an explanation, with a title, a meaning and a cure."""
    known = explanations()
    assert used_codes() - known.keys() == set()
    assert known.keys() - used_codes() == set()
    assert [code for code, entry in known.items() if not {"title", "meaning", "cure"} <= entry.keys()] == []


@pytest.mark.parametrize("word", ["AF0102", "af0102", "[AF0102]", "timeout"])
def test_explain_tells_what_to_do(call: Call, word: str) -> None:
    """`explain` prints title, meaning and cure, however the code is written."""
    outcome = call("explain", word)
    assert outcome.code == 0
    assert "What to do: " in outcome.out


@pytest.mark.parametrize(
    ("word", "told"), [("AF0199", "did you mean"), ("102", "`AF0102`"), ("timeuot", "`timeout`"), ("x", "lists all codes")]
)
def test_explain_of_an_unknown_code_exits_2(call: Call, word: str, told: str) -> None:
    """An unknown code is an error that names the nearest, or how to list all."""
    outcome = call("explain", word)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err


def test_explain_alone_lists_all(call: Call) -> None:
    """Without a code every code is listed with its title."""
    assert len(call("explain").out.splitlines()) == len(explanations())


@pytest.mark.parametrize("words", [["version"], ["--version"], ["version", "--debug"]])
def test_version(call: Call, words: list[str]) -> None:
    """`version` and `--version` print the version and nothing else."""
    outcome = call(*words)
    assert outcome.code == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", outcome.out)


def test_unknown_command_exits_2(call: Call) -> None:
    """An unknown command is a usage error that names the nearest."""
    outcome = call("validat")
    assert outcome.code == 2
    assert "validate" in outcome.err
