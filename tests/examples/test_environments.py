"""One mode for each environment over the same handlers, chosen by one variable."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CONFIGS = Path(__file__).parents[2] / "configs"
ENVIRONMENTS = [
    pytest.param("development", ["analyzer"], id="development: route"),
    pytest.param("staging", ["analyzer", "validator"], id="staging: collaborative"),
    pytest.param("production", ["analyzer", "validator", "enricher", "synthesizer", "formatter", "publisher"], id="production: mixed"),
]


@pytest.mark.parametrize(("environment", "agents"), ENVIRONMENTS)
def test_environment_picks_the_file(run_cli: Callable[..., Any], tmp_path: Path, environment: str, agents: list[str]) -> None:
    """`agentflow run configs` runs configs/$ENVIRONMENT.toml; the mode decides which of the same agents run."""
    options = ["--target", "analyzer", "--set", f"report={tmp_path / 'report.md'}"]
    outcome = run_cli("configs", *options, environment={"ENVIRONMENT": environment})
    assert (outcome.code, outcome.result["status"]) == (0, "completed"), outcome.stderr
    assert list(outcome.result["outputs"]) == agents


def test_development_is_the_default(run_cli: Callable[..., Any]) -> None:
    """Without ENVIRONMENT the development file is run."""
    outcome = run_cli("configs", "--target", "validator")
    assert list(outcome.result["outputs"]) == ["validator"]


def test_unknown_environment_names_those_there_are(run_cli: Callable[..., Any]) -> None:
    """An environment without a file is a usage error that lists the files."""
    outcome = run_cli("configs", environment={"ENVIRONMENT": "produktion"})
    assert outcome.code == 2
    assert "produktion" in outcome.stderr
    assert "production" in outcome.stderr


@pytest.mark.parametrize(("environment", "agents"), ENVIRONMENTS)
def test_files_hold_only_what_differs(environment: str, agents: list[str]) -> None:
    """Each file extends base.toml and says nothing but its [orchestration]; the shared agents stand in base.toml."""
    table = tomllib.loads((CONFIGS / f"{environment}.toml").read_text(encoding="utf-8"))
    base = tomllib.loads((CONFIGS / "base.toml").read_text(encoding="utf-8"))
    assert set(table) == {"extends", "orchestration"}
    assert table["extends"] == "base.toml"
    assert set(agents) <= set(base["agents"])


def test_python_program_chooses_by_the_same_variable(run_python: Callable[..., Any]) -> None:
    """The example's program builds the runner of $ENVIRONMENT."""
    outcome = run_python("examples/environments/main.py", environment={"ENVIRONMENT": "staging"})
    assert outcome.stdout == "staging: completed, agents: analyzer, validator\n", outcome.stderr


def test_environment_may_stand_in_the_dotenv_file(agentflow: Callable[..., Any], tmp_path: Path) -> None:
    """A folder's .env picks the configuration too; the process's own variable wins over it."""
    for name in ("development", "staging"):
        (tmp_path / f"{name}.toml").write_text(f'[agent_flow]\nname = "{name}"\n[agents.a]\n')
    (tmp_path / ".env").write_text("ENVIRONMENT=staging\n")
    assert '"staging"' in agentflow("config", "show", str(tmp_path), "--json").stdout
    assert '"development"' in agentflow("config", "show", str(tmp_path), "--json", environment={"ENVIRONMENT": "development"}).stdout
