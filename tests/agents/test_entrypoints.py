"""Entrypoints: which Python a configuration can name, where it is looked for, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow import ConfigError, Event, Runner
from agentflow.errors import EntrypointError, RegistrationError

HANDLERS = """
from agentflow import agent

async def answer(event, state):
    return {"by": "NAME"}

def register(runner):
    runner.register_agent("a", answer)

async def register_async(runner):
    pass

@agent("marked")
async def marked(event, state):
    return {"by": "mark of NAME"}

def _private(event, state):
    return None

number = 7
"""


@pytest.fixture(autouse=True)
def clean_imports() -> Iterator[None]:
    """Leave sys.path and the loaded modules as they were."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("agentflow_entry_") or name in ("beside", "handlers"):
            del sys.modules[name]


def _project(folder: Path, toml: str, name: str = "x", source: str = HANDLERS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "handlers.py").write_text(source.replace("NAME", name))
    file = folder / "agentflow.toml"
    file.write_text(toml)
    return file


def _runner(folder: Path, toml: str, **more: Any) -> Runner:
    return Runner.from_config(_project(folder, toml, **more), environ={})


async def _answer(runner: Runner, target: str = "a") -> Any:
    async with runner:
        result = await runner.run(Event(target))
    return result.state["by"]


REGISTER = '[agent_flow]\nentrypoint = "handlers:register"\n[agents.a]\n[agents.marked]\n'


async def test_register_function_and_marks(tmp_path: Path) -> None:
    """`module:function` is called with the runner, and functions of the module that are marked are found too."""
    assert "x" == await _answer(_runner(tmp_path, REGISTER))
    assert "mark of x" == await _answer(_runner(tmp_path, REGISTER), "marked")


async def test_module_alone(tmp_path: Path) -> None:
    """An entrypoint without a function gives its marked functions."""
    runner = _runner(tmp_path, '[agent_flow]\nentrypoint = "handlers"\n[agents.marked]\n')
    assert ("marked",) == runner.agents
    assert "mark of x" == await _answer(runner, "marked")


async def test_handler_of_an_agent(tmp_path: Path) -> None:
    """`handler = "module:function"` gives one agent its handler."""
    assert "x" == await _answer(_runner(tmp_path, '[agents.a]\nhandler = "handlers:answer"\n'))


async def test_two_folders_with_modules_of_one_name(tmp_path: Path) -> None:
    """Two configurations, each with a `handlers.py`, get their own in one process."""
    toml = '[agents.a]\nhandler = "handlers:answer"\n'
    first = _runner(tmp_path / "one", toml, name="one")
    second = _runner(tmp_path / "two", toml, name="two")
    assert ["one", "two", "one"] == [
        await _answer(first),
        await _answer(second),
        await _answer(_runner(tmp_path / "one", toml, name="one")),
    ]


async def test_module_may_import_what_is_beside_it(tmp_path: Path) -> None:
    """An entrypoint imports its own neighbours."""
    (tmp_path / "beside.py").write_text("NAME = 'neighbour'\n")
    source = "import beside\n\nasync def answer(event, state):\n    return {'by': beside.NAME}\n"
    file = _project(tmp_path, '[agents.a]\nhandler = "handlers:answer"\n')
    (tmp_path / "handlers.py").write_text(source)
    assert "neighbour" == await _answer(Runner.from_config(file, environ={}))


