"""`agentflow run`: what it takes, what it prints where, and how it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Call = Callable[..., Any]

COLLABORATIVE = (
    "--config-set",
    "orchestration.mode=collaborative",
    "--config-set",
    'orchestration.collaborative_agents=["greeter", "failing"]',
)


def test_result_alone_is_on_stdout(call: Call) -> None:
    """What a handler prints and the progress go to stderr; stdout holds the result and nothing else."""
    outcome = call("run", "--target", "printing", "--json")
    assert outcome.json["state"]["data"] == {"printed": True}
    assert "a handler prints" in outcome.err
    assert "printing  completed in" in outcome.err


def test_json_is_the_result_as_to_dict_says(call: Call) -> None:
    """`--json` prints one object with the keys of RunResult.to_dict, and nothing of agentflow's own."""
    outcome = call("run", "--json", "--set", "name=Ada")
    keys = {"run_id", "status", "reason", "flags", "state", "outputs", "error", "errors", "conflicts", "usage", "timing"}
    assert set(outcome.json) == keys
    assert (outcome.code, outcome.json["outputs"]) == (0, {"greeter": {"greeting": "hello Ada"}})


def test_person_reads_status_reason_and_state(call: Call) -> None:
    """Without `--json` stdout is a readable block: how it ended, why where that says more, and the state."""
    outcome = call("run", "--set", "name=Ada", "--meta", "origin=desk")
    first, *rest = outcome.out.splitlines()
    assert first.startswith("completed  1 call in")
    assert rest == ["state", '  name = "Ada"', '  greeting = "hello Ada"', "meta", '  origin = "desk"']


def test_failure_is_told_with_its_place_and_exits_1(call: Call) -> None:
    """A failed run exits 1, and its block says which agent failed where and why."""
    outcome = call("run", "--target", "failing")
    assert outcome.code == 1
    assert outcome.out.startswith("failed (error)")
    assert "error: failing at 0#1.2: ValueError: no way (handlers.py:" in outcome.out
    assert "Traceback" not in outcome.out + outcome.err


def test_failure_names_the_innermost_line_of_the_users_code(call: Call, project: Path) -> None:
    """The place is the last one outside the standard library; JSON has none, `--debug` shows the user's frames alone."""
    code = (project / "handlers.py").read_text(encoding="utf-8").splitlines()
    line = 1 + next(number for number, text in enumerate(code) if "json.loads" in text)
    outcome = call("run", "--target", "deep")
    assert f"(char 1) (handlers.py:{line} in inner)" in outcome.out
    assert "handlers.py" not in outcome.err
    outcome = call("run", "--target", "deep", "--json", "--debug")
    assert "handlers.py" not in outcome.out
    assert re.findall(r'File ".*?([a-z]+\.py)", line \d+, in (\w+)', outcome.err) == [("handlers.py", "fall"), ("handlers.py", "inner")]


def test_data_comes_from_json_file_and_sets(call: Call, project: Path) -> None:
    """`--data @FILE` is the data, `--set` changes it: dotted keys go inside, JSON is read as such and the rest is text."""
    (project / "data.json").write_text('{"deep": {"kept": 1}, "name": "x"}', encoding="utf-8")
    sets = ["--set", "deep.list=[1, 2]", "--set", "name=007 x", "--set", "flag=true", "--set", "a=b=c"]
    outcome = call("run", "--data", "@data.json", *sets, "--json")
    data = outcome.json["state"]["data"]
    assert data | {"greeting": ""} == {"deep": {"kept": 1, "list": [1, 2]}, "name": "007 x", "flag": True, "a": "b=c", "greeting": ""}


def test_set_that_looks_like_json_and_is_none_is_warned_of(call: Call) -> None:
    """A `--set` value that begins like JSON and is none is taken as text, with a warning."""
    outcome = call("run", "--set", 'a={"x":1', "--set", "b=plain", "--json")
    assert outcome.json["state"]["data"]["a"] == '{"x":1'
    assert "warning: --set a: taken as text, since it is not JSON" in outcome.err
    assert "--set b" not in outcome.err


