"""`isolation = "process"`: handlers that run elsewhere, answer as if they did not, and can be killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Runner, RunResult, agent
from agentflow.agents import isolation, process
from agentflow.errors import EntrypointError, RegistrationError

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))  # as a program that registers its handlers itself has their module
import isolated  # noqa: E402

sys.path.remove(str(HERE))

SEQUENCE = {"mode": "sequential", "sequential_agents": ["a"]}


def _runner(handler: str, isolation: str = "process", flow: Mapping[str, Any] = SEQUENCE, **table: Any) -> Runner:
    sections = {name: table.pop(name) for name in ("workers", "runner", "journal", "logging") if name in table}
    agents = {"a": {"handler": f"isolated:{handler}", "isolation": isolation, **table}}
    own = {"pythonpath": [str(HERE)], **sections.pop("runner", {})}
    return Runner.from_dict({"orchestration": dict(flow), "agents": agents, "runner": own, **sections}, environ={})


def _run(runner: Runner, *events: Event) -> list[RunResult]:
    async def main() -> list[RunResult]:
        async with runner:
            return [await runner.run(event) for event in events]

    return asyncio.run(main())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def _until(condition: Callable[[], bool], limit_s: float = 10.0) -> bool:
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


async def _exists(place: Path) -> None:
    while not place.exists():
        await asyncio.sleep(0.005)


# --- it answers as if it ran here ---

DATA = {"list": [1, 2], "drop": True, "same": {"x": [1]}}


@pytest.mark.parametrize("handler", ["answer", "answer_later", "answer_by_coroutine"])
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_an_answer_does_not_depend_on_where_the_handler_runs(handler: str, isolation: str) -> None:
    """Whatever a handler returns, sets, removes or raises, its run comes out the same in a task, a thread and a process."""
    events = [Event("", {**DATA, "kind": kind}, {"old": "o"}, id=kind.replace(" ", "-").replace(",", "")) for kind in isolated.KINDS]
    expected, found = (_run(_runner(handler, name), *events) for name in ("task", isolation))
    for kind, here, there in zip(isolated.KINDS, expected, found, strict=True):
        ours, theirs = here.to_dict(), there.to_dict()
        for told in (ours, theirs):
            del told["run_id"], told["timing"]
        assert ours == theirs, kind
        if here.error is not None and there.error is not None:
            assert set(here.error.kinds) == set(there.error.kinds), kind
            assert (here.error.category, here.error.severity) == (there.error.category, there.error.severity), kind


def test_errors_of_python_and_of_agentflow_keep_their_classes() -> None:
    """An exception from a process is an instance of those of its bases that this process knows, and has its traceback as a note."""
    (result,) = _run(_runner("answer"), Event("", {"kind": "derived"}))
    error = result.error.exception if result.error else None
    assert isinstance(error, ConnectionError)
    assert not isinstance(error, isolated.CodedError)
    assert "in process " in error.__notes__[0]
    assert "isolated.py" in error.__notes__[0]


# --- ctx ---


@pytest.mark.parametrize("isolation", ["task", "thread", "process"])
def test_peers_write_to_each_other_from_everywhere(isolation: str) -> None:
    """A message sent in a task, a thread or a process is delivered; one to nobody is refused where it is sent."""
    (result,) = _run(_runner("write", isolation, {"mode": "peer_to_peer", "agents": ["a"]}), Event("", {"x": 1}))
    told = {key: result.state.get(key) for key in ("body", "input", "refused")}
    assert ("quiet", {"body": {"said": 1}, "input": None, "refused": "RoutingError"}) == (result.reason, told)


@pytest.mark.parametrize("isolation", ["task", "thread", "process"])
def test_the_context_says_the_same_everywhere(isolation: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`ctx` tells of run, step, attempt, session, deadline, configuration and outputs; usage and log lines arrive."""
    runner = _runner("tell", isolation, {"mode": "sequential", "sequential_agents": ["a", "a"]}, role="teller")
    (result,) = _run(runner, Event("", session_id="s"))
    told = result.state["told"]
    assert (result.run_id, "0.1", "a", 1, "s") == tuple(told[key] for key in ("run_id", "position", "agent", "attempt", "session_id"))
    assert ("teller", isolation) == (told["config"]["role"], told["config"]["isolation"])
    assert 32 == len(told["idempotency_key"])
    assert "0.0" == told["outputs"]["a"]["told"]["position"]
    assert result.state["is_early"]
    assert (4, 0.5, 2) == (result.usage.total_tokens, result.usage.cost_usd, result.usage.calls)
    lines = [line for line in capsys.readouterr().err.splitlines() if "handler says" in line]
    assert 2 == len(lines)
    assert f"run_id={result.run_id}" in lines[0].replace("\x1b[0m", "")
    assert "a=1" in lines[0]


