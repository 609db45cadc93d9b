"""Contracts at load: where schemas are read, which are refused, and how they stand in a plan."""

from __future__ import annotations

import builtins
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import app
from agentflow.config.diagnostics import Diagnostic
from agentflow.core.plan import Call, Node, calls_of, walk_nodes

Check = Callable[..., tuple[Node | None, list[Diagnostic]]]
HEAD = '[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\n'


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Write files and check the configuration among them."""

    def checked(text: str, **files: str) -> tuple[Node | None, list[Diagnostic]]:
        for name, content in {"agentflow.toml": text, **{name.replace("__", "."): content for name, content in files.items()}}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content, encoding="utf-8")
        return app.load(tmp_path / "agentflow.toml", environ={}).check()

    return checked


def test_contracts_stand_in_the_plan_of_all_who_are_called(check: Check) -> None:
    """Of steps, of who stands in for them, undoes them and handles a failure; a flow that is named twice stays one."""
    plan, found = check(
        """
[orchestration]
mode = "collaborative"
collaborative_agents = ["left", "right"]
state_schema = { properties = { main = {} } }
[flows.left]
mode = "sequential"
sequential_agents = ["inner"]
on_error = "route:c"
[flows.right]
mode = "sequential"
sequential_agents = ["inner"]
[flows.inner]
mode = "sequential"
sequential_agents = ["a"]
state_schema = { properties = { inner = {} } }
[error_routing]
error_handler = "d"
[agents.a]
writes = ["a"]
fallback = ["b"]
compensate = "e"
[agents.b]
output_schema = { properties = { b = { type = "string" } } }
[agents.c]
writes = ["c"]
[agents.d]
writes = ["d"]
[agents.e]
writes = ["e"]
"""
    )
    assert found == []
    assert plan is not None
    contracts = {call.agent: call.contract for call in calls_of(plan)}
    assert {name: contract and contract.writes for name, contract in contracts.items()} == {
        "a": ("a",),
        "b": None,
        "c": ("c",),
        "d": ("d",),
        "e": ("e",),
    }
    assert contracts["b"].output.source == {"properties": {"b": {"type": "string"}}}  # type: ignore[union-attr]
    flows = [node for node in walk_nodes(plan) if not isinstance(node, Call) and node.flow is not None]
    schemas = {node.flow.name: node.flow.state_schema and dict(node.flow.state_schema.source) for node in flows}  # type: ignore[union-attr]
    assert schemas["inner"] == {"properties": {"inner": {}}}
    assert (schemas["left"], next(iter(schemas.values()))) == (None, {"properties": {"main": {}}})
    assert [node.flow.name for node in flows].count("inner") == 1  # type: ignore[union-attr]


def test_a_schema_file_stands_beside_the_file_that_names_it(tmp_path: Path) -> None:
    """Also where that is a base file in another folder."""
    (tmp_path / "base" / "schemas").mkdir(parents=True)
    (tmp_path / "base" / "schemas" / "state.json").write_text('{"properties": {"x": {}}}', encoding="utf-8")
    (tmp_path / "base" / "base.toml").write_text(f'{HEAD}state_schema = "schemas/state.json"\n[agents.a]\n', encoding="utf-8")
    (tmp_path / "agentflow.toml").write_text('extends = "base/base.toml"\n', encoding="utf-8")
    plan, found = app.load(tmp_path / "agentflow.toml", environ={}).check()
    assert found == []
    assert plan is not None
    assert not isinstance(plan, Call)
    assert plan.flow is not None
    assert plan.flow.state_schema is not None
    assert plan.flow.state_schema.source == {"properties": {"x": {}}}


FILE = f'{HEAD}state_schema = "state.json"\n[agents.a]\n'
MISTAKES: dict[str, tuple[str, dict[str, str], str, str, str]] = {
    "no file": (FILE, {}, "AF0250", "4:16", "state.json` cannot be read: no such file or directory"),
    "not JSON": (FILE, {"state__json": "{"}, "AF0250", "4:16", "holds no JSON object"),
    "a list": (FILE, {"state__json": "[]"}, "AF0250", "4:16", "holds no JSON object"),
    "NaN": (FILE, {"state__json": '{"maximum": NaN}'}, "AF0250", "4:16", "holds no JSON object"),
    "too large": (FILE, {"state__json": '{"title": "' + "x" * 300_000 + '"}'}, "AF0250", "4:16", "is larger than 256 KB"),
    "a folder": (FILE.replace("state.json", "."), {}, "AF0250", "4:16", "is no regular file"),
    "no schema": (FILE, {"state__json": '{"type": 3}'}, "AF0251", "4:16", "it is no JSON Schema: `.type`"),
    "remote": (FILE, {"state__json": '{"properties": {"x": {"$ref": "http://localhost/x"}}}'}, "AF0251", "4:16", "outside the schema"),
    "of all keys": (FILE, {"state__json": '{"allOf": [{"required": ["x"]}]}'}, "AF0251", "4:16", "`allOf` at the top of a state's schema"),
    "reference at the top": (FILE, {"state__json": '{"$ref": "#/$defs/x", "$defs": {"x": {}}}'}, "AF0251", "4:16", "`$ref` at the top"),
    "a text": (FILE, {"state__json": '{"type": "string"}'}, "AF0251", "4:16", "its type is string, and what it is for is an object"),
    "inline": (HEAD + '[agents.a]\noutput_schema = { type = "list" }\n', {}, "AF0251", "5:17", "it is no JSON Schema: `.type`"),
    "of an unused flow": (
        HEAD + '[agents.a]\n[flows.f]\nmode = "sequential"\nsequential_agents = ["a"]\nstate_schema = "x.json"\n',
        {},
        "AF0250",
        "8:16",
        "x.json` cannot be read",
    ),
    "default that is none": (
        HEAD + "[agents.a]\ndefault_output = { n = 1 }\noutput_schema = { required = ['m'] }\n",
        {},
        "AF0305",
        "5:18",
        "the answer of `a` does not fit its output_schema: `answer`: 'm' is a required property",
    ),
    "default that is not declared": (
        HEAD + "[agents.a]\ndefault_output = { nmu = 1 }\nwrites = ['num']\n",
        {},
        "AF0306",
        "5:18",
        "`a` set `state.nmu`, which the agent's `writes` does not name",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_schema_that_cannot_be_used_is_refused_with_its_place(case: str, check: Check) -> None:
    """Before anything runs, with a code and the place that names it."""
    text, files, code, place, told = MISTAKES[case]
    _, found = check(text, **files)
    assert [(one.code, f"{one.line}:{one.column}", one.severity) for one in found] == [(code, place, "error")]
    assert told in found[0].message
    assert found[0].help


def test_all_mistakes_are_told_in_one_pass(check: Check) -> None:
    """Those in schemas beside those in names."""
    _, found = check(FILE.replace('["a"]', '["a", "aa"]') + 'output_schema = "y.json"\n')
    assert [one.code for one in found] == ["AF0205", "AF0250", "AF0250"]


def test_without_the_extra_the_error_names_the_command(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only where a schema is given: all else goes without."""
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] in {"jsonschema", "referencing"}:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name.split(".")[0])
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.delitem(sys.modules, "agentflow.core.json_schema", raising=False)
    assert check(HEAD + "[agents.a]\nwrites = ['x']\n")[1] == []
    _, found = check(HEAD + "[agents.a]\noutput_schema = {}\n")
    assert [(one.code, one.help) for one in found] == [("AF0252", "pip install 'agentflow[schema]'")]
    assert "not installed: jsonschema" in found[0].message


def test_the_library_is_imported_only_for_a_schema() -> None:
    """A program without one does not pay for it."""
    code = """
import sys
from agentflow import app
table = {"orchestration": {"mode": "sequential", "sequential_agents": ["a"]}, "agents": {"a": {"writes": ["x"]}}}
app.load(table).check()
assert "jsonschema" not in sys.modules
table["agents"]["a"]["output_schema"] = {"type": "object"}
app.load(table).check()
assert "jsonschema" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
