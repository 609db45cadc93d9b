"""The terminal: what is printed where. Results go to stdout, all the rest to stderr; neither ever breaks on a character."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from agentflow.cli.exits import Exit
from agentflow.errors import AgentflowError

UNUSED_KEY = "AF0290"  # keys of modes not chosen: only `validate` lists them


def prepare() -> bool:
    """Let both streams write what their encoding lacks as escapes instead of failing; False when stdout is closed.

    With stdout closed from the start nothing may run: the next file that is opened would take its place.
    """
    if sys.stdout is None:
        return False
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - it stays open as long as the process
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Callable[..., None] | None = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    return True


def words() -> list[str]:
    """Return the words after the program's name, read as UTF-8 whatever the locale says."""
    return [os.fsencode(word).decode("utf-8", "surrogateescape") for word in sys.argv[1:]]


def out(text: str) -> None:
    """Write a line of the command's result."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """Write a line for the person at the terminal; one that cannot be written must not stop what it tells of."""
    from agentflow.core.redaction import KNOWN

    with suppress(OSError, ValueError):
        sys.stderr.write(KNOWN.redacted(text) + "\n")


def flush() -> None:
    """Write what the streams still hold."""
    sys.stdout.flush()
    sys.stderr.flush()


def close_quietly() -> None:
    """Give stdout somewhere to go after its reader went away, so that Python's own flush at exit says nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def leave(code: int) -> NoReturn:
    """End the process at once, with what was written flushed: for when something is left that would never end."""
    try:
        flush()
    finally:
        os._exit(code)


def is_unicode() -> bool:
    """Whether stdout can show every character."""
    return (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "").startswith("utf")


def as_json(value: object, *, is_indented: bool = False) -> str:
    """Return JSON on one line, or indented for a person; only ASCII where stdout could not show the rest."""
    separators = None if is_indented else (",", ":")
    return json.dumps(value, ensure_ascii=not is_unicode(), indent=2 if is_indented else None, separators=separators)


def safe(text: str) -> str:
    """Return text with everything escaped that could move the cursor or hide text; line ends stay."""
    from agentflow.config.display import printable

    return "\n".join(printable(line) for line in text.split("\n"))


def show_error(error: BaseException, *, place: str = "", is_debug: bool = False) -> Exit:
    """Say on stderr what went wrong, and where in the input, and return the exit code that fits."""
    try:
        if is_debug:
            note(safe("".join(traceback.format_exception(error)).rstrip()))
        note(describe(error, place))
    except OSError:
        return Exit.FAILED
    return Exit.USAGE if isinstance(error, AgentflowError) else Exit.FAILED


def describe(error: BaseException, place: str = "") -> str:
    """Return what a person is told of an exception."""
    diagnostics = getattr(error, "diagnostics", None)
    if diagnostics is not None:
        from agentflow.config.diagnostics import report

        return report(one for one in diagnostics if one.code != UNUSED_KEY)
    if isinstance(error, AgentflowError):
        hint = f"\nhelp: {error.hint}" if error.hint else ""
        return safe(f"error[{error.code}]: {place}{': ' if place else ''}{error.message}{hint}")
    from agentflow.core.failure import failure_of

    told = failure_of(error)
    return safe(f"error: {told}".replace("\n", " ") + "\nhelp: run again with --debug for the traceback")