@pytest.mark.parametrize("isolation", ["task", "thread", "process"])
def test_a_handler_logs_at_each_level_from_anywhere(isolation: str, tmp_path: Path) -> None:
    """The lines of `ctx.log` stand in the runner's log, with level, bound fields, run and step; one of an exception has its traceback."""
    path = tmp_path / "log"
    (result,) = _run(_runner("log_all", isolation, logging={"level": "debug", "format": "json", "file": str(path)}), Event())
    lines = [line for line in map(json.loads, path.read_text().splitlines()) if line["event"].startswith("a line of")]
    assert ["debug", "info", "warning", "error", "critical", "error"] == [line["level"] for line in lines]
    assert all(("me", result.run_id, "0.0", "a") == (line["who"], line["run_id"], line["position"], line["agent"]) for line in lines)
    assert "ValueError: seen" in lines[-1]["exception"]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_once_is_done_once_for_all_attempts(isolation: str, tmp_path: Path) -> None:
    """What `ctx.once` does runs where the handler does, and its value is kept for the next attempt."""
    retry = {"max_retries": 1, "initial_delay_seconds": 0.001}
    (result,) = _run(_runner("do_once", isolation, retry=retry), Event("", {"place": str(tmp_path / "log")}))
    assert {"done": ["first", 2], "again": "first"} == {key: result.state[key] for key in ("done", "again")}
    assert "1" == (tmp_path / "log").read_text()


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_what_is_raised_within_once_comes_out_of_it(isolation: str) -> None:
    """An exception of the function that `ctx.once` calls reaches the handler as the very same object."""
    (result,) = _run(_runner("fail_once", isolation), Event())
    assert {"error": "within"} == dict(result.state)


@pytest.mark.parametrize("handler", ["emit", "emit_later"])
@pytest.mark.parametrize("isolation", ["task", "thread", "process"])
def test_events_are_emitted_from_anywhere(handler: str, isolation: str) -> None:
    """Once for all attempts, under the ids that the handler was told; bad ones, and one too many, are errors in the handler."""
    retry = {"max_retries": 1, "initial_delay_seconds": 0.001}
    agents = {"a": {"handler": f"isolated:{handler}", "isolation": isolation, "retry": retry}, "told": {}}
    config = {"orchestration": {"mode": "route", "max_events": 2}, "agents": agents, "runner": {"pythonpath": [str(HERE)]}}
    runner = Runner.from_dict(config, environ={})
    runner.register_agent("told", lambda event, state: {"told": [event.target, event.data, event.metadata, event.session_id]})

    async def main() -> tuple[RunResult, dict[str, RunResult]]:
        async with runner:
            handle = await runner.emit(Event("a"))
            return await handle.result(), await handle.tree()

    result, tree = asyncio.run(main())
    assert ["InvalidValueError", "InvalidEventError", "InvalidEventError", "AF0507"] == result.state["refused"]
    assert [result.run_id, *result.state["runs"]] == list(tree)
    assert [["told", {"n": n}, {"who": "me"}, "s"] for n in range(2)] == [child.state["told"] for child in list(tree.values())[1:]]


