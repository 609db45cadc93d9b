"""The whole reading: nothing raises, everything ends in time, later checks find their places."""

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.config import Diagnostic, Draft, read, report
from agentflow.config.limits import LARGEST_FILE

FIRST_FILE = """\
[agent_flow]
name = "multi-agent-system"
version = "1.0.0"
[llm]
provider = "ollama"
model = "gemma3:1b"
temperature = 0.7
[orchestration]
mode = "collaborative" # route, collaborative, sequential, loop, mixed
timeout_seconds = 30 # Global timeout for orchestration
max_iterations = 5 # For loop mode
retry_attempts = 3 # Retry failed operations
collaborative_agents = ["analyzer", "validator", "processor"]
sequential_agents = ["collector", "transformer", "publisher"]
loop_agent = "quality_checker"
[agents.analyzer]
role = "data_analyzer"
system_prompt = "You analyze data for patterns and insights."
enabled = true
capabilities = ["analysis", "pattern_recognition"]
"""


def test_the_documents_own_first_file_is_read_whole(draft: Callable[..., Draft]) -> None:
    """The keys of three modes at once are no mistake of shape."""
    checked = draft(FIRST_FILE)
    assert checked.diagnostics == []
    assert checked.config is not None
    assert checked.config.llm is not None
    assert checked.config.orchestration.given == {
        "mode", "timeout_seconds", "max_iterations", "retry_attempts", "collaborative_agents", "sequential_agents", "loop_agent",
    }  # fmt: skip


def test_later_checks_find_their_places(draft: Callable[..., Draft]) -> None:
    """A path of the config leads to the text, through misspelt keys and items that were left out."""
    checked = draft('[orchestration]\nmode = "loop"\nsequental_agents = ["a", 5, "b"]\n[flows.x]\n')
    places = [
        (("orchestration", "sequential_agents", 1), "value", (3, 29)),
        (("orchestration", "mode"), "key", (2, 1)),
        (("orchestration", "mode"), "value", (2, 8)),
        (("flows", "x", "loop_agent"), "key", (4, 1)),
        (("flows", "x"), "key", (4, 8)),
        (("flows", "y"), "key", (4, 2)),
        ((), "key", (1, 1)),
    ]
    for path, on, place in places:
        (located,) = checked.locate([Diagnostic("AF0205", "x", path, on)])
        assert place == (located.line, located.column), path


def test_located_diagnostics_come_in_the_order_of_the_text(draft: Callable[..., Draft]) -> None:
    """Whatever order they were found in."""
    checked = draft('[orchestration]\nmode = "loop"\nuntil = "x"\n')
    found = [Diagnostic("AF0211", "b", ("orchestration", "until")), Diagnostic("AF0201", "a", ("orchestration", "mode"))]
    assert ["a", "b"] == [one.message for one in checked.locate(found)]


def test_a_value_told_before_is_not_told_again(draft: Callable[..., Draft]) -> None:
    """What stands in the config for a wrong value is a default: complaints about it would mislead."""
    checked = draft("[orchestration]\nsequential_agents = 5\nmode = mixed\n")
    assert ["AF0103", "AF0101"] == [one.code for one in checked.diagnostics]
    keys = ("sequential_agents", "mode", "until")
    found = [Diagnostic("AF0210", key, ("orchestration", key)) for key in keys]
    assert ["until"] == [one.message for one in checked.locate(found)]


@pytest.mark.parametrize("mode", ["mode = mixed", "mode = 5"])
def test_a_mode_that_could_not_be_read_has_no_follow_ups(draft: Callable[..., Draft], mode: str) -> None:
    """What the default mode lacks or leaves unused is not told of a flow whose own mode could not be read."""
    checked = draft(f'[orchestration]\nsequential_agents = ["x", "y"]\n[flows.x]\n{mode}\nuntil = "true"\n[flows.y]\n')
    of_x = [Diagnostic(code, code, ("flows", "x", "until"), "key") for code in ("AF0203", "AF0290", "AF0214", "AF0210")]
    of_y = [Diagnostic("AF0290", "y", ("flows", "y", "until"), "key")]
    uses = [Diagnostic("AF0212", f"use {number}", ("orchestration", "sequential_agents", number)) for number in (0, 1)]
    assert {"AF0210", "y", "use 1"} == {one.message for one in checked.locate([*of_x, *of_y, *uses])}


def test_a_mode_from_a_later_layer_stands_for_one_that_could_not_be_read(draft: Callable[..., Draft]) -> None:
    """Where a variable or the command line says the mode, what it leaves unused is told."""
    checked = draft("[orchestration]\nmode = mixed\nmax_hops = 3\n", overrides={"orchestration.mode": "loop"})
    found = [Diagnostic("AF0290", "unused", ("orchestration", "max_hops"), "key")]
    assert ["unused"] == [one.message for one in checked.locate(found)]


def test_a_table_the_environment_adds_to_is_located_in_the_file(draft: Callable[..., Draft]) -> None:
    """A missing key points at the header, also when a variable gives another key of the table."""
    checked = draft("\n[llm]\n", environ={"AGENTFLOW__LLM__MODEL": "m"})
    assert [("AF0105", 2)] == [(one.code, one.line) for one in checked.diagnostics]


