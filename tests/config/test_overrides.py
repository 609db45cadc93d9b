"""Values set by variables of the environment, by `.env`, and from the command line."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agentflow.config import Draft, read

TEXT = '[orchestration]\nmode = "route"\n[flows.Quick-Look]\n[agents.analyzer]\n[agents.my__agent]\n[agents."a.b"]\n'


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("AGENTFLOW__ORCHESTRATION__MODE", "loop", lambda config: config.orchestration.mode == "loop"),
        ("agentflow__orchestration__mode", "loop", lambda config: config.orchestration.mode == "loop"),
        ("AGENTFLOW__ORCHESTRATION__MODE", "5", lambda config: config.orchestration.mode == "5"),
        ("AGENTFLOW__ORCHESTRATION__MAX_HOPS", "5", lambda config: config.orchestration.max_hops == 5),
        ("AGENTFLOW__ORCHESTRATION__TIMEOUT_SECONDS", "1.5", lambda config: config.orchestration.timeout_seconds == 1.5),
        ("AGENTFLOW__ORCHESTRATION__SEQUENTIAL_AGENTS", '["a", "b"]', lambda config: config.orchestration.sequential_agents == ["a", "b"]),
        ("AGENTFLOW__ORCHESTRATION__RETRY__MAX_RETRIES", "2", lambda config: config.orchestration.retry.max_retries == 2),
        ("AGENTFLOW__ORCHESTRATION__RETRY", "{ max_retries = 2 }", lambda config: config.orchestration.retry.max_retries == 2),
        ("AGENTFLOW__ORCHESTRATION__MERGE", "strict", lambda config: config.orchestration.merge == "strict"),
        ("AGENTFLOW__ORCHESTRATION__MERGE__SCORE", "max", lambda config: config.orchestration.merge == {"score": "max"}),
        ("AGENTFLOW__FLOWS__QUICK_LOOK__MAX_HOPS", "2", lambda config: config.flows["Quick-Look"].max_hops == 2),
        ("AGENTFLOW__AGENTS__ANALYZER__ENABLED", "false", lambda config: config.agents["analyzer"].enabled is False),
        ("AGENTFLOW__AGENTS__MY__AGENT__ROLE", "x", lambda config: config.agents["my__agent"].role == "x"),
        ("AGENTFLOW__AGENTS__A_B__ROLE", "${HOME}", lambda config: config.agents["a.b"].role == "${HOME}"),
        ("AGENTFLOW__LLM", '{ provider = "ollama", model = "m" }', lambda config: config.llm.model == "m"),
    ],
)
def test_a_variable_sets_a_key(draft: Callable[..., Draft], name: str, value: str, expected: Callable[[object], bool]) -> None:
    """`__` goes between levels, letters may be of either case; values are TOML where the key is not a string."""
    checked = draft(TEXT, environ={name: value})
    assert checked.diagnostics == []
    assert expected(checked.config)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("AGENTFLOW__ORCHESTRATION__MOD", "did you mean `AGENTFLOW__ORCHESTRATION__MODE`?"),
        ("AGENTFLOW__ORCHESTRATON__MODE", "did you mean `AGENTFLOW__ORCHESTRATION__MODE`?"),
        ("AGENTFLOW__AGENTS__ANALYSER__ROLE", "did you mean `AGENTFLOW__AGENTS__ANALYZER__ROLE`?"),
        ("AGENTFLOW__ORCHESTRATION__MODE__X", "`orchestration.mode` is a string and has no keys"),
        ("AGENTFLOW__ORCHESTRATION__SWITCH__0__WHEN", "`orchestration.switch` is an array of tables and has no keys"),
        ("AGENTFLOW__LOGGING__ZZZ", "known here: level, format, file"),
        (
            "AGENTFLOW__",
            "known here: agent_flow, orchestration, flows, agents, journal, limits, logging, telemetry, llm, runner",
        ),
    ],
)
def test_a_variable_that_names_no_key_is_told(draft: Callable[..., Draft], name: str, hint: str) -> None:
    """A misspelt variable is AF0113, with the variable as its place; it is never ignored."""
    (diagnostic,) = draft(TEXT, environ={name: "x"}).diagnostics
    assert ("AF0113", f"environment: {name}", hint) == (diagnostic.code, str(diagnostic.place), diagnostic.help)
    assert (diagnostic.file, diagnostic.line) == ("environment", None)
    assert diagnostic.render() == f"error[AF0113]: unknown setting `{name}`\n  --> environment: {name}\n   = help: {hint}"


def test_without_agents_a_variable_cannot_name_one(told: Callable[..., list[object]]) -> None:
    """A variable sets keys of agents that the file has; it makes none."""
    assert [("AF0113", "environment: AGENTFLOW__AGENTS__A__ROLE", "there is none")] == told("", environ={"AGENTFLOW__AGENTS__A__ROLE": "x"})


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("AGENTFLOW__ORCHESTRATION__MAX_HOPS", "many", "AF0103"),
        ("AGENTFLOW__ORCHESTRATION__MAX_HOPS", "0", "AF0104"),
        ("AGENTFLOW__ORCHESTRATION__MAX_HOPS", "1\nmax_iterations = 0", "AF0103"),
        ("AGENTFLOW__ORCHESTRATION__SEQUENTIAL_AGENTS", '["a", 5]', "AF0103"),
        ("AGENTFLOW__MEMORY__URL", "x", "AF0106"),
        ("AGENTFLOW__ORCHESTRATION__KEEP", "1", "AF0106"),
        ("AGENTFLOW__LOGGING__FILE", "\udcff", "AF0113"),
        ("AGENTFLOW__ORCHESTRATION__OPTIONS", "9" * 30, "AF0113"),
    ],
)
def test_a_wrong_value_is_told_at_its_variable(draft: Callable[..., Draft], name: str, value: str, code: str) -> None:
    """The variable is the place."""
    (diagnostic,) = draft(TEXT, environ={name: value}).diagnostics
    assert (code, f"environment: {name}") == (diagnostic.code, str(diagnostic.place))


def test_the_command_line_sets_keys_by_dotted_key(draft: Callable[..., Draft]) -> None:
    """Text is read as TOML where the key is not a string; other values are taken as they are."""
    values: Mapping[str, object] = {
        "orchestration.mode": "loop",
        "orchestration.max_iterations": "7",
        "orchestration.sequential_agents": ["a"],
        'agents."a.b".enabled': False,
    }
    checked = draft(TEXT, overrides=values)
    assert checked.diagnostics == []
    assert checked.config is not None
    flow = checked.config.orchestration
    assert ("loop", 7, ["a"]) == (flow.mode, flow.max_iterations, flow.sequential_agents)
    assert checked.config.agents["a.b"].enabled is False


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("orchestration.mod", "did you mean `orchestration.mode`?"),
        ("agents.analyser.role", "did you mean `agents.analyzer.role`?"),
        (
            "no key",
            "known here: agent_flow, orchestration, flows, agents, journal, limits, logging, telemetry, llm, runner",
        ),
    ],
)
def test_a_dotted_key_that_is_unknown_is_told(told: Callable[..., list[object]], name: str, hint: str) -> None:
    """A misspelt key of the command line is AF0113 too."""
    assert [("AF0113", f"command line: {name}", hint)] == told(TEXT, overrides={name: "x"})


def test_later_layers_win(draft: Callable[..., Draft], folder: Path) -> None:
    """Command line, then environment, then `.env`, then the file, then its base, then defaults."""
    (folder / "base.toml").write_text("[runner]\n" + "".join(f"{key} = 1\n" for key in KEYS[:5]), encoding="utf-8")
    text = 'extends = "base.toml"\n[runner]\n' + "".join(f"{key} = 2\n" for key in KEYS[:4])
    (folder / ".env").write_text("".join(f"AGENTFLOW__RUNNER__{key.upper()}=3\n" for key in KEYS[:3]), encoding="utf-8")
    environ = {f"AGENTFLOW__RUNNER__{key.upper()}": "4" for key in KEYS[:2]}
    checked = draft(text, environ=environ, overrides={f"runner.{KEYS[0]}": 5})
    assert checked.config is not None
    assert [5, 4, 3, 2, 1] == [getattr(checked.config.runner, key) for key in KEYS]
    assert ["command line", "environment", ".env", "file", "base file"] == [checked.origins[f"runner.{key}"].kind for key in KEYS]
    assert [
        f"runner.{KEYS[0]}",
        f"AGENTFLOW__RUNNER__{KEYS[1].upper()}",
        ".env:3",
        "agentflow.toml:6",
        "base.toml:6",
    ] == [str(checked.origins[f"runner.{key}"]) for key in KEYS]


KEYS = ("queue_size", "max_running", "queue_wait_seconds", "cancel_grace_seconds", "drain_timeout_seconds")


def test_a_mapping_takes_overrides_too() -> None:
    """The environment and dotted keys stand over a mapping as over a file."""
    checked = read({"logging": {"level": "info"}}, environ={"AGENTFLOW__LOGGING__LEVEL": "debug"}, overrides={"logging.format": "json"})
    assert checked.config is not None
    assert ("debug", "json") == (checked.config.logging.level, checked.config.logging.format)


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without *environ* the variables of the process count."""
    monkeypatch.setenv("AGENTFLOW__LOGGING__LEVEL", "debug")
    config = read({}).config
    assert config is not None
    assert config.logging.level == "debug"


