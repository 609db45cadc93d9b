"""The `.env` file beside the configuration."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.config import Draft

DOTENV = """\ufeff# deployment
export AGENTFLOW__LOGGING__LEVEL="debug"
ROLE='from ${NOWHERE}'

AGENTFLOW__RUNNER__QUEUE_SIZE=5  # few
"""


@pytest.fixture
def beside(folder: Path, draft: Callable[..., Draft]) -> Callable[..., Draft]:
    """Read a text beside a `.env` file."""

    def beside(dotenv: str | bytes, text: str = "", **layers: dict[str, str]) -> Draft:
        (folder / ".env").write_bytes(dotenv.encode() if isinstance(dotenv, str) else dotenv)
        return draft(text, **layers)

    return beside


def test_its_variables_set_keys_and_fill_values(beside: Callable[..., Draft]) -> None:
    """They serve both purposes, as written, with their line as origin."""
    checked = beside(DOTENV.replace("\n", "\r\n"), '[agents.a]\nrole = "${ROLE}"')
    assert checked.diagnostics == []
    assert checked.config is not None
    assert ("debug", 5) == (checked.config.logging.level, checked.config.runner.queue_size)
    assert checked.config.agents["a"].role == "from ${NOWHERE}"
    assert [".env:2", ".env:5"] == [str(checked.origins[key]) for key in ("logging.level", "runner.queue_size")]


def test_the_environment_wins_over_it(beside: Callable[..., Draft]) -> None:
    """For filling in, too."""
    checked = beside("A=low\n", '[agents.a]\nrole = "${A}"', environ={"A": "high"})
    assert checked.config is not None
    assert checked.config.agents["a"].role == "high"


def test_a_misspelt_variable_is_told_in_its_line(beside: Callable[..., Draft]) -> None:
    """The place is the file and line; the value is never shown."""
    (diagnostic,) = beside("A=1\nexport AGENTFLOW__LOGING__LEVEL=canary\n").diagnostics
    expected = """\
error[AF0113]: unknown setting `AGENTFLOW__LOGING__LEVEL`
  --> .env:2:8
   |
 2 | export AGENTFLOW__LOGING__LEVEL=***
   |        ^^^^^^^^^^^^^^^^^^^^^^^^ help: did you mean `AGENTFLOW__LOGGING__LEVEL`?"""
    assert expected == diagnostic.render()


def test_a_wrong_value_is_told_in_its_line(beside: Callable[..., Draft]) -> None:
    """The value's place is told, but not the value."""
    (diagnostic,) = beside("AGENTFLOW__RUNNER__QUEUE_SIZE=canary\n").diagnostics
    assert ("AF0103", ".env", 1, 31) == (diagnostic.code, diagnostic.file, diagnostic.line, diagnostic.column)
    assert "canary" not in diagnostic.render()


def test_a_line_that_cannot_be_read_is_told_but_not_shown(beside: Callable[..., Draft]) -> None:
    """It may be the rest of a secret; the other lines count."""
    checked = beside("\nA='canary\nAGENTFLOW__LOGGING__LEVEL=debug\n")
    (diagnostic,) = checked.diagnostics
    assert ("AF0101", ".env", 2, "put the value in quotes") == (diagnostic.code, diagnostic.file, diagnostic.line, diagnostic.help)
    assert "canary" not in diagnostic.render()
    assert checked.config is not None
    assert checked.config.logging.level == "debug"


def test_it_is_utf_8_too(beside: Callable[..., Draft]) -> None:
    """Bytes that are no text are told."""
    (diagnostic,) = beside(b"A=\xff\n").diagnostics
    assert ("AF0108", ".env:1:3") == (diagnostic.code, str(diagnostic.place))


def test_a_folder_of_that_name_is_no_matter(folder: Path, draft: Callable[..., Draft]) -> None:
    """Some call their virtual environment `.env`."""
    (folder / ".env").mkdir()
    assert draft("").diagnostics == []


def test_its_parser_is_loaded_only_where_there_is_one(folder: Path) -> None:
    """A project without `.env` does not pay for it; none pays for other optional parts."""
    (folder / "agentflow.toml").touch()
    code = (
        "import sys; from agentflow.config import read; read('agentflow.toml'); "
        "print(sorted({'dotenv', 'pydantic_settings', 'structlog', 'typer', 'cel', 'asyncio'} & set(sys.modules)))"
    )
    environ = {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert done.stdout.strip() == "[]"