def test_the_folder_is_that_of_the_file(folder: Path) -> None:
    """Of a mapping it is the current one."""
    (folder / "configs").mkdir()
    (folder / "configs" / "dev.toml").touch()
    checked = read("configs/dev.toml", environ={})
    assert (Path("configs/dev.toml"), Path("configs")) == (checked.path, checked.folder)
    mapped = read({}, environ={})
    assert (None, folder) == (mapped.path, mapped.folder)


HARD = {
    "dotted keys": ".".join("a" * 8_000) + " = 1",
    "long dotted lines": "".join(".".join("a" * 60) + f".b{number} = 1\n" for number in range(2_000)),
    "brackets": "a = " + "[" * 5_000,
    "tables": "".join(f"[{number}]\n" for number in range(40_000)),
    "one table again and again": "[a]\n" * 70_000,
    "arrays of tables": "[[orchestration.switch]]\n" * 11_000,
    "agents with unknown keys": "".join(f"[agents.a{number}]\nx=1\n" for number in range(13_000)),
    "numbers for names": "[orchestration]\nsequential_agents=[" + "1," * 130_000 + "]",
    "broken lines": "a\n" * 130_000,
    "broken headers": "[a\n" * 80_000,
    "secrets": "".join(f'secret{number} = "x"\n' for number in range(12_000)),
    "open secrets": 'secret="""' * 25_000,
    "open expressions": 'a="' + "${A:-" * 50_000 + '"',
    "escapes": 'a="' + "\\n" * 130_000 + '"',
    "a long number": "a=" + "9" * 260_000,
    "carriage returns": "a=1\r" * 65_000,
    "quotes": '"' * LARGEST_FILE,
    "marks": "a" + "\u0301" * 120_000 + "=1",
    "a late mistake": "[a.b]\n" + "".join(f"a{number}=1\n" for number in range(25_000)) + "a1=2\n" * 9,
    "look-alikes": "m\u043ede=1\n" * 28_000,
    "blank": "\n" * LARGEST_FILE,
}


@pytest.mark.parametrize("name", HARD)
def test_a_hard_text_is_read_in_time(draft: Callable[..., Draft], name: str) -> None:
    """A text of up to 256 KB gives a draft within two seconds of CPU, whatever stands in it."""
    content = HARD[name].encode()[:LARGEST_FILE]
    gc.collect()
    gc.freeze()  # the objects of the other tests are not this text's doing
    before = time.process_time()
    checked = draft(content, environ={"A": "x"})
    report(checked.diagnostics)
    taken = time.process_time() - before
    gc.unfreeze()
    assert taken < (2 if sys.gettrace() is None else 20)  # a tracer takes its own time
    assert checked.diagnostics or name == "blank"


def shown(checked: Draft) -> None:
    """Check that all that a draft tells can be shown."""
    text = report(checked.diagnostics)
    text.encode()
    assert text.replace("\n", "").isprintable() or any(mark in text for mark in "\u0300\u0301")
    for diagnostic in checked.diagnostics:
        assert diagnostic.message
        assert diagnostic.to_dict()["code"] == diagnostic.code
        assert "\n" not in diagnostic.annotation()
    assert all(row.key for row in checked.settings)


some_files = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=2_000)


@some_files
@given(st.binary(max_size=300))
def test_any_bytes_give_a_draft(draft: Callable[..., Draft], content: bytes) -> None:
    """Reading never raises."""
    shown(draft(content))


SEED = FIRST_FILE + "\n[[orchestration.switch]]\nwhen = '${A:-b}'\nuse = \"x\"\n[flows.x]\nretry = { jitter = true }\n"
PIECES = [
    "[", "]", "[[", "{", "}", "=", ".", ",", '"', "'", '"""', "\n", "\r", "\0", "#", "${", "$${", "\u043e", "\u202e", "\ufeff", "\\",
    "nan", "1e999", "true", "5", "[orchestration]\n", "api_key = 'x'\n", "extends = 'agentflow.toml'\n", "[agents]\n", "mode", "::",
]  # fmt: skip
edits = st.lists(st.tuples(st.integers(0, len(SEED)), st.integers(0, 20), st.sampled_from(["", *PIECES])), min_size=1, max_size=6)


@some_files
@given(edits)
def test_any_edit_of_a_good_file_gives_a_draft(draft: Callable[..., Draft], edits: list[tuple[int, int, str]]) -> None:
    """Reading never raises, and what it tells can be shown."""
    text = SEED
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    shown(draft(text))


keys = st.one_of(
    st.sampled_from(["orchestration", "agents", "flows", "llm", "mode", "retry", "switch", "a"]), st.text(max_size=3), st.integers()
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=2), st.sampled_from([(), set(), object()])
)
trees = st.recursive(leaves, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)), max_leaves=12)


@settings(max_examples=60)
@given(st.dictionaries(keys, trees, max_size=4))
def test_any_mapping_gives_a_draft(mapping: dict[Any, Any]) -> None:
    """Values of any Python type are told, not raised."""
    shown(read(mapping, environ={}))


def test_a_configuration_that_cannot_be_made_whole_is_never_refused_without_a_word(tmp_path: Path) -> None:
    """Where the loader gives up on a file, at least what it met last is told, with its place."""
    headers = "".join(f'[[orchestration.branches{".then" * depth}]]\nwhen = "true"\n' for depth in range(12))
    file = tmp_path / "agentflow.toml"
    file.write_text(f'[orchestration]\nmode = "decision_tree"\n{headers}[agents.a]\n')
    draft = read(file, environ={})
    assert [(one.code, one.line is not None) for one in draft.diagnostics] == [("AF0105", True)]
