"""`agentflow create`: a project that runs at once."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import environment

Call = Callable[..., Any]

MODES = {
    "route": ["analyzer"],
    "collaborative": ["analyzer", "validator", "enricher"],
    "collaborate": ["analyzer", "validator", "enricher"],
    "sequential": ["collector", "transformer", "publisher"],
    "loop": ["improver"],
    "mixed": ["analyzer", "validator", "enricher", "synthesizer", "formatter", "publisher"],
}


@pytest.mark.parametrize("mode", MODES)
def test_new_project_of_each_mode_runs_at_once(call: Call, mode: str) -> None:
    """What `create` writes validates with its handlers, and runs to its end with agents of usual names."""
    assert call("create", "fresh", "--orchestration-mode", mode).code == 0
    checked = call("validate", "fresh", "--handlers")
    assert checked.code == 0, checked.out
    result = call("run", "fresh", "--json").json
    assert (result["status"], list(result["outputs"])) == ("completed", MODES[mode])


WORDS = ["route", "collaborative", "sequential", "loop", "mixed"]


@pytest.mark.parametrize("mode", WORDS)
def test_changing_the_one_word_is_enough(call: Call, project: Path, mode: str) -> None:
    """A new project of any mode runs in all five, and validates with nothing but warnings of keys not used."""
    assert call("create", "fresh", "--mode", mode).code == 0
    file = project / "fresh/agentflow.toml"
    text = file.read_text(encoding="utf-8")
    for word in WORDS:
        file.write_text(text.replace(f'mode = "{mode}"', f'mode = "{word}"'), encoding="utf-8")
        outcome = call("run", "fresh", "--json", "--set", "task=it")
        assert (outcome.code, outcome.json["status"]) == (0, "completed"), word
        assert outcome.json["outputs"], word
        checked = call("validate", "fresh", "--format", "json")
        assert (checked.code, {row["code"] for row in checked.json}) == (0, {"AF0290"}), word


def test_tests_of_a_new_project_pass(call: Call, project: Path) -> None:
    """The tests that `create` writes pass with pytest alone."""
    call("create", "fresh", "--collaborative-agents", "a-b,a.b,class", "--sequential-agents", "2nd,agent,State")
    assert _tested(project) == "1 passed"


def test_tests_of_a_new_project_pass_in_another_mode(call: Call, project: Path) -> None:
    """The tests that `create` writes hold when the mode is changed."""
    call("create", "fresh", "--mode", "sequential")
    file = project / "fresh/agentflow.toml"
    file.write_text(file.read_text(encoding="utf-8").replace('mode = "sequential"', 'mode = "loop"'), encoding="utf-8")
    assert _tested(project) == "1 passed"


def _tested(project: Path) -> str:
    """Run the tests of a new project, and return how many passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:asyncio"]
    done = subprocess.run(command, cwd=project / "fresh", env=environment(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1].partition(" in ")[0]


def test_defaults_of_the_documents_are_written_out(call: Call, project: Path) -> None:
    """Flags that are not given have the documents' defaults, as values in the file: 10, 60 s, 0.5 and 5."""
    call("create", "fresh")
    flow = tomllib.loads((project / "fresh/agentflow.toml").read_text(encoding="utf-8"))["orchestration"]
    figures = {"max_iterations": 10, "timeout_seconds": 60, "failure_threshold": 0.5, "max_concurrency": 5}
    assert {key: flow[key] for key in figures} == figures


def test_every_flag_of_the_documents_is_honoured(call: Call, project: Path) -> None:
    """Each flag's value stands in the file, and the diagram is where it was asked for."""
    words = ["--orchestration-mode", "mixed", "--collaborative-agents", "a, b", "--sequential-agents", "c", "--loop-agent", "d"]
    words += ["--max-iterations", "7", "--orchestration-timeout", "12.5", "--failure-threshold", "0.25", "--max-concurrency", "2"]
    outcome = call("create", "fresh", *words, "--visualize", "--visualize-output", "pictures")
    assert outcome.code == 0
    assert tomllib.loads((project / "fresh/agentflow.toml").read_text(encoding="utf-8"))["orchestration"] == {
        "mode": "mixed",
        "timeout_seconds": 12.5,
        "max_iterations": 7,
        "failure_threshold": 0.25,
        "max_concurrency": 2,
        "default_agent": "a",
        "collaborative_agents": ["a", "b"],
        "sequential_agents": ["c"],
        "loop_agent": "d",
    }
    assert (project / "pictures/fresh.mmd").read_text(encoding="utf-8").startswith("flowchart TD")
    assert "pictures/fresh.mmd" in outcome.out
    assert list(call("run", "fresh", "--json").json["outputs"]) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], "sequential"),
        (["--collaborative-agents", "a"], "collaborative"),
        (["--sequential-agents", "a"], "sequential"),
        (["--loop-agent", "a"], "loop"),
        (["--collaborative-agents", "a", "--sequential-agents", "b"], "mixed"),
    ],
)
def test_mode_follows_from_the_lists(call: Call, project: Path, words: list[str], mode: str) -> None:
    """Without `--orchestration-mode` the mode is the one the lists are for."""
    call("create", "fresh", *words)
    assert tomllib.loads((project / "fresh/agentflow.toml").read_text(encoding="utf-8"))["orchestration"]["mode"] == mode


def test_diagram_stands_in_the_project_by_default(call: Call, project: Path) -> None:
    """`--visualize` alone writes NAME/diagrams/NAME.mmd."""
    call("create", "fresh", "--visualize")
    assert (project / "fresh/diagrams/fresh.mmd").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["../outside"], "a project cannot be named"),
        (["a/b"], "a project cannot be named"),
        (["1st"], "a project cannot be named"),
        (["-x-"], "No such option"),
        ([""], "a project cannot be named"),
        (["fresh", "--sequential-agents", "a,,b"], "an agent cannot be named ''"),
        (["fresh", "--loop-agent", "a b"], "an agent cannot be named 'a b'"),
        (["fresh", "--collaborative-agents", "a,a"], "`a` is in the list twice"),
        (["fresh", "--max-iterations", "0"], "max_iterations"),
        (["fresh", "--failure-threshold", "1.5"], "failure_threshold"),
        (["fresh", "--failure-threshold", "nan"], "failure_threshold"),
        (["fresh", "--orchestration-timeout", "0"], "timeout_seconds"),
        (["fresh", "--orchestration-mode", "graph"], "--orchestration-mode"),
        (["fresh", "--max-concurrency", "many"], "--max-concurrency"),
    ],
)
def test_bad_flags_write_nothing(call: Call, project: Path, words: list[str], told: str) -> None:
    """Names and figures that cannot be used are refused with exit 2, before anything is written."""
    before = sorted(project.iterdir())
    outcome = call("create", *words)
    assert outcome.code == 2
    assert told in outcome.err
    assert sorted(project.iterdir()) == before


def test_folder_that_is_not_empty_is_refused(call: Call, project: Path) -> None:
    """Nothing that is there is written over; an empty folder is fine."""
    (project / "taken").mkdir()
    (project / "taken/mine.txt").write_text("mine", encoding="utf-8")
    outcome = call("create", "taken")
    assert outcome.code == 2
    assert "taken is there already and not empty" in outcome.err
    assert [path.name for path in (project / "taken").iterdir()] == ["mine.txt"]
    (project / "empty").mkdir()
    assert call("create", "empty").code == 0
