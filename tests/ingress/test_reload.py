"""Reloading: another configuration takes over for new events, as a whole or not at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agentflow import Event, Runner, app
from agentflow.config.diagnostics import ConfigError
from agentflow.core.plan import Call
from agentflow.errors import MissingHandlerError, QueueFullError, RunnerStateError
from agentflow.served import ReloadError
from agentflow.testing import run_virtual

LEAST_RELOADS = 12
BASE = """
[orchestration]
mode = "sequential"
sequential_agents = ["one", "two"]
[agents.one]
[agents.two]
[journal]
url = "memory:"
"""
OTHER = BASE.replace('mode = "sequential"', 'mode = "collaborative"\ncollaborative_agents = ["one", "two"]')


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration file."""
    path = tmp_path / "agentflow.toml"
    path.write_text(BASE, encoding="utf-8")
    return path


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")


def _runner(file: Path, handlers: Mapping[str, Any] | None = None, **options: Any) -> Runner:
    runner = Runner.from_config(file, environ={}, **options)
    for name, handler in (handlers or {"one": _one, "two": _two}).items():
        runner.register_agent(name, handler)
    return runner


async def _one(event: Any, state: Any) -> dict[str, int]:
    await asyncio.sleep(0.01)
    return {"one": 1}


async def _two(event: Any, state: Any) -> dict[str, int]:
    return {"two": 2}


async def test_a_valid_file_takes_over_for_the_events_that_are_accepted_from_then_on(file: Path) -> None:
    """The run in flight ends under its plan, the next event runs under the new one."""
    gate = asyncio.Event()

    async def one(event: Any, state: Any) -> None:
        await gate.wait()

    async with _runner(file, {"one": one, "two": _two}) as runner:
        before = await runner.emit(Event())
        _write(file, OTHER)
        report = await runner.reload()
        after = await runner.emit(Event())
        gate.set()
        await asyncio.gather(before.result(), after.result())
        patterns = [(await runner.row(handle.run_id)).pattern for handle in (before, after)]
        assert ["sequential", "collaborative"] == patterns
        assert ("orchestration",) == report.changed
        assert report.plan_before != report.plan == (await runner.row(after.run_id)).plan_hash
        assert 1 == report.open_runs


async def test_an_event_that_waits_at_a_reload_runs_under_the_plan_it_was_accepted_with(file: Path) -> None:
    """What is queued behind another event of its session is pinned when it is accepted."""
    gate = asyncio.Event()

    async def one(event: Any, state: Any) -> None:
        await gate.wait()

    async with _runner(file, {"one": one, "two": _two}) as runner:
        handles = [await runner.emit(Event(session_id="s")) for _ in range(3)]
        _write(file, OTHER)
        await runner.reload()
        handles.append(await runner.emit(Event(session_id="s")))
        gate.set()
        for handle in handles:
            (await handle.result()).raise_for_status()
        patterns = [(await runner.row(handle.run_id)).pattern for handle in handles]
        assert ["sequential"] * 3 + ["collaborative"] == patterns


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        (BASE.replace("sequential_agents", "sequentail_agents"), ConfigError, "sequentail_agents"),
        ("[orchestration", ConfigError, ""),
        (BASE.replace('"two"]', '"three"]') + "[agents.three]\n", MissingHandlerError, "three"),
        (BASE.replace('"memory:"', '"sqlite:j.db"'), ReloadError, "journal.url"),
        (BASE + "[runner]\nqueue_size = 5\n[serve]\nport = 1\n", ReloadError, "runner.queue_size, serve.port"),
        (BASE.replace("[agents.two]", '[agents.two]\nisolation = "thread"'), ReloadError, "agents.two.isolation"),
        (BASE.replace("[agents.two]", '[agents.two]\nhandler = "m:f"'), ReloadError, "agents.two.handler"),
        (BASE.replace("[agents.one]", 'on_busy = "reject"\n[agents.one]'), ReloadError, "orchestration.on_busy"),
        ('[agent_flow]\nentrypoint = "handlers"\n' + BASE, ReloadError, "agent_flow.entrypoint"),
    ],
)
async def test_a_file_that_cannot_take_over_is_refused_by_name_and_nothing_changes(
    file: Path, text: str, kind: type[Exception], told: str
) -> None:
    """Mistakes, missing handlers and what lasts as long as the process: each is named, and the one from before goes on."""
    async with _runner(file) as runner:
        project = runner.project
        _write(file, text)
        with pytest.raises(kind) as refused:
            await runner.reload()
        assert told in str(refused.value)
        assert runner.project is project
        result = await runner.run(Event())
        assert ("completed", {"one": 1, "two": 2}) == (result.status, dict(result.state))