def test_nothing_goes_on_in_a_process_that_is_the_next_calls() -> None:
    """`ctx.background` says so there."""
    (result,) = _run(_runner("leave"), Event())
    assert {"error": "AF0501"} == dict(result.state)


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_checkpoint_can_be_asked_for_from_anywhere(isolation: str, tmp_path: Path) -> None:
    """`ctx.checkpoint` works with a journal, and says what is wrong without one."""
    (result,) = _run(_runner("ask_in_vain", isolation), Event())
    assert {"code": "AF0501"} == dict(result.state)
    (result,) = _run(_runner("checkpoint", isolation, journal={"url": f"sqlite:{tmp_path}/j.db"}), Event())
    assert {"checkpoint": result.run_id} == dict(result.state)


def test_wrong_usage_is_refused_where_it_is_recorded() -> None:
    """A usage that is none raises in the handler."""
    (result,) = _run(_runner("spend_wrongly"), Event())
    assert result.error is not None
    assert "AF0301" == result.error.code


# --- which process ---


def test_a_process_is_kept_for_the_next_call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls after one another have one process, not this one; its output is on standard error, its input empty, and it ends."""
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    first, second = _run(_runner("where"), Event(), Event())
    assert first.state["pid"] == second.state["pid"] != os.getpid()
    assert ("/nowhere", "") == (first.state["path"], first.state["stdin"])
    out, err = capfd.readouterr()
    assert "" == out
    assert 2 == err.count("printed by the handler")
    assert not _is_alive(first.state["pid"])


@pytest.mark.parametrize(("count", "sections"), [(3, {}), (2, {"workers": {"a": {"count": 2}}})])
def test_calls_at_once_have_processes_of_their_own(tmp_path: Path, count: int, sections: dict[str, Any]) -> None:
    """Calls that are in progress together run in as many processes, as many as the agent has workers where that is said."""

    async def main() -> list[RunResult]:
        async with _runner("meet", **sections) as runner:
            events = [Event("", {"place": str(tmp_path), "name": str(number), "count": count}) for number in range(count)]
            results = await asyncio.gather(*map(runner.run, events))
            return [*results, await runner.run(events[0])]

    *results, last = asyncio.run(main())
    pids = {result.state["pid"] for result in results}
    assert count == len(pids)
    assert last.state["pid"] in pids


def test_calls_beyond_the_most_wait_for_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent has no more processes than it may; further calls wait, and one that dies is replaced."""
    monkeypatch.setattr(isolation, "MOST_PROCESSES", 1)

    async def main() -> list[RunResult]:
        async with _runner("die") as runner:
            dying = [runner.run(Event("", {"code": 3, "deaths": 1})), runner.run(Event("", {"code": 3, "deaths": 0}))]
            return await asyncio.gather(*dying, runner.run(Event("", {"code": 3, "deaths": 0})))

    failed, second, third = asyncio.run(main())
    assert failed.error is not None
    assert "process_died" == failed.error.code
    assert second.state["pid"] == third.state["pid"]


# --- its end ---


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"signal": signal.SIGKILL}, "killed by SIGKILL"),
        ({"signal": signal.SIGSEGV}, "killed by SIGSEGV"),
        ({"code": 7}, "exit code 7"),
        ({"code": 0}, "exit code 0"),
    ],
)
def test_a_process_that_dies_fails_the_attempt(data: dict[str, Any], told: str) -> None:
    """Its death is a failure with code `process_died` that names the signal or exit code, and the next attempt has a new one."""
    retry = {"max_retries": 1, "initial_delay_seconds": 0.001}
    runner = _runner("die", retry=retry)
    failed, fine = _run(runner, Event("", {**data, "deaths": 2}), Event("", data))
    assert failed.error is not None
    assert ("process_died", "ProcessDiedError", 2) == (failed.error.code, failed.error.type, failed.error.attempts)
    assert told in failed.error.message
    assert ("completed", 2) == (fine.status, fine.state["attempt"])


