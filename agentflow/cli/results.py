"""Results on stdout: a readable block for a person, or JSON exactly as `RunResult.to_dict` says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Literal, TextIO

from agentflow.cli.progress import duration, ending
from agentflow.cli.terminal import as_json, safe
from agentflow.core.result import RunResult

Form = Literal["text", "json", "jsonl"]
LONGEST_VALUE = 2000


class Results:
    """Writes results to the stream that was stdout when it was made.

    `text` and `jsonl` write each result at once; `json` writes one object at the end, or an array when there are several.
    """

    def __init__(self, form: Form) -> None:
        self._form = form
        self._stream: TextIO = sys.stdout
        self._kept: list[RunResult] = []
        self._count = 0
        self.failure: OSError | None = None

    def add(self, result: RunResult) -> bool:
        """Take in one result; False when stdout cannot be written any more, as `failure` says."""
        self._count += 1
        if self._form == "json":
            self._kept.append(result)
        elif self._form == "jsonl":
            self._write(as_json(result.to_dict()))
        else:
            self._write(("\n" if self._count > 1 else "") + "\n".join(block(result)))
        return self.failure is None

    def close(self) -> None:
        """Write what was kept for the end."""
        if self._form != "json" or not self._kept:
            return
        rows = [result.to_dict() for result in self._kept]
        self._write(as_json(rows[0] if len(rows) == 1 else rows, is_indented=self._stream.isatty()))

    def _write(self, text: str) -> None:
        if self.failure is None:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except OSError as error:
                self.failure = error


def block(result: RunResult) -> Iterator[str]:
    """Yield the lines that tell a person of a result."""
    calls = result.usage.calls
    made = f"{calls} call{'s' * (calls != 1)} in {duration(result.timing.duration_s)}"
    yield safe(f"{ending(result.status, result.reason)}  {made}  {result.run_id}")
    if result.error is not None:
        yield from _indented("error", str(result.error))
    for name, failure in result.errors.items():
        if failure != result.error:
            yield from _indented("failed", str(failure) if failure.agent else f"{name}: {failure}")
    for conflict in result.conflicts:
        yield from _indented(
            "conflict", f"{conflict.key}: written differently by {', '.join(conflict.agents)}; kept that of {conflict.winner}"
        )
    state = result.state.to_dict()
    for title, table in (("state", state["data"]), ("meta", state["meta"])):
        if table:
            yield title
        for key, value in table.items():
            yield f"  {safe(str(key))} = {shown(value)}"


def shown(value: object) -> str:
    """Return a value as JSON on one line, safe to print, and cut when it is long."""
    text = as_json(value)
    cut = f"… ({len(text)} characters; --json prints all)" if len(text) > LONGEST_VALUE else ""
    return safe(text[:LONGEST_VALUE]) + cut


def _indented(title: str, text: str) -> Iterator[str]:
    first, *rest = safe(text).split("\n")
    yield f"{title}: {first}"
    for line in rest:
        yield f"    {line}"