async def test_a_reload_keeps_what_the_command_line_said(file: Path) -> None:
    """Overrides of the start stand over the new file, too."""
    async with _runner(file, overrides={"orchestration.sequential_agents": ["two"]}) as runner:
        _write(file, BASE.replace("[agents.one]", '[agents.one]\ndescription = "new"'))
        assert ("agents",) == (await runner.reload()).changed
        assert {"two": 2} == dict((await runner.run(Event())).state)


async def test_a_handler_is_told_what_the_new_file_says_of_its_agent(file: Path) -> None:
    """`ctx.config` is that of the plan under which the event was accepted."""
    told: list[str] = []

    async def one(event: Any, state: Any, ctx: Any) -> None:
        told.append(ctx.config["description"])

    async with _runner(file, {"one": one, "two": _two}) as runner:
        await runner.run(Event())
        _write(file, BASE.replace("[agents.one]", '[agents.one]\ndescription = "new"'))
        await runner.reload()
        await runner.run(Event())
        assert ["", "new"] == told


async def test_registered_modes_and_agents_without_a_table_are_there_after_a_reload(file: Path) -> None:
    """What Python code registered before the start serves the new file, too."""
    runner = _runner(file)
    runner.register_mode("mine", lambda flow: Call("extra"))
    runner.register_agent("extra", lambda event, state: {"extra": 1})
    async with runner:
        _write(file, BASE.replace('mode = "sequential"\nsequential_agents = ["one", "two"]', 'mode = "mine"'))
        await runner.reload()
        assert {"extra": 1} == dict((await runner.run(Event())).state)


async def test_a_cached_answer_does_not_outlive_the_configuration_it_was_given_under(file: Path) -> None:
    """A new system prompt is another question."""
    calls = Counter[str]()

    async def one(event: Any, state: Any) -> None:
        calls["one"] += 1

    cached = BASE.replace("[agents.one]", "[agents.one]\ncache = { ttl_seconds = 1000 }")
    _write(file, cached)
    async with _runner(file, {"one": one, "two": _two}) as runner:
        for _ in range(2):
            await runner.run(Event())
        _write(file, cached + "[agents.x]\n")
        await runner.reload()
        await runner.run(Event())
        assert 2 == calls["one"]


async def _storm(runner: Runner, file: Path, *, seconds: int, rate: int) -> Counter[str]:
    """Emit events at a rate while the mode changes ten times a second; count what became of them."""
    counts = Counter[str]()
    emitting = True

    async def switch() -> None:
        while emitting:
            _write(file, OTHER if counts["reloads"] % 2 == 0 else BASE)
            await runner.reload()
            counts["reloads"] += 1
            _write(file, "[orchestration]\nmode = 1")
            with pytest.raises(ConfigError):
                await runner.reload()
            counts["refused"] += 1
            await asyncio.sleep(0.1)

    switching = asyncio.create_task(switch())
    for number in count():
        if number >= seconds * rate and counts["reloads"] >= LEAST_RELOADS:
            break
        event = Event(data={"n": number}, id=f"e{number}", session_id=f"s{number % 50}" if number % 2 else None)
        try:
            handle = await runner.emit(event, wait=False)
        except QueueFullError:
            counts["full"] += 1
        else:
            counts["in"] += 1
            counts["duplicates"] += handle.is_duplicate
        await asyncio.sleep(1 / rate)
    emitting = False
    await switching
    return counts


async def _counted(runner: Runner, counts: Counter[str]) -> None:
    """Hold what was taken in against what the journal has, and each run against the plan it was accepted with."""
    rows = await runner.runs()
    hashes = {row.pattern: row.plan_hash for row in rows}
    assert {"sequential", "collaborative"} == set(hashes)
    assert all(row.plan_hash == hashes[row.pattern] for row in rows)
    done = sum(row.state == "completed" for row in rows)
    dead = sum("dead_lettered" in row.flags for row in rows)
    pending = sum(row.state in ("pending", "running", "paused") for row in rows)
    ids = {row.event_id for row in rows}
    told = f"in {counts['in']} = done {done} + pending {pending} + dead {dead}, {counts['full']} refused, {counts['reloads']} reloads"
    assert counts["in"] == done + pending + dead == len(rows) == len(ids), told
    assert 0 == counts["duplicates"]
    assert dead > 0
    assert counts["reloads"] >= LEAST_RELOADS
    assert counts["refused"] == counts["reloads"]


