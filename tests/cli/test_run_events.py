"""`agentflow run --event`: many events from a file or stdin."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentflow.stores.tables import Tables

Call = Callable[..., Any]


def lines(*rows: object) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_json_lines_are_answered_in_order(call: Call, project: Path) -> None:
    """`--jsonl` prints one compact object for each event, in the order of the events, whatever order they end in."""
    slow = {"target": "waiter", "data": {"seconds": 0.05}}
    (project / "events.jsonl").write_text(lines(slow, {"data": {"name": "Ada"}}, {"id": "mine", "data": {"name": "Bo"}}), encoding="utf-8")
    outcome = call("run", "--event", "events.jsonl", "--jsonl")
    assert [list(row["outputs"]) for row in outcome.rows] == [["waiter"], ["greeter"], ["greeter"]]
    assert [row["state"]["data"].get("greeting") for row in outcome.rows] == [None, "hello Ada", "hello Bo"]
    assert outcome.code == 0


def test_several_events_with_json_are_one_array(call: Call, project: Path) -> None:
    """`--json` prints an array for several events and one object for one; `--jsonl` given too wins."""
    (project / "events.jsonl").write_text(lines({}, {}), encoding="utf-8")
    assert [row["status"] for row in call("run", "--event", "events.jsonl", "--json").json] == ["completed", "completed"]
    (project / "one.json").write_text('{\n  "data": {"name": "Ada"}\n}\n', encoding="utf-8")
    assert call("run", "--event", "one.json", "--json").json["status"] == "completed"
    assert len(call("run", "--event", "events.jsonl", "--json", "--jsonl").rows) == 2


def test_the_worst_code_counts(call: Call, project: Path) -> None:
    """Of several events the highest exit code is the command's: one that fails makes it 1."""
    (project / "events.jsonl").write_text(lines({}, {"target": "failing"}, {}), encoding="utf-8")
    outcome = call("run", "--event", "events.jsonl", "--jsonl")
    assert (outcome.code, [row["status"] for row in outcome.rows]) == (1, ["completed", "failed", "completed"])


def test_bad_lines_are_told_by_number_and_the_rest_runs(call: Call, project: Path) -> None:
    """A line that is no event is refused with file and line, the other events run, and the command exits 2."""
    text = lines({}) + "not json\n\n" + lines({"tarjet": "x"}, {"target": 5}, {"data": {"n": 2**70}}, [1], {})
    (project / "events.jsonl").write_text(text, encoding="utf-8")
    outcome = call("run", "--event", "events.jsonl", "--jsonl", "--quiet")
    assert (outcome.code, len(outcome.rows)) == (2, 2)
    told = [line for line in outcome.err.splitlines() if line.startswith("error")]
    assert [line.split(": ")[1] for line in told] == [f"events.jsonl:{number}" for number in (2, 4, 5, 6, 7)]
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("text", ['{"target": ', '[{"target": "greeter"}]', "\x00", "nonsense\n", "[" * 100_000])
def test_input_that_is_no_event_at_all_exits_2(call: Call, project: Path, text: str) -> None:
    """Input that is neither one event nor one a line runs nothing and exits 2."""
    (project / "events.jsonl").write_text(text, encoding="utf-8")
    outcome = call("run", "--event", "events.jsonl", "--json")
    assert (outcome.code, outcome.out) == (2, "")
    assert "error[AF0602]: events.jsonl" in outcome.err


def test_events_that_are_not_utf8_are_refused(call: Call, project: Path) -> None:
    """Bytes that are no UTF-8 are refused as such, naming the place in the event."""
    (project / "events.jsonl").write_bytes(b'{"data": {"name": "\xff"}}\n')
    outcome = call("run", "--event", "events.jsonl")
    assert outcome.code == 2
    assert "event.data.name" in outcome.err


