"""Asks for known vulnerabilities in everything requirements.lock installs; further arguments go to pip-audit.

Fails when there is one. Where the service cannot be reached, or knows nothing of a requirement (as behind many
mirrors), it says so and succeeds, so that `make check` also works on a train: silence is never taken for a pass.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
UNREACHABLE = re.compile(
    r"ConnectionError|ServiceError|ProxyError|SSLError|ConnectTimeout|ReadTimeout|timed out|Max retries|HTTPError", re.IGNORECASE
)


def _say(line: str) -> None:
    sys.stderr.write(f"audit: {line}\n")


def _ask(arguments: list[str]) -> tuple[list[dict[str, Any]] | None, str]:
    """Return pip-audit's row for each requirement (None when it gave none) and what it said besides."""
    command = [str(Path(sys.executable).with_name("pip-audit")), "--requirement", "requirements.lock", "--require-hashes", "--disable-pip"]
    options = ["--progress-spinner", "off", "--timeout", "15", "--format", "json"]
    done = subprocess.run([*command, *options, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"], done.stderr
    except (ValueError, KeyError):
        return None, done.stderr


def main(arguments: list[str]) -> int:
    """Return 1 when a requirement has a known vulnerability or the audit itself is broken, else 0."""
    rows, said = _ask(arguments)
    last = said.strip().rpartition("\n")[2][:200]
    if rows is None:
        if UNREACHABLE.search(said):
            _say(f"skipped, the vulnerability service cannot be reached: {last}")
            return 0
        _say(f"pip-audit failed:\n{said}")
        return 1
    unknown = [row["name"] for row in rows if "skip_reason" in row]
    if len(unknown) == len(rows):
        _say(f"skipped, the service that answers here knows none of the {len(rows)} requirements")
        return 0
    if unknown:
        _say(f"not looked up, unknown to the service: {', '.join(unknown)}")
    vulnerable = [row for row in rows if row.get("vulns")]
    for row in vulnerable:
        for found in row["vulns"]:
            fixed = ", ".join(found["fix_versions"]) or "nowhere yet"
            _say(f"{row['name']} {row['version']}: {found['id']}, fixed in {fixed}: {found.get('description', '')[:200]}")
    _say(f"{len(rows) - len(unknown)} of {len(rows)} requirements looked up, {len(vulnerable)} vulnerable")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