def test_metadata_and_session_reach_the_run(call: Call) -> None:
    """`--meta` sets text by text and `route` in it goes before the target."""
    outcome = call("run", "--target", "failing", "--meta", "route=greeter", "--meta", "k=1", "--session", "s1", "--json")
    assert list(outcome.json["outputs"]) == ["greeter"]
    assert outcome.json["state"]["meta"] == {"k": "1"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data", "[1]"], "--data is no JSON object"),
        (["--data", "{nope"], "--data is not JSON"),
        (["--data", "{'a': 1}"], "JSON needs double quotes"),
        (["--data", "handlers.py"], "to read a file: --data @handlers.py"),
        (["--data", "x" * 5000], "--data is not JSON"),
        (["--handlers", "handlers:greet"], "`greet` is a handler\nhelp: name the module alone: handlers"),
        (["--handlers", "handlers:fall"], "`fall` is a handler\nhelp: name the module alone: handlers"),
        (["--data", '{"a": 1, "a": 2}'], "key 'a' is there twice"),
        (["--data", "@nowhere.json"], "'nowhere.json' cannot be read"),
        (["--set", "name"], "--set 'name' is not KEY=VALUE"),
        (["--set", "a=1", "--set", "a.b=2"], "`a` is a value and has no keys"),
        (["--meta", "=x"], "--meta '=x' is not KEY=VALUE"),
        (["--timeout", "0"], "--timeout 0 is no number of seconds above 0"),
        (["--timeout", "nan"], "--timeout nan"),
        (["--event", "events.jsonl", "--target", "x"], "--event says all about the events"),
        (["--event", "nowhere.jsonl"], "no such file"),
        (["--data", '{"n": NaN}'], "event.data.n is the float nan"),
        (["--data", '{"n": 1180591620717411303424}'], "event.data.n"),
        (["--meta", "orchestration_override=nope"], "names no flow or mode `nope`"),
        (["--handlers", "nowhere:register"], "no module `nowhere`"),
        (["--handlers", "handlers:regster"], "module `handlers` has no `regster`"),
        (["--config-set", "orchestration.mood=loop"], "did you mean `orchestration.mode`?"),
        (["--config-set", "orchestration.mode=looop"], "did you mean `loop`?"),
        (["--no-such-option"], "No such option"),
        (["nowhere.toml"], "AF0107"),
    ],
)
def test_usage_errors_exit_2_with_a_hint(call: Call, words: list[str], told: str) -> None:
    """Whatever is wrong with the call itself is told on stderr in a line or two, with exit 2 and no traceback."""
    outcome = call("run", *words)
    assert (outcome.code, outcome.out) == (2, "")
    assert told in outcome.err
    assert "Traceback" not in outcome.err


def test_unknown_target_names_those_there_are(call: Call) -> None:
    """A target that is no agent fails the run, and the error names the nearest one."""
    outcome = call("run", "--target", "greter", "--json")
    assert outcome.code == 1
    assert outcome.json["error"]["code"] == "AF0503"
    assert "did you mean `greeter`?" in outcome.json["error"]["message"]


