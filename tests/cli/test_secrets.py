"""No command takes a secret as an argument: whoever lists the processes of a machine would see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflow.cli.commands import command
from agentflow.config.secret import is_secret


def options(of: Any, path: str = "agentflow") -> Iterator[tuple[str, str]]:
    """Yield the options and arguments of a command and of those below it."""
    for parameter in of.params:
        for name in (parameter.name, *parameter.opts):
            yield path, name
    for name, below in getattr(of, "commands", {}).items():
        yield from options(below, f"{path} {name}")


def test_s29_no_option_is_for_a_secret() -> None:
    """A file that holds one may be named; the secret itself may not."""
    found = [*options(command())]
    assert len({path for path, _ in found}) > 30
    assert [] == [(path, name) for path, name in found if is_secret(name) and not name.endswith(("file", "_FILE"))]
