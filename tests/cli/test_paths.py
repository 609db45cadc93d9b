"""Names that cannot be opened: each ends the command with exit 2, told what, where and what to do, and nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow import Runner, app
from agentflow.cli import events
from agentflow.config.diagnostics import ConfigError
from agentflow.logs import StructuredLog
from tests.cli.conftest import environment

Call = Callable[..., Any]

LONG = "x" * 5000
COMMANDS = ("run", "validate", "plan", "agents", "visualize", "config show")


def told(outcome: Any, code: str) -> str:
    """Return what a command said, once it is sure that it refused with this code, in few words and with a cure."""
    text: str = outcome.out + outcome.err
    assert outcome.code == 2
    assert f"error[{code}]" in text
    assert "help: " in text
    assert "Traceback" not in text
    return text


# --- the log file ---


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("folder", "it is a folder"),
        ("", "it is a folder"),
        ("pipe", "it is a device or a pipe"),
        ("/dev/null", "it is a device or a pipe"),
        ("missing/run.log", "mkdir -p missing"),
        ("handlers.py/run.log", "not a directory"),
        (LONG, "name too long"),
        ("loop", "symbolic links"),
    ],
)
def test_a_log_that_cannot_be_written_ends_the_command(call: Call, project: Path, file: str, why: str) -> None:
    """What is no file to append to is AF0119 before anything runs; a pipe is not waited for, and no folder is made."""
    (project / "folder").mkdir()
    os.mkfifo(project / "pipe")
    (project / "loop").symlink_to("loop")
    outcome = call("run", "--config-set", f"logging.file={file}")
    assert why in told(outcome, "AF0119")
    assert outcome.out == ""
    assert not (project / "missing").exists()


def test_the_place_of_a_bad_log_file_is_shown(call: Call, project: Path) -> None:
    """A NUL in the name is told at its line; `validate` does not open the log, but with the handlers."""
    file = project / "agentflow.toml"
    file.write_text(file.read_text(encoding="utf-8") + '[logging]\nfile = "a\\u0000b"\n', encoding="utf-8")
    assert "agentflow.toml:28:8" in told(call("run"), "AF0119")
    assert call("validate").code == 0
    assert "agentflow.toml:28:8" in told(call("validate", "--handlers"), "AF0119")


def test_a_folder_that_may_not_be_written_is_told(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal of the system is passed on in its words."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("agentflow.logs.os.open", refuse)
    assert "permission denied" in told(call("run", "--config-set", "logging.file=run.log"), "AF0119")


def test_a_pipe_that_takes_the_files_place_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was opened is looked at once more: it may have been replaced between looking and opening."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with pytest.raises(OSError, match="not a regular file"):
        StructuredLog(file=tmp_path / "pipe")
    os.close(reader)


async def test_from_python_it_is_a_config_error(tmp_path: Path) -> None:
    """`start` refuses, and what was not started need not be stopped."""
    runner = Runner.from_dict({"logging": {"file": str(tmp_path)}, "agents": {"a": {}}}, environ={})
    runner.register_agent("a", lambda event, state: None)
    with pytest.raises(ConfigError) as caught:
        await runner.start()
    assert [one.code for one in caught.value.diagnostics] == ["AF0119"]


# --- arguments ---


@pytest.mark.parametrize("command", COMMANDS)
def test_a_configuration_that_cannot_be_opened_exits_2(call: Call, project: Path, command: str) -> None:
    """Names too long or with a NUL, folders, pipes: each is refused by each command."""
    (project / "folder").mkdir()
    os.mkfifo(project / "pipe")
    words = command.split()
    told(call(*words, LONG), "AF0603")
    told(call(*words, f"{LONG}/agentflow.toml"), "AF0603")
    told(call(*words, "folder"), "AF0603")
    told(call(*words, "a\0b"), "AF0601")
    told(call(*words, "pipe"), "AF0107")
    (project / "folder/agentflow.toml").mkdir()
    told(call(*words, "folder"), "AF0107")


def test_an_environment_that_cannot_be_read_exits_2(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENVIRONMENT may be no file's name, and `.env` no text."""
    (project / "folder").mkdir()
    (project / "folder/.env").write_bytes(b"ENVIRONMENT=\xff")
    told(call("run", "folder"), "AF0603")
    monkeypatch.setenv("ENVIRONMENT", LONG)
    told(call("run", "folder"), "AF0603")


@pytest.mark.parametrize("name", [LONG, "folder", "handlers.py/x"])
def test_a_place_that_cannot_be_written_exits_2(call: Call, project: Path, name: str) -> None:
    """Diagrams and new projects say where they could not be written."""
    (project / "folder").mkdir()
    told(call("visualize", "-o", name), "AF0601")
    told(call("visualize", "-o", f"a\0{name}"), "AF0601")
    if name != "folder":
        told(call("create", "fresh", "--visualize-output", name), "AF0604")


@pytest.mark.parametrize("name", [LONG, "folder", "nowhere"])
def test_input_that_cannot_be_opened_exits_2(call: Call, project: Path, name: str) -> None:
    """Neither `--data @FILE` nor `--event FILE` fails with more than a short line."""
    (project / "folder").mkdir()
    assert len(told(call("run", "-q", "--data", f"@{name}"), "AF0601")) < 300
    assert len(told(call("run", "-q", "--event", name), "AF0602")) < 300