@pytest.mark.parametrize("escapes", [False, True])
def test_a_death_is_noticed_although_a_fork_has_the_pipe_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, escapes: bool) -> None:
    """A process that dies while what it has forked goes on fails its attempt soon; the fork is killed, unless it left the session."""
    monkeypatch.setattr(process, "LAST_WORDS_S", 0.05)
    (result,) = _run(_runner("fork_and_die", timeout_seconds=20), Event("", {"place": str(tmp_path), "escapes": escapes}))
    fork = int((tmp_path / "other").read_text())
    if escapes:
        os.kill(fork, signal.SIGKILL)
    assert _until(lambda: not _is_alive(fork))
    assert result.error is not None
    assert "process_died" == result.error.code


async def _interrupted(runner: Runner, how: str, place: Path) -> RunResult:
    """Begin a call and, once the handler runs, end it: by its time limit, by a cancellation or by stopping the runner."""
    async with runner:
        await runner.run(Event())  # the time that the process takes to start counts, and is not of interest here
        metadata = {"agent_timeout": "0.3"} if how == "timeout" else {}
        handle = await runner.emit(Event("", {"place": str(place)}, metadata))
        await _exists(place / "begun")
        if how == "cancel":
            handle.cancel()
        elif how == "stop":
            report = await runner.stop(timeout=0.001)
            assert () == report.abandoned
        return await handle.result()


STATUS = {"timeout": "timed_out", "cancel": "cancelled", "stop": "cancelled"}


@pytest.mark.parametrize("how", STATUS)
@pytest.mark.parametrize("handler", ["obey", "obey_in_thread"])
def test_an_interrupted_handler_may_tidy_up(tmp_path: Path, handler: str, how: str) -> None:
    """SIGTERM cancels an async handler and raises in a sync one; both run their `finally`, and their process ends."""
    result = asyncio.run(_interrupted(_runner(handler), how, tmp_path))
    assert (STATUS[how], ()) == (result.status, result.flags)
    assert (tmp_path / "tidied").exists()
    assert not _is_alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("how", STATUS)
@pytest.mark.parametrize("handler", ["swallow", "hold"])
def test_a_handler_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, handler: str, how: str) -> None:
    """Who swallows SIGTERM, or is in C code where nothing reaches it, is killed after 5 s (less here): nothing is left behind."""
    monkeypatch.setattr(process, "KILL_AFTER_S", 0.1)
    result = asyncio.run(_interrupted(_runner(handler), how, tmp_path))
    assert (STATUS[how], ()) == (result.status, result.flags)
    assert not _is_alive(int((tmp_path / "pid").read_text()))


def test_a_second_cancellation_kills_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grace that is shorter than the wait for SIGTERM ends that wait."""
    monkeypatch.setattr(process, "KILL_AFTER_S", 60.0)
    result = asyncio.run(_interrupted(_runner("swallow", runner={"cancel_grace_seconds": 0.1}), "cancel", tmp_path))
    assert ("cancelled", ()) == (result.status, result.flags)
    assert not _is_alive(int((tmp_path / "pid").read_text()))


def test_processes_that_the_handler_has_started_end_with_it(tmp_path: Path) -> None:
    """What a killed handler has started is killed with it."""
    asyncio.run(_interrupted(_runner("start_others"), "cancel", tmp_path))
    assert _until(lambda: not _is_alive(int((tmp_path / "other").read_text())))


RUNNER = """
import asyncio, sys
from agentflow import Event, Runner

async def main():
    agents = {"a": {"handler": "isolated:" + sys.argv[1], "isolation": "process"}}
    flow = {"mode": "sequential", "sequential_agents": ["a"]}
    async with Runner.from_dict({"orchestration": flow, "agents": agents, "runner": {"pythonpath": [HERE]}}) as runner:
        await runner.run(Event("", {"place": sys.argv[2]}))