async def test_pythonpath_of_the_configuration(tmp_path: Path) -> None:
    """`runner.pythonpath` names further folders, relative to the file that says them."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "more.py").write_text("async def answer(event, state):\n    return {'by': 'more'}\n")
    toml = '[agents.a]\nhandler = "more:answer"\n[runner]\npythonpath = ["src"]\n'
    assert "more" == await _answer(_runner(tmp_path, toml))


async def test_package_beside_the_file(tmp_path: Path) -> None:
    """A package and its modules can be named with dots."""
    package = tmp_path / "team"
    package.mkdir()
    (package / "__init__.py").write_text("async def answer(event, state):\n    return {'by': 'package'}\n")
    (package / "inner.py").write_text("async def answer(event, state):\n    return {'by': 'inner'}\n")
    assert "package" == await _answer(_runner(tmp_path, '[agents.a]\nhandler = "team:answer"\n'))
    assert "inner" == await _answer(_runner(tmp_path, '[agents.a]\nhandler = "team.inner:answer"\n'))


def test_current_folder_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that stands only in the current folder is not found, even when Python's own path has it."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "lurking.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.chdir(here)
    for entry in ("", ".", str(here)):
        monkeypatch.syspath_prepend(entry)
    with pytest.raises(EntrypointError, match="no module `lurking`"):
        _runner(tmp_path / "project", '[agents.a]\nhandler = "lurking:answer"\n')


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("handlers:anser", "did you mean `answer`"),
        ("handlers:number", "is int, not a function"),
        ("handlers", "write handlers:function"),
        ("handler:answer", "did you mean `handlers`"),
        ("handlers:_private", "no private names"),
        ("_handlers:answer", "no private names"),
        ("handlers.py:answer", "no module `handlers.py`"),
        ("../handlers:answer", "is no module:function"),
        ("/etc/passwd", "is no module:function"),
        ("handlers:answer()", "is no module:function"),
        ("handlers:register.x", "is no module:function"),
        ("", "handler"),
    ],
)
def test_references_that_lead_nowhere(tmp_path: Path, reference: str, told: str) -> None:
    """A reference that is malformed, private, or names nothing is refused with the nearest that there is."""
    with pytest.raises((EntrypointError, ConfigError), match=re.escape(told)):
        _runner(tmp_path, f'[agents.a]\nhandler = "{reference}"\n')


def test_async_register_is_refused(tmp_path: Path) -> None:
    """An entrypoint registers at once; an async one is refused, without a coroutine left over."""
    with pytest.raises(EntrypointError, match="is async; def register"):
        _runner(tmp_path, '[agent_flow]\nentrypoint = "handlers:register_async"\n[agents.a]\n')


@pytest.mark.parametrize("source", ["raise ValueError('broken')", "import nothing_of_this_name", "def (", "raise SystemExit(3)"])
def test_module_that_cannot_be_imported(tmp_path: Path, source: str) -> None:
    """A module that fails while it is imported is told with its file and error, and is tried afresh the next time."""
    toml = '[agents.a]\nhandler = "handlers:answer"\n'
    for _ in range(2):
        with pytest.raises(EntrypointError, match=r"importing `handlers` from .*handlers\.py failed"):
            _runner(tmp_path, toml, source=source)
    assert ("a",) == _runner(tmp_path, toml).agents


def test_file_that_anybody_may_write_is_refused(tmp_path: Path) -> None:
    """A world-writable module is refused, with the command that cures it."""
    file = _project(tmp_path, '[agents.a]\nhandler = "handlers:answer"\n')
    (tmp_path / "handlers.py").chmod(0o646)
    with pytest.raises(EntrypointError, match=r"can be written by anybody; chmod o-w .*handlers\.py"):
        Runner.from_config(file, environ={})


def test_file_that_a_group_may_write_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A group-writable module is loaded, with a warning."""
    file = _project(tmp_path, '[agents.a]\nhandler = "handlers:answer"\n')
    (tmp_path / "handlers.py").chmod(0o664)
    assert ("a",) == Runner.from_config(file, environ={}).agents
    assert "can be written by its group" in capsys.readouterr().err


def test_handler_and_registration_for_one_agent(tmp_path: Path) -> None:
    """`handler =` and `register_agent` for one agent are refused."""
    with pytest.raises(RegistrationError, match="agent `a` has a handler already"):
        _runner(tmp_path, '[agent_flow]\nentrypoint = "handlers:register"\n[agents.a]\nhandler = "handlers:answer"\n')


def test_marks_need_a_name() -> None:
    """`@agent` without its name is refused where it stands."""
    from agentflow import agent

    with pytest.raises(RegistrationError, match=r'write @agent\("name"\)'):

        @agent  # type: ignore[arg-type]
        def handler(event: Any, state: Any) -> None: ...


async def test_merge_function_of_the_project(tmp_path: Path) -> None:
    """A merge policy may name a function beside the file."""
    source = """
def longest(before, values):
    return max(values, key=len)

async def short(event, state):
    return {"by": "x"}

async def long(event, state):
    return {"by": "xxx"}
"""
    toml = (
        '[orchestration]\nmode = "collaborative"\nmerge = { by = "handlers:longest" }\n'
        '[agents.long]\nhandler = "handlers:long"\n[agents.short]\nhandler = "handlers:short"\n'
    )
    assert "xxx" == await _answer(_runner(tmp_path, toml, source=source))


async def test_projects_import_what_stands_beside_them(tmp_path: Path) -> None:
    """Two projects in one process whose handlers import modules of one name each get their own."""
    results = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "figures.py").write_text(f"X = {number}\n", encoding="utf-8")
        (folder / "handlers.py").write_text(
            "import figures\nfrom agentflow import agent\n\n@agent('a')\ndef a(event, state):\n    return {'x': figures.X}\n",
            encoding="utf-8",
        )
        (folder / "agentflow.toml").write_text('[agent_flow]\nentrypoint = "handlers"\n[agents.a]\n', encoding="utf-8")
        async with Runner.from_config(folder / "agentflow.toml", environ={}) as runner:
            results.append((await runner.run(Event("a"))).state["x"])
    assert [1, 2] == results


def test_entrypoint_that_raises_is_named(tmp_path: Path) -> None:
    """What a register function raises becomes an error that names the entrypoint."""
    (tmp_path / "agentflow.toml").write_text('[agent_flow]\nentrypoint = "json:loads"\n[agents.a]\n', encoding="utf-8")
    with pytest.raises(EntrypointError, match="entrypoint `json:loads` failed: TypeError"):
        Runner.from_config(tmp_path / "agentflow.toml", environ={})
