"""Results on stdout: a readable block for a person, or JSON exactly as `RunResult.to_dict` says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TextIO

from agentflow.cli.progress import duration, ending
from agentflow.cli.terminal import as_json, safe
from agentflow.cli.traces import place_of
from agentflow.core.failure import Failure
from agentflow.core.result import RunResult
from agentflow.core.run_view import RunView
from agentflow.core.values import Json
from agentflow.errors import RoutingError

Form = Literal["text", "json", "jsonl"]
LONGEST_VALUE = 2000


class Results:
    """Writes results to the stream that was stdout when it was made.

    `text` and `jsonl` write each result at once; `json` writes one object at the end, or an array when there are several, and
    with `is_list` in any case.
    """

    def __init__(self, form: Form, *, is_list: bool = False) -> None:
        self._form = form
        self._is_list = is_list
        self._stream: TextIO = sys.stdout
        self._kept: list[dict[str, Json]] = []
        self._count = 0
        self.agents: tuple[str, ...] = ()  # those that an event may name as its target
        self.failure: OSError | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was taken in yet."""
        return self._count == 0

    def add(self, result: RunResult, children: Sequence[RunResult] = ()) -> bool:
        """Take in one result, as JSON with those of its `children` if there are any.

        False when stdout cannot be written any more, as `failure` says.
        """

        def row() -> dict[str, Json]:
            told: list[Json] = [child.to_dict() for child in children]
            return {**result.to_dict(), **({"children": told} if told else {})}

        self._put(row, lambda: block(result, self.agents))
        return self.failure is None

    def rest(self, view: RunView) -> None:
        """Take in a run that is paused: as JSON it is what `runs show` prints."""
        row = view.row
        told = ending(row.state, row.reason) if row.reason else row.state
        waits = [f"waits: {approval.position}  {approval.agent}" for approval in view.approvals]
        self._put(view.to_dict, lambda: (safe(line) for line in (f"{told}  {row.run_id}", *waits)))

    def _put(self, row: Callable[[], dict[str, Json]], lines: Callable[[], Iterator[str]]) -> None:
        self._count += 1
        if self._form == "json":
            self._kept.append(row())
        elif self._form == "jsonl":
            self._write(as_json(row()))
        else:
            self._write(("\n" if self._count > 1 else "") + "\n".join(lines()))

    def close(self) -> None:
        """Write what was kept for the end."""
        if self._form != "json" or not (self._kept or self._is_list):
            return
        told = self._kept[0] if len(self._kept) == 1 and not self._is_list else self._kept
        self._write(as_json(told, is_indented=self._stream.isatty()))

    def _write(self, text: str) -> None:
        if self.failure is None:
            try:
                self._stream.write(text + "\n")
                self._stream.flush()
            except OSError as error:
                self.failure = error


def block(result: RunResult, agents: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield the lines that tell a person of a result; `agents` are named where the event lacked a target."""
    calls = result.usage.calls
    made = f"{calls} call{'s' * (calls != 1)} in {duration(result.timing.duration_s)}"
    yield safe(f"{ending(result.status, result.reason)}  {made}  {result.run_id}")
    if result.error is not None:
        yield from _failed("error", result.error, agents)
    for name, failure in result.errors.items():
        if failure != result.error:
            yield from _indented("failed", told(failure) if failure.agent else f"{name}: {told(failure)}")
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


def told(failure: Failure) -> str:
    """Return a failure with the place in the user's code that it came from."""
    place = place_of(failure.exception)
    return f"{failure} ({place})" if place else str(failure)


def _failed(title: str, failure: Failure, agents: tuple[str, ...]) -> Iterator[str]:
    error = failure.exception
    if isinstance(error, RoutingError) and error.message.startswith("missing routing key"):
        yield from _indented(title, f"{failure.type}: {error.message}")
        listed = f" (one of: {', '.join(agents)})" if agents else ""
        yield from _indented("help", f"run with --target NAME{listed} or set default_agent in [orchestration]")
    else:
        yield from _indented(title, told(failure))


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