def test_a_current_folder_that_is_gone_is_no_crash(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named in full works without a current folder; the rest is refused."""
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for command in COMMANDS:
        words = command.split()
        assert call(*words, str(project)).code == 0
        told(call(*words), "AF0603")
        told(call(*words, "other.toml"), "AF0107")
    told(call("create", "fresh"), "AF0604")
    told(call("visualize", str(project), "-o", "fresh"), "AF0601")
    assert app.load({"agents": {"a": {}}}, environ={}).config.agent_flow.name == ""
    monkeypatch.chdir(project)


# --- how much is read ---


@pytest.mark.parametrize("words", [["--data", "@/dev/zero"], ["--event", "/dev/zero"], ["--event", "/dev/urandom"]])
def test_endless_input_ends(call: Call, words: list[str]) -> None:
    """No more than 16 MiB are read, which is said."""
    assert "longer than 16 MiB" in told(call("run", "-q", *words), "AF0601" if words[0] == "--data" else "AF0602")


def test_the_bound_of_what_is_read(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much as the bound is read; a byte more is refused, in one line or over many."""
    monkeypatch.setattr(events, "LONGEST", 64)
    for text, code in (("{}".ljust(64), 0), ("{}".ljust(65), 2)):
        (project / "data.json").write_text(text, encoding="utf-8")
        assert call("run", "-q", "--data", "@data.json").code == code
        assert call("run", "-q", "--event", "data.json").code == 2 * (len(text) >= 64)
        (project / "lines.json").write_text(text.replace("{}", "{\n}")[: len(text)], encoding="utf-8")
        assert call("run", "-q", "--event", "lines.json").code == 2 * (len(text) >= 65)


def test_data_comes_from_a_pipe(call: Call, project: Path) -> None:
    """A pipe that is named is read until its writer closes it."""
    pipe = project / "pipe"
    os.mkfifo(pipe)
    for words in (["--data", "@pipe"], ["--event", "pipe"]):
        text = '{"name": "Ada"}' if words[0] == "--data" else '{"data": {"name": "Ada"}}'
        writer = threading.Thread(target=pipe.write_text, args=(text,))
        writer.start()
        assert call("run", "-q", "--json", *words).json["state"]["data"]["greeting"] == "hello Ada"
        writer.join()


def test_data_that_is_not_utf8_is_told(call: Call, project: Path) -> None:
    """Bytes that are no text are refused as such."""
    (project / "data.json").write_bytes(b'{"a": "\xff"}')
    assert "is not UTF-8" in told(call("run", "--data", "@data.json"), "AF0601")


# --- much of everything ---


@pytest.mark.parametrize("mode", ["route", "collaborative", "sequential", "loop", "mixed"])
@pytest.mark.parametrize("command", ["validate", "plan"])
def test_very_many_agents_have_their_plan_soon(project: Path, mode: str, command: str) -> None:
    """13,000 agents in the lists of a mode and of a flow in it: a plan, and no more than a few seconds of the processor."""
    names = [f"{n:x}" for n in range(13_000)]
    listed = "[" + ",".join(f'"{name}"' for name in names[1:]) + "]"
    lists = {"collaborative": f"collaborative_agents={listed}", "sequential": f"sequential_agents={listed}"}
    lists |= {"mixed": f'collaborative_agents=["flow-"]\n{lists["sequential"]}', "loop": 'loop_agent="flow-"', "route": ""}
    nested = f"sequential_agents={listed}" if mode == "loop" else 'sequential_agents=["0"]'
    agents = "[agents]\n" + "".join(f"{name}={{}}\n" for name in names)
    text = f'[orchestration]\nmode="{mode}"\n{lists[mode]}\n[flows.flow-]\nmode="sequential"\n{nested}\n{agents}'
    file = project / "large.toml"
    file.write_text(text, encoding="utf-8")
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (6, 6)); from agentflow.cli import main; "
    limited = f"{limit}sys.exit(main({[command, str(file)]}))"
    done = subprocess.run(
        [sys.executable, "-c", limited], env=environment(), capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_a_plan_is_linked_once(call: Call, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a command asks, the flows are linked once; only functions to merge with take a second time."""
    linked: list[object] = []

    class Counted(app.Linker):
        def main(self, mode: str | None = None) -> Any:
            linked.append(mode)
            return super().main(mode)

    monkeypatch.setattr(app, "Linker", Counted)
    for words in (["run", "-q"], ["validate"], ["plan"], ["agents"], ["visualize"]):
        linked.clear()
        assert call(*words).code == 0
        assert linked == [None], words
    (project / "merging.py").write_text("def add(before, values): ...\n", encoding="utf-8")
    sets = ["orchestration.mode=collaborative", 'orchestration.collaborative_agents=["greeter"]', "orchestration.merge.a=merging:add"]
    linked.clear()
    assert call("run", "-q", *(word for one in sets for word in ("--config-set", one))).code == 0
    assert linked == [None, None]


def test_very_many_missing_handlers_are_counted(call: Call, project: Path) -> None:
    """The first hundred agents without a handler are named, the rest counted."""
    agents = "".join(f"[agents.a{n}]\n" for n in range(150))
    (project / "bare.toml").write_text(f'[orchestration]\nmode = "collaborative"\n{agents}', encoding="utf-8")
    assert "a98, a99 and 50 more" in told(call("run", "bare.toml"), "AF0402")