@pytest.mark.parametrize("start", ["AGENTFLOW__A", "AGENTFLOW__ORCHESTRATION__OPTIONS", "AGENTFLOW__AGENTS"])
def test_a_name_of_very_many_parts_is_refused_at_once(draft: Callable[..., Draft], start: str) -> None:
    """Deeper than any key goes is AF0113 without a search; what is shown of the name is short."""
    begun = time.process_time()
    (diagnostic,) = draft(TEXT, environ={start + "__A" * 20_000: "1"}).diagnostics
    assert time.process_time() - begun < 1
    assert (diagnostic.code, diagnostic.help[:9]) == ("AF0113", "it has 20")
    assert "keys nest at most 64 levels deep" in diagnostic.help
    assert len(diagnostic.render()) < 400


def test_a_dotted_key_of_very_many_parts_is_refused(draft: Callable[..., Draft]) -> None:
    """The command line has the same bound."""
    (diagnostic,) = draft(TEXT, overrides={"orchestration.options" + ".a" * 20_000: 1}).diagnostics
    assert (diagnostic.code, "64 levels" in diagnostic.help) == ("AF0113", True)


@pytest.mark.parametrize(("name", "count"), [("{}", 0), ("x{}y", 5000)])
def test_very_many_variables_over_very_many_agents_take_no_time(draft: Callable[..., Draft], name: str, count: int) -> None:
    """Each name is looked up, not searched for, and only the first unknown ones are compared with what there is."""
    agents = "[agents]\n" + "".join(f"a{n} = {{}}\n" for n in range(15_000))
    environ = {f"AGENTFLOW__AGENTS__{name.format(f'A{n}')}__ROLE": "r" for n in range(5000)}
    begun = time.process_time()
    checked = draft(agents, environ=environ)
    assert time.process_time() - begun < 5
    assert [one.code for one in checked.diagnostics] == ["AF0113"] * count
    assert checked.config is not None
    assert sum(agent.role == "r" for agent in checked.config.agents.values()) == 5000 - count


def test_of_two_names_that_a_variable_may_mean_the_nearer_counts(draft: Callable[..., Draft]) -> None:
    """A name in another case goes before one with other signs; of equal ones the first counts."""
    config = draft('[agents."x.y"]\n[agents.x_y]\n[agents.X_Y]\n', environ={"AGENTFLOW__AGENTS__X_Y__ROLE": "r"}).config
    assert config is not None
    assert [agent.role for agent in config.agents.values()] == ["", "r", ""]
