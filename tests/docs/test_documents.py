"""Keeps the documents true: their examples run, their links lead somewhere, what is generated is fresh."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples.py"
FOLDERS = [ROOT / "docs" / "concepts", ROOT / "docs" / "patterns", ROOT / "docs" / "how-to"]
RUN_PAGES = [ROOT / "README.md", ROOT / "docs" / "tutorial.md", *(page for folder in FOLDERS for page in sorted(folder.glob("*.md")))]
SKIPPED = {"build", "dist", "htmlcov", "out", "__pycache__"}

_LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^()\s]+(?:\([^()\s]*\))?)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_CODE = re.compile(r"^(`{3,}).*?^\1$|`[^`\n]+`", re.MULTILINE | re.DOTALL)


def _pages() -> Iterator[Path]:
    """Yield every Markdown page of the project."""
    for path in sorted(ROOT.rglob("*.md")):
        parts = path.relative_to(ROOT).parts
        if not any(part in SKIPPED or part.startswith(".") for part in parts):
            yield path


def _anchor(match: re.Match[str]) -> str:
    """Return the anchor of a heading, made as GitHub makes it."""
    words = re.sub(r"[^\w\- ]", "", match[1].strip().lower())
    return words.replace(" ", "-")


def _is_broken(page: Path, link: str) -> bool:
    """Say whether a relative link leads nowhere."""
    name, _, anchor = unquote(link).partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists():
        return True
    if not anchor or target.suffix != ".md":
        return False
    return anchor not in {_anchor(found) for found in _HEADING.finditer(target.read_text(encoding="utf-8"))}


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[Path, Future[subprocess.CompletedProcess[str]]]]:
    """All pages being run, each in a process of its own, two at a time."""

    def run(page: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, EXAMPLES, page], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    with ThreadPoolExecutor(2) as pool:
        longest_first = sorted(RUN_PAGES, key=lambda page: page.read_text(encoding="utf-8").count("\n$ "), reverse=True)
        yield {page: pool.submit(run, page) for page in longest_first}


@pytest.mark.parametrize("page", RUN_PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_examples_print_what_the_page_says(page: Path, runs: dict[Path, Future[subprocess.CompletedProcess[str]]]) -> None:
    """Each command and snippet of a page runs, and prints what stands below it."""
    done = runs[page].result()
    assert 0 == done.returncode, done.stdout + done.stderr


def test_an_example_that_prints_something_else_is_found(tmp_path: Path) -> None:
    """A page whose output is not what its example prints fails, and ids and durations alone make no difference."""
    page = tmp_path / "page.md"
    text = '```python\nprint("run-0123456789ab-1 took 0.25 s")\n```\n\n```text\nrun-ba9876543210-7 took 1.75 s\n```\n'
    page.write_text(text, encoding="utf-8")
    command = [sys.executable, EXAMPLES, page]
    assert 0 == subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode
    page.write_text(text.replace("took 1.75", "needed 1.75"), encoding="utf-8")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 1 == done.returncode
    assert "+run-0123456789ab-1 took 0.25 s" in done.stdout


def test_a_command_may_name_a_run_that_an_output_above_shows(tmp_path: Path) -> None:
    """An id in a command stands for the one that was printed in its place, and writing a page anew leaves its ids as they are."""
    page = tmp_path / "page.md"
    commands = ("echo run-$(date +%s%N | tail -c 13)-1 | tee id", 'test run-0123456789ab-1 = "$(cat id)" && echo same')
    text = f"```console\n$ {commands[0]}\nrun-0123456789ab-1\n$ {commands[1]}\nsame\n$ echo for $(cat id)\nPLACE\n```\n"
    page.write_text(text.replace("PLACE", "for run-0123456789ab-1"), encoding="utf-8")
    command = [sys.executable, EXAMPLES, page]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout
    page.write_text(text.replace("PLACE", "stale"), encoding="utf-8")
    subprocess.run([*command[:2], "--write", page], cwd=ROOT, capture_output=True, check=False)
    assert text.replace("PLACE", "for run-0123456789ab-1") == page.read_text(encoding="utf-8")


def test_relative_links_lead_somewhere() -> None:
    """Every relative link of every page names a file or folder that exists, and its anchor a heading in it."""
    broken = [
        f"{page.relative_to(ROOT)}: {found[1]}"
        for page in _pages()
        for found in _LINK.finditer(_CODE.sub("", page.read_text(encoding="utf-8")))
        if not re.match(r"[a-z]+:", found[1]) and _is_broken(page, found[1])
    ]
    assert [] == broken


def test_generated_pages_are_fresh(tmp_path: Path) -> None:
    """What is generated says what the code says now, whatever the current folder is called; `make docs` writes it anew."""
    command = [sys.executable, ROOT / "docs" / "generate.py", "--check"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_architecture_names_files_that_exist() -> None:
    """Each Python file that ARCHITECTURE.md names is there, and each module and folder of the package is named in it."""
    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    package = ROOT / "agentflow"
    named = set(re.findall(r"`(?:agentflow/)?([\w/]+\.py)`", text))
    places = {path.relative_to(package).as_posix() for path in package.rglob("*.py")}
    assert set() == {name for name in named if not any(place == name or place.endswith(f"/{name}") for place in places)}
    tops = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    tops |= {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    assert set() == {top for top in tops if f"`agentflow/{top}" not in text and f"`{top}`" not in text}
