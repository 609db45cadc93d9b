"""`agentflow run` on a disk of 1 MB that fills up, in a mount namespace of its own: full_disk.py FOLDER; says as JSON what it saw."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

CALL = [sys.executable, "-m", "agentflow"]
LIMIT_S = 30.0


def main(project: Path) -> None:
    """Fill the disk with runs, look, stop them, make room, and go on."""
    _mount("size=1m")
    seen: dict[str, object] = {}
    with (project / "out").open("w") as out, (project / "err").open("w") as err:
        running = subprocess.Popen([*CALL, "run", "--event", "events.jsonl", "--jsonl"], cwd=project, stdout=out, stderr=err)
        try:
            _wait(lambda: "journal_full" in _text(project / "err") and "AF0710" in _text(project / "err"))
            seen["listed"] = [row["run_id"] for row in json.loads(_said(project, "runs", "list", "--json"))]
            seen["verified"] = _said(project, "journal", "verify")
            running.send_signal(signal.SIGTERM)
            seen["code"] = running.wait(LIMIT_S)
        finally:
            running.kill()
    seen["out"], seen["err"] = _text(project / "out"), _text(project / "err")
    single = subprocess.run(
        [*CALL, "run", "--set", "n=1"], cwd=project, capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False
    )
    seen["single"] = [single.returncode, single.stdout, single.stderr]
    _mount("remount,size=50m")
    seen["resumed"] = [row["status"] for row in json.loads(_said(project, "resume", "--json", "--quiet"))]
    seen["sound"] = _said(project, "journal", "verify")
    seen["unfinished"] = json.loads(_said(project, "runs", "list", "--state", "running", "--json"))
    sys.stdout.write(json.dumps(seen))


def _mount(options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", "disk"], check=True)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _said(project: Path, *words: str) -> str:
    done = subprocess.run([*CALL, *words], cwd=project, capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _wait(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
