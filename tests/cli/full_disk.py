"""`agentflow run` on a small disk that is filled up, in a mount namespace of its own: full_disk.py FOLDER; says as JSON what it saw.

Nothing depends on the moment at which the disk is full: first some runs are accepted, whose steps wait for the file `go`; then
the rest of the disk is taken; then they go on, and more events come. What each writes is larger than any room left in the journal.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

CALL = [sys.executable, "-m", "agentflow"]
LIMIT_S = 30.0
EVENTS = 20  # before the disk is full, and as many after it
PAD = "x" * 1_000_000  # far more than the log has room for without growing


def main(project: Path) -> None:
    """Accept runs, fill the disk, look, stop them, make room, and go on."""
    _mount("size=40m")
    seen: dict[str, object] = {}
    with (project / "out").open("w") as out, (project / "err").open("w") as err:
        command = [*CALL, "run", "--event", "-", "--jsonl"]
        running = subprocess.Popen(command, cwd=project, stdin=subprocess.PIPE, stdout=out, stderr=err, encoding="utf-8")
        try:
            _send(running, "before", "")
            _wait(lambda: _text(project / "err").count("  accepted\n") == EVENTS)
            _fill()
            (project / "go").touch()
            _wait(lambda: "journal_full" in _text(project / "err"))
            _send(running, "after", PAD)
            _wait(lambda: _text(project / "err").count("error[AF0710]") == EVENTS)
            seen["listed"] = [row["run_id"] for row in json.loads(_said(project, "runs", "list", "--json"))]
            seen["verified"] = _said(project, "journal", "verify")
            running.send_signal(signal.SIGTERM)
            seen["code"] = running.wait(LIMIT_S)
        finally:
            running.kill()
    _fill()  # what the command gave back as it ended
    seen["out"], seen["err"] = _text(project / "out"), _text(project / "err")
    (project / "big.json").write_text(json.dumps({"pad": PAD}), encoding="utf-8")
    single = subprocess.run(
        [*CALL, "run", "--data", "@big.json"], cwd=project, capture_output=True, encoding="utf-8", timeout=LIMIT_S, check=False
    )
    seen["single"] = [single.returncode, single.stdout, single.stderr]
    _mount("remount,size=300m")
    seen["resumed"] = [row["status"] for row in json.loads(_said(project, "resume", "--json", "--quiet"))]
    seen["sound"] = _said(project, "journal", "verify")
    seen["unfinished"] = json.loads(_said(project, "runs", "list", "--state", "running", "--json"))
    sys.stdout.write(json.dumps(seen))


def _send(running: subprocess.Popen[str], name: str, pad: str) -> None:
    assert running.stdin is not None
    for number in range(EVENTS):
        running.stdin.write(json.dumps({"id": f"{name}-{number}", "data": {"pad": pad}}) + "\n")
    running.stdin.flush()


def _fill() -> None:
    with suppress(OSError), Path("disk/filler").open("ab", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


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