asyncio.run(main())
"""


@pytest.mark.parametrize("handler", ["swallow", pytest.param("hold", marks=pytest.mark.skipif(sys.platform != "linux", reason="prctl"))])
def test_no_process_outlives_a_runner_that_is_killed(tmp_path: Path, handler: str) -> None:
    """After kill -9 of the runner its handlers' processes end by themselves, even one in C code that holds Python's lock."""
    script = tmp_path / "run.py"
    script.write_text(RUNNER.replace("HERE", repr(str(HERE))))
    with subprocess.Popen([sys.executable, str(script), handler, str(tmp_path)]) as runner:
        assert _until((tmp_path / "begun").exists)
        pid = int((tmp_path / "pid").read_text())
        assert _is_alive(pid)
        runner.kill()
    assert _until(lambda: not _is_alive(pid))


def test_a_process_that_nobody_writes_to_any_more_ends(tmp_path: Path) -> None:
    """Where the system does not tell of the runner's end, the closed pipe does: the process kills itself and what it has started."""
    pipe = os.pipe()
    command = [sys.executable, "-m", "agentflow.agents.child", "a", str(os.getpid()), ""]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)])}
    child = subprocess.Popen(command, stdin=pipe[0], stdout=subprocess.PIPE, env=environ, start_new_session=True)
    address = {"module": "isolated", "name": "start_others", "file": str(HERE / "isolated.py"), "folder": None, "is_named": False}
    event = Event("", {"place": str(tmp_path)}).to_dict()
    context = dict.fromkeys(("run_id", "position", "agent", "attempt", "session_id", "deadline", "config"))
    hello = process.packed({"kind": "hello", "call": 0, "agent": "a", "address": address})
    call = process.packed({"kind": "call", "call": 1, "event": event, "state": {"data": {}, "meta": {}}, "context": context})
    with child:
        os.write(pipe[1], hello + call)
        assert _until((tmp_path / "begun").exists)
        other = int((tmp_path / "other").read_text())
        os.close(pipe[1])
        assert -signal.SIGKILL == child.wait(10)
    os.close(pipe[0])
    assert _until(lambda: not _is_alive(other))


def test_the_command_line_prints_the_result_alone(tmp_path: Path) -> None:
    """What a handler in a process prints does not come between the JSON that `agentflow run --json` prints."""
    (tmp_path / "agentflow.toml").write_text(
        f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\n[runner]\npythonpath = ["{HERE}"]\n'
        '[agents.a]\nhandler = "isolated:where"\nisolation = "process"\n'
    )
    command = [sys.executable, "-m", "agentflow", "run", "--json", "--quiet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert 1 == len(done.stdout.splitlines())
    assert done.stdout.startswith('{"run_id"')
    assert "printed by the handler" in done.stderr


# --- which handlers ---


def test_handlers_of_an_entrypoint_are_found_again(tmp_path: Path) -> None:
    """Marked, registered and imported functions, methods of classes and callables of a module run in processes by their names."""
    (tmp_path / "beside.py").write_text("import os\ndef imported(event, state):\n    return {'imported': os.getpid()}\n")
    (tmp_path / "handlers.py").write_text(
        "import functools, os\n"
        "from agentflow import agent\n"
        "from beside import imported\n"
        "@agent('marked')\n"
        "def anything(event, state):\n    return {'marked': os.getpid()}\n"
        "class Work:\n"
        "    @staticmethod\n"
        "    def method(event, state):\n        return {'method': os.getpid()}\n"
        "partial = functools.partial(lambda key, event, state: {key: os.getpid()}, 'partial')\n"
        "def register(runner):\n"
        "    runner.register_agent('imported', imported)\n"
        "    runner.register_agent('method', Work.method)\n"
        "    runner.register_agent('partial', partial)\n"
    )
    names = ["marked", "imported", "method", "partial"]
    (tmp_path / "agentflow.toml").write_text(
        '[agent_flow]\nentrypoint = "handlers:register"\n[orchestration]\nmode = "collaborative"\n'
        + "".join(f'[agents.{name}]\nisolation = "process"\n' for name in names)
    )
    (result,) = _run(Runner.from_config(tmp_path / "agentflow.toml", environ={}), Event())
    assert "completed" == result.status, result.errors
    assert 5 == len({os.getpid(), *(result.state[name] for name in names)})


def _closure() -> Any:
    @agent("a")
    def within(event: Event, state: Any) -> None:
        pass

    return within


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (lambda event, state: None, "<lambda>"),
        (_closure(), "_closure.<locals>.within"),
    ],
)
async def test_a_handler_that_no_process_can_import_is_refused(handler: Any, told: str) -> None:
    """A lambda or a function inside another one is refused when the runner starts, by name and with a cure."""
    runner = Runner.from_dict({"orchestration": SEQUENCE, "agents": {"a": {"isolation": "process"}}}, environ={})
    runner.register_agent("a", handler)
    with pytest.raises(RegistrationError, match="is bound to no name of a module") as refused:
        await runner.start()
    assert told in str(refused.value)
    assert "def" in refused.value.hint


