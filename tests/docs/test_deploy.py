"""The unit and the image of docs/how-to/deploy: what the page promises of them holds."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agentflow.config.model import RunnerConfig

FOLDER = Path(__file__).parents[2] / "docs" / "how-to" / "deploy"
UNIT = FOLDER / "agentflow.service"


def unit() -> dict[str, str]:
    """Return the section [Service] of the unit; of a key that comes twice the last value."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign] # keys of systemd have case
    parser.read(UNIT, encoding="utf-8")
    return dict(parser["Service"])


def test_the_unit_gives_a_drain_the_time_it_takes() -> None:
    """systemd kills no process that still drains, and starts none again whose configuration cannot be served."""
    service = unit()
    runner = RunnerConfig()
    assert int(service["TimeoutStopSec"]) > runner.drain_timeout_seconds + runner.cancel_grace_seconds
    assert ("SIGTERM", "always", "2") == tuple(service[key] for key in ("KillSignal", "Restart", "RestartPreventExitStatus"))


def test_the_unit_keeps_what_it_makes_private_and_has_no_rights() -> None:
    """No capability, no new privilege, nothing writable but the state; files for the service's user alone."""
    service = unit()
    assert ("", "yes", "strict", "0077", "0700") == tuple(
        service[key] for key in ("CapabilityBoundingSet", "NoNewPrivileges", "ProtectSystem", "UMask", "StateDirectoryMode")
    )
    assert "root" != service["User"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """Every key is known, and what it leaves open is little."""
    copy = tmp_path / "agentflow.service"
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/agentflow/bin/agentflow", shutil.which("true") or ""), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", copy], capture_output=True, text=True, timeout=60, check=False
    ).stdout
    level = re.search(r"Overall exposure level for agentflow.service: ([\d.]+)", told)
    assert level is not None
    assert float(level[1]) <= 2.0


def test_the_image_takes_signals_and_is_not_root() -> None:
    """The process is the first one, without a shell; packages come with their hashes; nothing secret is in a layer."""
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    orders = [line for line in lines if re.match(r"[A-Z]+ ", line)]
    assert ["USER agentflow"] == [line for line in orders if line.startswith("USER")]
    assert [line for line in orders if line.startswith("ENTRYPOINT [")]
    assert [line for line in lines if "--require-hashes" in line]
    assert [] == [line for line in orders if re.match(r"(ARG|ENV)\b.*(TOKEN|SECRET|PASSWORD|KEY)", line)]
