"""Signals that arrive while events run; the process's own end is in test_process."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow.cli import main

Call = Callable[..., Any]


@pytest.mark.parametrize(("sent", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_first_signal_takes_no_more_events(call: Call, project: Path, sent: str, code: int) -> None:
    """The open run ends as it would, events behind it are not taken, and the signals are Python's again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    first = {"target": "signalling", "data": {"times": 1, "signal": sent}, "session_id": "s"}
    rows = [first, *({"target": "waiter", "data": {"seconds": 0.001}, "session_id": "s"} for _ in range(500))]
    (project / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    outcome = call("run", "--event", "events.jsonl", "--jsonl")
    assert outcome.code == code
    assert outcome.rows[0]["state"]["data"]["interrupted"] is True
    assert 1 <= len(outcome.rows) < 500
    assert "stopping: waiting for" in outcome.err
    assert signal.getsignal(signal.SIGINT) == before


def test_second_signal_cancels(call: Call) -> None:
    """The second signal cancels the open run, whose result says so."""
    outcome = call("run", "--target", "signalling", "--set", "times=2", "--json")
    assert (outcome.code, outcome.json["status"], outcome.json["reason"]) == (130, "cancelled", "interrupted")
    assert "stopping: cancelling 1 open run\n" in outcome.err


def test_command_runs_outside_the_main_thread(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In a thread, where Python has no signals, events run all the same."""
    monkeypatch.chdir(project)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["run", "-q", "--json"])))
    thread.start()
    thread.join()
    assert (codes, json.loads(capsys.readouterr().out)["status"]) == ([0], "completed")