def test_a_handler_of_the_started_script_is_refused(tmp_path: Path) -> None:
    """A function of `__main__` is refused: another process would run the whole script to find it."""
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio\nfrom agentflow import Runner\n"
        "def work(event, state):\n    pass\n"
        "runner = Runner.from_dict({'orchestration': {'mode': 'collaborative'}, 'agents': {'a': {'isolation': 'process'}}})\n"
        "runner.register_agent('a', work)\n"
        "asyncio.run(runner.start())\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "work is part of the script that was started" in done.stderr


async def test_a_handler_that_is_replaced_is_not_asked_for() -> None:
    """Only the handler that an agent has in the end must be one that a process can import."""
    runner = Runner.from_dict({"orchestration": SEQUENCE, "agents": {"a": {"isolation": "process"}}}, environ={})
    runner.register_agent("a", lambda event, state: None)
    runner.register_agent("a", isolated.where, replace=True)
    await runner.start()
    await runner.stop()


def test_a_module_that_cannot_be_imported_there_fails_the_attempt(tmp_path: Path) -> None:
    """A module that is imported here and fails in the process fails the attempt with what it raised, also the next one."""
    (tmp_path / "odd.py").write_text(
        "import os\nif 'ODD' in os.environ:\n    raise ValueError('not here')\ndef work(event, state):\n    pass\n"
    )
    agents = {"a": {"handler": "odd:work", "isolation": "process"}}
    runner = Runner.from_dict({"orchestration": SEQUENCE, "agents": agents, "runner": {"pythonpath": [str(tmp_path)]}}, environ={})
    os.environ["ODD"] = "1"
    try:
        results = _run(runner, Event(), Event())
    finally:
        del os.environ["ODD"]
    for result in results:
        assert isinstance(result.error and result.error.exception, EntrypointError)
        assert "not here" in str(result.error)


def test_a_program_without_a_python_to_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no interpreter to start, the runner does not start."""
    runner = _runner("where")
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RegistrationError, match="no Python to start"):
        asyncio.run(runner.start())


# --- in every mode ---

MODES: dict[str, dict[str, Any]] = {
    "route": {"mode": "route"},
    "collaborative": {"mode": "collaborative", "collaborative_agents": ["a"]},
    "sequential": SEQUENCE,
    "loop": {"mode": "loop", "loop_agent": "a", "max_iterations": 2},
    "mixed": {"mode": "mixed", "collaborative_agents": ["a"], "sequential_agents": ["b"]},
    "nested": {"mode": "sequential", "sequential_agents": ["inner"]},
}


@pytest.mark.parametrize("mode", MODES)
def test_isolation_holds_in_every_mode(mode: str) -> None:
    """An agent with `isolation = "process"` runs in a process in each mode, in nested flows too."""
    agents = {"a": {"handler": "isolated:where", "isolation": "process"}, "b": {"handler": "isolated:tell"}}
    flows = {"inner": {"mode": "loop", "loop_agent": "a", "max_iterations": 1}}
    config = {"orchestration": MODES[mode], "flows": flows, "agents": agents, "runner": {"pythonpath": [str(HERE)]}}
    (result,) = _run(Runner.from_dict(config, environ={}), Event("a"))
    assert "completed" == result.status
    assert os.getpid() != result.state["pid"]
