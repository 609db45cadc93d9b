"""What the tests of the configuration share: files in an empty folder, and their mistakes as short rows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from agentflow.config import Diagnostic, Draft, read


class Told(NamedTuple):
    """A diagnostic in short: its code, its place as shown, its help."""

    code: str
    place: str
    help: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is also the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def draft(folder: Path) -> Callable[..., Draft]:
    """Read a text as `agentflow.toml` in an environment that holds *environ* alone."""

    def draft(text: str | bytes, *, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None) -> Draft:
        content = text.encode() if isinstance(text, str) else text
        (folder / "agentflow.toml").write_bytes(content)
        return read("agentflow.toml", environ=environ or {}, overrides=overrides)

    return draft


@pytest.fixture
def told(draft: Callable[..., Draft]) -> Callable[..., list[Told]]:
    """Read a text as `draft` does; return its mistakes in short."""

    def told(text: str | bytes, **layers: Mapping[str, object]) -> list[Told]:
        return [short(diagnostic) for diagnostic in draft(text, **layers).diagnostics]

    return told


def short(diagnostic: Diagnostic) -> Told:
    """Return *diagnostic* in short."""
    return Told(diagnostic.code, str(diagnostic.place), diagnostic.help)
