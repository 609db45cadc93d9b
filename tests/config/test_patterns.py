"""The tables of the patterns: their shapes, and what is told where one is wrong. What they mean: tests/modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agentflow.config.load import Draft, read
from agentflow.config.model import Config, FlowConfig
from agentflow.config.shape import shape_at

EDGES = "[[orchestration.edges]]\n"
STEPS = "[[orchestration.steps]]\n"
BRANCHES = "[[orchestration.branches]]\n"


@pytest.mark.parametrize(
    ("text", "code", "place", "message", "advice"),
    [
        (STEPS + "id = 'x'", "AF0105", "1:1", "missing key `agent` in [orchestration.steps]", "add agent = ..."),
        (STEPS + "agent = 'a'\nid = 'x y'", "AF0104", "3:6", "`id` = `x y` is not a valid name", "letters A-Z"),
        (STEPS + "agent = 'a'\ninputs = 1", "AF0102", "3:1", "unknown key `inputs`", "did you mean `input`?"),
        (STEPS + "agent = 'a'\nphase = 'reduse'", "AF0104", "3:9", "`phase` must be one of map, reduce", "did you mean `reduce`?"),
        (STEPS + "agent = 'a'\nmax_retries = 101", "AF0104", "3:15", "`max_retries` must be at most 100, not 101", ""),
        (STEPS + "agent = 'a'\ndepends_on = 'b'", "AF0103", "3:14", "`depends_on` must be an array of strings", 'write ["b"]'),
        (STEPS + "agent = 'a'\non_error = 'route:b'", "AF0104", "3:12", "none of the two things a step can do", "is for a flow as a whole"),
        (STEPS + "agent = 'a'\ninput = { at = 2026-01-01 }", "AF0104", "3:9", "no form in JSON", "write a date as a string"),
        (EDGES + "from = 'a'", "AF0105", "1:1", "missing key `to` in [orchestration.edges]", "add to = ..."),
        (EDGES + "from = 'a'\nto = 5", "AF0103", "3:6", "`to` must be a string, not an integer", "put it in quotes"),
        (EDGES + "form = 'a'\nto = 'b'", "AF0102", "2:1", "unknown key `form`", "did you mean `from`?"),
        (EDGES + "from = 'a'\nto = 'b'\nweight = 2", "AF0102", "4:1", "unknown key `weight`", "known: from, to, when"),
        (
            "[[orchestration.nodes]]\nname = 'a'\non_error = 'go'",
            "AF0104",
            "3:12",
            "none of the three things a node",
            '"route:" and the name',
        ),
        (BRANCHES + "when = 'true'", "AF0105", "1:1", "missing key `then` in [orchestration.branches]", ""),
        (BRANCHES + "when = 'true'\nthen = 5", "AF0103", "3:8", "`then` must be a string, a table or an array of tables", ""),
        (BRANCHES + "when = 'true'\nthen = 'a'\nelse = { when = 'true', thn = 'b' }", "AF0102", "4:25", "unknown key `thn`", "`then`"),
        (
            BRANCHES + "when = 'true'\nthen = [{ when = 'true', then = { when = 5, then = 'a' } }]",
            "AF0103",
            "3:42",
            "`when` must be a str",
            "",
        ),
        ("[orchestration]\nworkers = 5", "AF0103", "2:11", "`workers` must be a string or an array of strings", ""),
        ("[orchestration]\nmax_rounds = 0", "AF0104", "2:14", "`max_rounds` must be at least 1, not 0", ""),
        ("[orchestration]\nmax_depth = 17", "AF0104", "2:13", "`max_depth` must be at most 16, not 17", ""),
        ("[orchestration]\nmap_failures = 'ignore'", "AF0104", "2:16", "`map_failures` must be one of fail, skip", ""),
        ("[orchestration]\naggregate = 'best:'", "AF0104", "2:13", "is no way to make one answer of many", '"best:" and a key'),
        ("[orchestration]\ndepends_on = ['a']", "AF0102", "2:1", "unknown key `depends_on`", "it belongs in [[orchestration.steps]]"),
        ("[orchestration]\nmax_visit = 3", "AF0102", "2:1", "unknown key `max_visit`", "did you mean `max_visits`?"),
        ("[agents.a]\nbackground = 'yes'", "AF0103", "2:14", "`background` must be true or false", "write true"),
        ("[agents.a]\nwrites = 'x'", "AF0103", "2:10", "`writes` must be an array of strings", 'write ["x"]'),
        ("[agents.a]\noutput_schema = 5", "AF0103", "2:17", "`output_schema` must be a string or a table", ""),
    ],
)
def test_a_wrong_table_is_told_with_its_place(
    draft: Callable[..., Draft], text: str, code: str, place: str, message: str, advice: str
) -> None:
    """Each mistake of shape in a pattern's keys has a code, its line and column, and what to write."""
    (one,) = draft(text).diagnostics
    assert (code, f"{one.line}:{one.column}") == (one.code, place), one.render()
    assert message in one.message
    assert advice in one.help