def test_switching_mode_at_500_events_a_second_loses_and_doubles_nothing(file: Path) -> None:
    """In = done + pending + dead, while a valid file takes over ten times a second and an invalid one is refused as often."""
    calls = Counter[int]()

    async def one(event: Any, state: Any) -> dict[str, int]:
        calls[event.data["n"]] += 1
        await asyncio.sleep(0.05)
        if event.data["n"] % 100 == 7:
            raise ValueError("no")
        return {"one": 1}

    async def main() -> None:
        runner = _runner(file, {"one": one, "two": _two})
        async with runner:
            counts = await _storm(runner, file, seconds=4, rate=500)
            await _counted(runner, counts)
            assert {1} == set(calls.values())

    run_virtual(main(), patience_s=0.001)


def test_switching_mode_under_load_loses_nothing_on_disk_either(file: Path, tmp_path: Path) -> None:
    """The same with a journal on disk, in real time for two seconds, and every run read back after a new start."""

    async def one(event: Any, state: Any) -> dict[str, int]:
        if event.data["n"] % 100 == 7:
            raise ValueError("no")
        return {"one": 1}

    async def main() -> None:
        overrides = {"journal.url": f"sqlite:{tmp_path / 'journal.db'}"}
        handlers = {"one": one, "two": _two}
        async with _runner(file, handlers, overrides=overrides) as runner:
            counts = await _storm(runner, file, seconds=2, rate=500)
        _write(file, BASE)
        async with _runner(file, handlers, overrides=overrides) as runner:
            await asyncio.gather(*[handle.result() for handle in await runner.resume()])
            await _counted(runner, counts)

    asyncio.run(main())


async def test_a_runner_of_a_program_reloads_and_drains_when_another_process_says_so(file: Path, tmp_path: Path) -> None:
    """Without a service the runner answers itself: it reads its file again, and stops; the journal is free then."""
    overrides = {"journal.url": f"sqlite:{tmp_path / 'journal.db'}"}
    async with _runner(file, overrides=overrides) as runner:
        choice = runner.project.journal("memory:")
        _write(file, OTHER)
        told = await app.ask_live(choice, {"verb": "reload"})
        assert told is not None
        assert ["orchestration"] == told["changed"]
        _write(file, BASE.replace("[agents.two]", "[agnets.two]"))
        refused = await app.ask_live(choice, {"verb": "reload"})
        assert refused is not None
        assert "AF0100" == refused["error"]["code"]
        assert refused["error"]["diagnostics"]
        handle = await runner.emit(Event())
        assert (await app.ask_live(choice, {"verb": "drain"}) or {})["open_runs"] == 1
        assert "completed" == (await handle.result()).status
        while await app.ask_live(choice, {"verb": "drain"}) is not None:
            await asyncio.sleep(0.01)
        with pytest.raises(RunnerStateError):
            await runner.emit(Event())


async def test_a_runner_that_does_not_run_or_cannot_be_read_again_says_so(file: Path, tmp_path: Path) -> None:
    """Before the start, after the stop, and with a file in another folder."""
    runner = _runner(file)
    with pytest.raises(RunnerStateError):
        await runner.reload()
    async with runner:
        other = tmp_path / "other"
        _write_in(other, BASE)
        with pytest.raises(ReloadError, match="another folder"):
            await runner.reload(other / "agentflow.toml")
    with pytest.raises(RunnerStateError):
        await runner.reload()


def _write_in(folder: Path, text: str) -> None:
    folder.mkdir()
    _write(folder / "agentflow.toml", text)


async def test_a_run_keeps_its_plan_through_a_reload_and_a_restart_with_the_new_file(file: Path, tmp_path: Path) -> None:
    """The plan is recorded with the run: neither the file that took over nor the one of the next start changes it."""
    overrides = {"journal.url": f"sqlite:{tmp_path / 'journal.db'}"}
    gate = asyncio.Event()

    async def one(event: Any, state: Any) -> dict[str, int]:
        await gate.wait()
        return {"one": 1}

    runner = _runner(file, {"one": one, "two": _two}, overrides=overrides)
    await runner.start()
    before = await runner.emit(Event())
    _write(file, BASE.replace('["one", "two"]', '["two"]'))
    report = await runner.reload()
    assert (before.run_id,) == (await runner.stop(0)).resumable
    gate.set()
    async with _runner(file, {"one": one, "two": _two}, overrides=overrides) as runner:
        (handle,) = await runner.resume()
        assert {"one": 1, "two": 2} == dict((await handle.result()).state)
        assert report.plan_before == (await runner.row(before.run_id)).plan_hash
        assert {"two": 2} == dict((await runner.run(Event())).state)
