"""The index of the examples is complete, and every file in it is sound."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
FOLDERS = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))
MEANT_TO_FAIL = {"examples/debugging/broken.toml"}
WITH_A_MODE_OF_ITS_OWN = {"examples/own_mode/agentflow.toml"}
CONFIGS = sorted(
    str(path.relative_to(ROOT)) for path in [*EXAMPLES.glob("*/*.toml"), *ROOT.glob("configs/*.toml")] if path.name != "base.toml"
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_example_is_listed_and_explained(folder: str) -> None:
    """Each folder stands in the index and has a README that says how to run it."""
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    page = (EXAMPLES / folder / "README.md").read_text(encoding="utf-8")
    assert f"({folder}/)" in index
    assert page.startswith("# ")
    assert "```" in page


def test_index_names_no_folder_that_is_not_there() -> None:
    """Every link of the index leads to a folder or file."""
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", index)
    assert links
    assert [link for link in links if "://" not in link and not (EXAMPLES / link).exists()] == []


@pytest.mark.parametrize("config", CONFIGS)
def test_every_file_validates(agentflow: Callable[..., Any], config: str) -> None:
    """`agentflow validate` finds nothing wrong in any file but the one that is there to be wrong."""
    outcome = agentflow("validate", config, *(["--handlers"] if config in WITH_A_MODE_OF_ITS_OWN else []))
    assert outcome.code == (2 if config in MEANT_TO_FAIL else 0), outcome.stdout + outcome.stderr