def test_tables_have_the_documents_keys() -> None:
    """Keys that are words of Python are read, and told as given, by their names in the file."""
    flow = FlowConfig.model_validate(
        {"edges": [{"from": "a", "to": "b"}], "branches": [{"when": "x", "then": "a", "else": [{"when": "y", "then": "b"}]}]}
    )
    assert (flow.edges[0].source, flow.edges[0].target, flow.edges[0].given) == ("a", "b", {"from", "to"})
    assert flow.branches[0].given == {"when", "then", "else"}
    way = flow.branches[0].otherwise
    assert isinstance(way, list)
    assert way[0].then == "b"


def test_settings_are_told_by_the_keys_of_the_file() -> None:
    """`config show` prints the keys as a file has them."""
    draft = read({"orchestration": {"edges": [{"from": "a", "to": "b"}], "steps": [{"agent": "a", "input": {"x": [1]}}]}}, environ={})
    settings = {one.key: one.value for one in draft.settings}
    assert settings["orchestration.edges[0].from"] == "a"
    assert settings["orchestration.edges[0].to"] == "b"
    assert settings["orchestration.steps[0].input.x"] == [1]


def test_a_variable_sets_a_key_of_a_pattern() -> None:
    """Bounds and names of patterns are set from the environment like any key."""
    environ = {"AGENTFLOW__ORCHESTRATION__MAX_ROUNDS": "3", "AGENTFLOW__ORCHESTRATION__AGENTS": '["a", "b"]'}
    draft = read({}, environ=environ)
    assert draft.diagnostics == []
    assert draft.config is not None
    assert (draft.config.orchestration.max_rounds, draft.config.orchestration.agents) == (3, ["a", "b"])


def test_variables_are_filled_into_inputs() -> None:
    """`${NAME}` in an input is filled in at load; `{{ ... }}` stays for the run."""
    draft = read({"orchestration": {"steps": [{"agent": "a", "input": "{{ state.x }} in ${LANGUAGE:-English}"}]}}, environ={})
    assert draft.config is not None
    assert draft.config.orchestration.steps[0].input == "{{ state.x }} in English"


def test_the_shape_of_questions_in_questions_is_known() -> None:
    """However deep questions are nested, the keys of the next one are known."""
    path: list[Any] = ["flows", "x", "branches", 0]
    for _ in range(20):
        path += ["then", 0, "else"]
    shape = shape_at((*path, "when"))
    assert shape is not None
    assert shape.kind == "text"


def test_agents_declare_nothing_unless_they_say_so() -> None:
    """Contracts of agents are open by default: any key may be read and set, and no event is taken."""
    agent = Config.model_validate({"agents": {"a": {}}}).agents["a"]
    assert (agent.reads, agent.writes, agent.output_schema, agent.subscribes, agent.background) == (None, None, None, None, False)