def test_events_of_one_session_run_one_after_another(call: Call, project: Path) -> None:
    """More events than the queue holds wait where they are: none is refused, and each session keeps its order."""
    rows = [{"target": "waiter", "data": {"seconds": 0.001, "n": number}, "session_id": "s"} for number in range(12)]
    (project / "events.jsonl").write_text(lines(*rows), encoding="utf-8")
    small = ["--config-set", "runner.queue_size=1", "--config-set", "runner.queue_wait_seconds=0.001"]
    outcome = call("run", "--event", "events.jsonl", "--jsonl", "--quiet", *small)
    assert (outcome.code, [row["state"]["data"]["n"] for row in outcome.rows]) == (0, list(range(12)))


def test_events_come_from_stdin(start: Call) -> None:
    """`--event -` reads stdin."""
    outcome = start("run", "--event", "-", "--jsonl", "-q", text=lines({"data": {"name": "Ada"}}, {}))
    assert [row["state"]["data"]["greeting"] for row in outcome.rows] == ["hello Ada", "hello you"]


@pytest.mark.parametrize("text", ["", "\n"])
def test_no_event_at_all_is_a_usage_error(start: Call, text: str) -> None:
    """Input without any event exits 2 and says so."""
    outcome = start("run", "--event", "-", text=text)
    assert (outcome.code, outcome.out) == (2, "")
    assert "error[AF0602]: -: stdin has no event at all" in outcome.err


def test_a_thousand_events_are_conducted(call: Call, project: Path) -> None:
    """Many more events than may be open at once all get their answer, in order."""
    (project / "events.jsonl").write_text(lines(*({"data": {"name": str(number)}} for number in range(1000))), encoding="utf-8")
    rows = call("run", "--event", "events.jsonl", "--jsonl", "-q").rows
    assert [row["state"]["data"]["name"] for row in rows] == [str(number) for number in range(1000)]


@pytest.fixture
def slow_commits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Make each commit take a while; holds how many runs were accepted in each commit that had any."""
    accepted: list[int] = []
    write = Tables.write

    def slow(tables: Tables, appends: Any) -> Any:
        time.sleep(0.01)
        count = sum(append.is_new for append in appends)
        if count:
            accepted.append(count)
        return write(tables, appends)

    monkeypatch.setattr(Tables, "write", slow)
    return accepted


def test_events_are_accepted_together(call: Call, project: Path, slow_commits: list[int]) -> None:
    """Acceptances share commits, at most 256 of them are on their way at once, and results stand in the order of the events."""
    events = [{"data": {"name": str(number)}} if number % 50 else {"target": 5} for number in range(600)]
    (project / "events.jsonl").write_text(lines(*events), encoding="utf-8")
    outcome = call("run", "--event", "events.jsonl", "--jsonl", "--quiet")
    assert outcome.code == 2
    assert [row["state"]["data"]["name"] for row in outcome.rows] == [str(number) for number in range(600) if number % 50]
    assert sum(slow_commits) == 588
    assert 20 < max(slow_commits) <= 258
    assert len(slow_commits) < 100


def test_events_of_a_session_keep_their_order(call: Call, project: Path, slow_commits: list[int]) -> None:
    """However many acceptances are on their way, events of one session are accepted, and run, as they stand in the file."""
    events = [{"session_id": f"s{number % 3}", "data": {"n": number}} if number % 4 else {"data": {"n": number}} for number in range(60)]
    (project / "events.jsonl").write_text(lines(*events), encoding="utf-8")
    full = "--config-set", "runner.queue_size=2", "--config-set", "runner.queue_wait_seconds=0.005"
    assert call("run", "--event", "events.jsonl", "--jsonl", "--quiet", *full).code == 0
    for session in ("s0", "s1", "s2"):
        rows = reversed(call("runs", "list", "--session", session, "--json").json)
        told = [call("runs", "show", row["run_id"], "--json").json["state"]["data"]["n"] for row in rows]
        assert told == [event["data"]["n"] for event in events if event.get("session_id") == session]
    assert max(slow_commits) > 1
