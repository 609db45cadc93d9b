"""G1, G3, G7 and G27 over HTTP: kill -9 of the real service under posts; nothing that was acknowledged is lost, nothing is there twice."""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import httpx2

from tests.ingress.process import Serving, project, serving

KILLS = 20 if os.environ.get("AGENTFLOW_PROOF") else 4
CLIENTS = 6
LEAST_ACKNOWLEDGED = 20 * KILLS
RECOVERED_S = 20.0


class Ledger:
    """What clients were told, kept outside of the service: events by id, and of which each answer speaks."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.acknowledged: dict[str, str] = {}  # the run of each
        self.faults: list[str] = []
        self.unknown = 0
        self._lock = threading.Lock()

    def note(self, event_id: str, run_id: str) -> None:
        """An event was acknowledged."""
        with self._lock:
            known = self.acknowledged.setdefault(event_id, run_id)
            if known != run_id:
                self.faults.append(f"{event_id} was {known}, and is {run_id}")


def post(it: Serving, ledger: Ledger, name: str, over: threading.Event) -> None:
    """Send events until the service is gone; send some twice."""
    number = 0
    with it.new_client() as client:
        while not over.is_set():
            number += 1
            event_id = f"{name}-{number}"
            ledger.sent.add(event_id)
            try:
                for _ in range(2 if number % 5 == 0 else 1):
                    answer = client.post("/v1/events", json={"id": event_id, "data": {"n": event_id, "sleep": 0.01}})
                    if answer.status_code == 202:
                        ledger.note(event_id, answer.json()["run_id"])
                    elif answer.status_code not in (429, 503):
                        ledger.faults.append(f"{answer.status_code} {answer.text[:200]}")
            except httpx2.TransportError:
                ledger.unknown += 1
                return


def resend(it: Serving, ledger: Ledger) -> None:
    """Send again, under the same ids, all of which nobody knows: no second run may come of it."""
    for event_id in sorted(ledger.sent - ledger.acknowledged.keys()):
        answer = it.client.post("/v1/events", json={"id": event_id, "data": {"n": event_id, "sleep": 0.01}})
        assert 202 == answer.status_code, answer.text
        ledger.note(event_id, answer.json()["run_id"])


def settle(it: Serving) -> None:
    """Wait until no run is open."""
    limit = time.monotonic() + RECOVERED_S
    while it.client.get("/v1/metrics").json()["runs"]["open"]:
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_g27_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """After each kill the next start goes on by itself; in the end each event sent has one run, completed, and each step one result."""
    project(tmp_path)
    ledger, chance = Ledger(), random.Random(27)
    for number in range(KILLS):
        with serving(tmp_path) as it:
            over = threading.Event()
            clients = [threading.Thread(target=post, args=(it, ledger, f"k{number}-{client}", over)) for client in range(CLIENTS)]
            for client in clients:
                client.start()
            time.sleep(0.3 + chance.random())
            it.process.kill()
            over.set()
            for client in clients:
                client.join()
    with serving(tmp_path) as it:
        acknowledged = len(ledger.acknowledged)
        resend(it, ledger)
        settle(it)
        unread = [run_id for run_id in ledger.acknowledged.values() if it.client.get(f"/v1/runs/{run_id}").json()["status"] != "completed"]
    assert [] == ledger.faults
    assert [] == unread
    with sqlite3.connect(tmp_path / ".agentflow" / "journal.db") as journal:
        rows = journal.execute("SELECT event_id, run_id, state FROM runs").fetchall()
    journal.close()
    assert ledger.acknowledged == {event_id: run_id for event_id, run_id, _ in rows}
    made = Counter(line for line in (tmp_path / "ledger").read_text().splitlines() if line.startswith("first"))
    again = sum(count - 1 for count in made.values())
    by_event = Counter(line.split()[1] for line in made)
    assert set(by_event.values()) == {1}  # one idempotency key for each event's step, however often it was tried
    assert again <= KILLS * CLIENTS * 2
    print(f"{KILLS} kills, {acknowledged} acknowledged before the last, {ledger.unknown} unknown, {again} steps made again, 0 lost")
    assert acknowledged >= LEAST_ACKNOWLEDGED
    assert ledger.unknown >= KILLS
