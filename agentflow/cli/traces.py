"""Where in the user's own code an exception came from: frames of agentflow and of the standard library are left out."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import agentflow

_OURS = str(Path(agentflow.__file__).parent)
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_INSTALLED = ("site-packages", "dist-packages")  # stand in the standard library's folder, and are no part of it


def place_of(error: BaseException | None) -> str:
    """Return `file:line in function` of the innermost frame in the user's code, "" where there is none."""
    if error is None:
        return ""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_of_user(frame.filename)]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""


def trace_of(error: BaseException) -> str:
    """Return an exception's traceback, and those of its causes, with the user's frames alone."""
    told = traceback.TracebackException.from_exception(error)
    _strip(told)
    return "".join(told.format()).rstrip()


def _strip(told: traceback.TracebackException) -> None:
    told.stack = traceback.StackSummary.from_list([frame for frame in told.stack if _is_of_user(frame.filename)])
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _strip(other)


def _is_of_user(file: str) -> bool:
    if file.startswith("<frozen ") or _is_in(file, _OURS):
        return False
    return not any(_is_in(file, place) for place in _STANDARD) or any(part in _INSTALLED for part in Path(file).parts)


def _is_in(file: str, folder: str) -> bool:
    return Path(file).is_relative_to(folder)