def test_no_target_and_no_default_is_a_clear_error(call: Call, project: Path) -> None:
    """Without a target and without a default_agent the run fails, saying so."""
    text = (project / "agentflow.toml").read_text(encoding="utf-8").replace('default_agent = "greeter"', "")
    (project / "agentflow.toml").write_text(text, encoding="utf-8")
    outcome = call("run", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (1, "AF0503")
    told = "help: run with --target NAME (one of: greeter, waiter, "
    assert told in call("run").out
    assert "or set default_agent in [orchestration]\n" in call("run").out


def test_partial_warns_and_strict_makes_it_1(call: Call) -> None:
    """A run that completes in part exits 0 with a warning that names who failed; `--strict` makes that 1."""
    outcome = call("run", *COLLABORATIVE)
    assert outcome.code == 0
    assert outcome.out.startswith("partial")
    assert "warning: " in outcome.err
    assert "failed: failing" in outcome.err
    assert call("run", *COLLABORATIVE, "--strict").code == 1


def test_event_that_runs_out_of_time_exits_5(call: Call) -> None:
    """A run whose flow has a time limit and passes it exits 5."""
    words = ["--target", "waiter", "--set", "seconds=30", "--config-set", "orchestration.timeout_seconds=0.05", "--json"]
    outcome = call("run", *words)
    assert (outcome.code, outcome.json["status"]) == (5, "timed_out")


def test_timeout_cancels_and_exits_5(call: Call) -> None:
    """`--timeout` ends what runs as timed out, prints its result, and exits 5."""
    outcome = call("run", "--target", "waiter", "--set", "seconds=30", "--timeout", "0.1", "--json")
    assert (outcome.code, outcome.json["status"], outcome.json["reason"]) == (5, "timed_out", "timeout")
    assert "timeout: not done after 0.1 s" in outcome.err


def test_handlers_names_the_entrypoint(call: Call, project: Path) -> None:
    """`--handlers module:function` takes the place of the file's entrypoint."""
    code = "def register(runner):\n    @runner.agent('greeter')\n    async def other(event, state):\n        return {'by': 'other'}\n"
    (project / "others.py").write_text(code, encoding="utf-8")
    words = ["--config-set", "orchestration.mode=sequential", "--config-set", 'orchestration.sequential_agents=["greeter"]']
    outcome = call("run", "--handlers", "others:register", *words, "--json")
    assert outcome.json["outputs"] == {"greeter": {"by": "other"}}


def test_missing_handlers_are_listed_with_a_cure(call: Call, project: Path) -> None:
    """Agents without a handler are named, with the lines that would add one."""
    (project / "handlers.py").write_text("", encoding="utf-8")
    outcome = call("run")
    assert outcome.code == 2
    assert "error[AF0402]: no handler for agents greeter, waiter" in outcome.err
    assert '@agent("greeter")' in outcome.err


@pytest.mark.parametrize("body", ["raise ValueError('boom')", "raise SystemExit(0)", "1 / 0"])
def test_entrypoint_that_raises_is_a_line_not_a_traceback(call: Call, project: Path, body: str) -> None:
    """A register function may raise anything: it is an error with exit 2, and the command does not end as if all were well."""
    (project / "others.py").write_text(f"def register(runner):\n    {body}\n", encoding="utf-8")
    outcome = call("run", "--handlers", "others:register")
    assert outcome.code == 2
    assert "error[AF0403]: " in outcome.err
    assert "failed: " in outcome.err
    assert "Traceback" not in outcome.err


def test_debug_shows_the_traceback(call: Call, project: Path) -> None:
    """`--debug` adds the traceback, down to the user's line."""
    (project / "others.py").write_text("def register(runner):\n    raise ValueError('boom')\n", encoding="utf-8")
    outcome = call("run", "--handlers", "others:register", "--debug")
    assert "Traceback" in outcome.err
    assert "raise ValueError('boom')" in outcome.err


def test_precedence_of_flags_environment_dotenv_and_file(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--config-set` wins over the environment, that over `.env`, that over the file."""

    def mode() -> str:
        return call("config", "show", "--json").json["orchestration.mode"]

    assert mode() == "route"
    (project / ".env").write_text("AGENTFLOW__ORCHESTRATION__MODE=collaborative\n", encoding="utf-8")
    assert mode() == "collaborative"
    monkeypatch.setenv("AGENTFLOW__ORCHESTRATION__MODE", "route")
    assert mode() == "route"
    assert (
        call("config", "show", "--json", "--config-set", "orchestration.mode=collaborative").json["orchestration.mode"] == "collaborative"
    )


def test_warnings_of_the_configuration_go_to_stderr(call: Call, project: Path) -> None:
    """A warning is shown on stderr, but not that other modes use a key; `--quiet` shows neither warnings nor progress."""
    with (project / "agentflow.toml").open("a", encoding="utf-8") as file:
        file.write('\n[llm]\nprovider = "ollama"\nmodel = "x"\n')
    sets = ["--config-set", "orchestration.max_iterations=7"]
    loud = call("run", *sets)
    assert "warning[AF0190]" in loud.err
    assert "AF0290" not in loud.err
    assert call("run", *sets, "--quiet").err == ""


def test_what_comes_from_data_cannot_steer_the_terminal(call: Call) -> None:
    """Control and bidi characters in data, errors and names are printed as escapes, on both streams."""
    outcome = call("run", "--target", "failing", "--data", json.dumps({"text": "a\x1b[31m\u202eb\rc"}))
    for stream in (outcome.out, outcome.err):
        assert "\x1b" not in stream
        assert "\u202e" not in stream
        assert "\r" not in stream
    assert "\\x1b[31m\\u202eb" in outcome.out


def test_long_values_are_cut_for_people_only(call: Call) -> None:
    """A long value is cut in the readable block, which says so; `--json` prints all of it."""
    words = ["run", "--data", json.dumps({"text": "x" * 5000}), "-q"]
    assert "(5002 characters; --json prints all)" in call(*words).out
    assert len(call(*words, "--json").json["state"]["data"]["text"]) == 5000


def test_folder_stands_for_its_file(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands for its agentflow.toml, else for $ENVIRONMENT.toml, by default development.toml."""
    folder = project / "configs"
    folder.mkdir()
    for name in ("development", "production"):
        (folder / f"{name}.toml").write_text(f'[agent_flow]\nname = "{name}"\n[agents.a]\n', encoding="utf-8")

    def chosen() -> str:
        return call("config", "show", "configs", "--json").json["agent_flow.name"]

    assert chosen() == "development"
    monkeypatch.setenv("ENVIRONMENT", "production")
    assert chosen() == "production"
    monkeypatch.setenv("ENVIRONMENT", "produktion")
    outcome = call("run", "configs")
    assert (outcome.code, "did you mean `production`?" in outcome.err) == (2, True)
    (folder / "agentflow.toml").write_text('[agent_flow]\nname = "itself"\n[agents.a]\n', encoding="utf-8")
    assert chosen() == "itself"


def test_no_configuration_here_tells_how_to_make_one(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an agentflow.toml the error names `agentflow create`."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    outcome = call("run")
    assert outcome.code == 2
    assert "agentflow create" in outcome.err
