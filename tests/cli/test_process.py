"""What only a process of its own shows: signals, streams, encodings, and that it always ends."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest

from tests.cli.conftest import environment

Call = Callable[..., Any]
SLOW = ["--target", "waiter", "--set", "seconds=30"]


def interrupted(project: Path, words: list[str], until: str, signals: list[signal.Signals], text: str = "") -> tuple[int, str, str, float]:
    """Start `agentflow run`, send it signals once stderr holds a text, and return how it ended and how long that took."""
    process = subprocess.Popen(
        [sys.executable, "-m", "agentflow", "run", *words],
        cwd=project,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        process.stdin.write(text)
        process.stdin.flush()
        seen = _read_until(process.stderr, until)
        begun = time.monotonic()
        for number, sent in enumerate(signals):
            if number:
                seen += _read_until(process.stderr, "stopping")
            process.send_signal(sent)
        process.wait(timeout=10)
        took = time.monotonic() - begun
        return process.returncode, process.stdout.read(), seen + process.stderr.read(), took
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def _read_until(stream: IO[str], text: str) -> str:
    seen = ""
    while text not in seen:
        line = stream.readline()
        assert line, f"ended before {text!r}: {seen}"
        seen += line
    return seen


def test_interrupting_once_waits_for_the_open_run(project: Path) -> None:
    """SIGINT once takes no more events, waits for the run that is open, prints its result and exits 130."""
    words = ["--target", "waiter", "--set", "seconds=0.3", "--json"]
    code, out, err, _ = interrupted(project, words, "accepted", [signal.SIGINT])
    assert (code, json.loads(out)["status"]) == (130, "completed")
    assert "waiting for 1 open run" in err


@pytest.mark.parametrize(("sent", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupting_twice_cancels(project: Path, sent: signal.Signals, expected: int) -> None:
    """A second signal cancels the open run; its result is printed, and the exit code tells the signal."""
    code, out, err, took = interrupted(project, [*SLOW, "--json"], "waiter  started", [sent, sent])
    assert (code, json.loads(out)["status"], json.loads(out)["reason"]) == (expected, "cancelled", "interrupted")
    assert "Traceback" not in err
    assert took < 2


def test_interrupting_twice_ends_within_seconds_whatever_a_handler_does(project: Path) -> None:
    """A handler that swallows its cancellation cannot hold up the second signal."""
    words = ["--target", "stubborn", "--config-set", "runner.cancel_grace_seconds=60"]
    code, _, err, took = interrupted(project, words, "accepted", [signal.SIGINT, signal.SIGINT])
    assert code == 130
    assert "left behind" in err
    assert took < 2.5


@pytest.mark.parametrize("target", ["busy", "sleepy"])
def test_interrupting_twice_ends_although_the_loop_is_held(project: Path, target: str) -> None:
    """An async handler that never gives the loop back cannot hold up the second signal; the third ends the process at once."""
    for sent, limit_s in ((2, 2.5), (3, 1)):
        process = subprocess.Popen(
            [sys.executable, "-m", "agentflow", "run", "--target", target],
            cwd=project,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            _read_until(process.stderr, f"{target}  started")
            begun = time.monotonic()
            for _ in range(sent):
                process.send_signal(signal.SIGINT)
                time.sleep(0.05)
            assert process.wait(timeout=10) == 130
            assert time.monotonic() - begun < limit_s
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


def test_interrupting_twice_prints_what_has_ended(project: Path) -> None:
    """Results of runs that ended, or were cancelled, are printed although a run before them does not end."""
    waiter = {"target": "waiter", "data": {"seconds": 30}, "id": "cancelled"}
    rows = [{"target": "stubborn"}, {"id": "done"}, waiter]
    (project / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["--event", "events.jsonl", "--config-set", "runner.cancel_grace_seconds=60", "--json"]
    code, out, err, _ = interrupted(project, words, "waiter  started", [signal.SIGINT, signal.SIGINT])
    assert code == 130
    assert [row["status"] for row in json.loads(out)] == ["completed", "cancelled"], err


@pytest.mark.parametrize("words", [("run", "--json"), ("version",), ("plan",)])
def test_closed_stdout_is_told_by_the_exit_code_alone(project: Path, words: tuple[str, ...]) -> None:
    """With stdout closed from the start nothing runs, nothing is said, and the exit code is 1."""
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "agentflow", *words]
    done = subprocess.run(command, cwd=project, env=environment(), stderr=subprocess.PIPE, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (1, b"")


def test_closed_stderr_does_not_matter(project: Path) -> None:
    """With stderr closed the result is printed as ever."""
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "agentflow", "run", "--json"]
    done = subprocess.run(command, cwd=project, env=environment(), stdout=subprocess.PIPE, timeout=20, check=False)
    assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "completed")


def test_interrupting_while_stdin_is_silent(project: Path) -> None:
    """Waiting for events that do not come, the command ends at the first signal."""
    code, out, _, took = interrupted(project, ["--event", "-", "--jsonl"], "  completed in", [signal.SIGINT], text="{}\n")
    assert (code, json.loads(out)["status"]) == (130, "completed")
    assert took < 2


def test_command_ends_although_a_thread_does_not(start: Call) -> None:
    """A thread that never ends is left behind: the result is printed and the process is gone."""
    begun = time.monotonic()
    outcome = start("run", "--target", "threaded", "--timeout", "0.1", "--json")
    assert (outcome.code, outcome.json["status"]) == (5, "timed_out")
    assert time.monotonic() - begun < 5


def test_reader_that_goes_away_ends_a_stubborn_handler_too(project: Path) -> None:
    """Nobody reading and a handler that never ends: the process is gone all the same, quietly and with exit 1."""
    (project / "events.jsonl").write_text('{}\n{"target": "threaded"}\n', encoding="utf-8")
    code, err = _without_reader(project)
    assert (code, err) == (1, b"")


def test_reader_that_goes_away_is_no_error(project: Path) -> None:
    """When the reader of stdout is gone the command stops and says nothing."""
    (project / "events.jsonl").write_text("{}\n" * 3000, encoding="utf-8")
    assert _without_reader(project) == (1, b"")


def _without_reader(project: Path) -> tuple[int, bytes]:
    """Run the project's events with a stdout that nobody reads; return the exit code and stderr."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "agentflow", "run", "--event", "events.jsonl", "--jsonl", "--quiet"]
    done = subprocess.run(command, cwd=project, env=environment(), stdout=write, stderr=subprocess.PIPE, timeout=20, check=False)
    os.close(write)
    return done.returncode, done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_output_that_cannot_be_written_is_a_line(project: Path) -> None:
    """A full disk is told in a line, with exit 1."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        command = [sys.executable, "-m", "agentflow", "version"]
        done = subprocess.run(command, cwd=project, env=environment(), stdout=full, stderr=subprocess.PIPE, timeout=20, check=False)
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_locale_breaks_the_output(start: Call, form: tuple[str, ...]) -> None:
    """In a locale that knows ASCII alone, arguments are read as UTF-8 and output is escaped, and JSON stays JSON."""
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    outcome = start("run", "--set", "name=é€\U0001f600", *form, **ascii_only)
    assert outcome.code == 0, outcome.err
    assert outcome.out.isascii()
    if form:
        assert outcome.json["state"]["data"]["name"] == "é€\U0001f600"


def test_arguments_that_are_no_text_are_refused(project: Path) -> None:
    """Bytes that are no UTF-8 in an argument are refused with their place; nothing crashes on printing them."""
    command = [sys.executable, "-m", "agentflow", "run", "--target", b"a\xffb"]
    done = subprocess.run(command, cwd=project, env=environment(), capture_output=True, timeout=20, check=False)
    assert done.returncode == 2
    assert b"event.target" in done.stderr
    assert b"Traceback" not in done.stderr


def test_person_at_a_terminal_sees_a_tree(project: Path) -> None:
    """On a terminal stderr shows the steps as a tree, stdout the result alone."""
    main, side = pty.openpty()
    command = [sys.executable, "-m", "agentflow", "run", "--set", "name=Ada", "--json"]
    process = subprocess.Popen(command, cwd=project, env=environment(TERM="xterm", COLUMNS="100"), stdout=subprocess.PIPE, stderr=side)
    os.close(side)
    shown = b""
    try:
        while chunk := os.read(main, 4096):
            shown += chunk
    except OSError:  # Linux tells so that the other side is closed
        pass
    out, _ = process.communicate(timeout=10)
    os.close(main)
    assert json.loads(out)["status"] == "completed"
    text = shown.decode()
    assert "route" in text
    assert "✓" in text
    assert "greeter" in text


@pytest.mark.parametrize(("words", "limit_s"), [(["version"], 0.10), (["--help"], 0.15)])
def test_start_is_quick(project: Path, words: list[str], limit_s: float) -> None:
    """`version` costs at most 0.10 s of CPU and `--help` 0.15 s: the least of a few starts, without bytecode caches of ours."""
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "agentflow", *words], cwd=project, env=environment(), capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) <= limit_s


def test_help_imports_nothing_heavy(project: Path) -> None:
    """Reading the help imports none of pydantic, structlog, rich, asyncio and the CEL library."""
    heavy = "{'pydantic', 'structlog', 'rich', 'asyncio', 'cel'}"
    code = f"import sys; from agentflow.cli import main; main(['run', '--help']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
