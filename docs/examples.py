"""Runs the examples of the documents and compares what they print with what the pages say; `--write` pastes it anew.

    python docs/examples.py                     check README.md, docs/tutorial.md and the pages in docs/{concepts,patterns,how-to}
    python docs/examples.py --write README.md   run one page and paste its output

Each page runs from top to bottom in an empty folder of its own, named `demo`; docs/patterns/NAME.md in a copy of examples/NAME.
What a fenced block is, its first lines say:

- A first line `# name.ext` makes the block a file of that name; `# add to name.ext` adds it to the end of the file. Where the
  example has that file, the block is what the file says.
- A `console` block is a session in a shell: `$ command` is run, the lines after it are what it prints, on both streams.
- Any other `python` block is run as it stands, with `await` at the top as in `python -m asyncio`; the blocks of a page
  share their names. A `text` block right after it is what it prints on stdout.
- Any other `toml` block is a part of a configuration, and has to be one.
- A block after the comment `<!-- not run -->` is left alone, and so is every other language.

Ids, times, durations, digests and addresses differ from run to run and are not compared, nor is the place of the line
`run-ID  accepted`; an expected line `...` stands for any number of lines. A command may name the id of a run that an output
above it shows: when it is run it gets the id that was printed there.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import difflib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    *(ROOT / "README.md", ROOT / "docs" / "tutorial.md"),
    *(page for folder in ("concepts", "patterns", "how-to") for page in sorted((ROOT / "docs" / folder).glob("*.md"))),
)

_FILE = re.compile(r"# (add to )?([\w./-]+\.(?:toml|py|jsonl?|txt|env))\Z")
_FENCE = re.compile(r"(`{3,})(\w*)\Z")
_RUN_ID = re.compile(r"\brun-[0-9a-f]{12}-\d+")
_VARYING = (
    (re.compile(r"\b(run|event)-[0-9a-f]{12}-\d+"), r"\1-ID"),
    (re.compile(r"\b\d+(?:\.\d+)? ?ms\b|\b\d+\.\d+ ?s\b"), "N s"),
    (re.compile(r'("accepted_at"|"duration_seconds"): ?[\d.e-]+'), r"\1: N"),
    (re.compile(r'"idempotency_key": ?"[0-9a-f]{32}"'), '"idempotency_key": "H"'),
    (re.compile(r"\bat 0x[0-9a-f]+"), "at 0xN"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "DIGEST"),
    (re.compile(r"(?<=\S) {2,}"), "  "),  # columns are as wide as what varies in them
)


@dataclass
class Block:
    """One fenced block of a page; `start` and `end` are the numbers of its first line of text and of its closing fence."""

    language: str
    lines: list[str]
    start: int
    end: int
    is_run: bool

    @property
    def file(self) -> tuple[str, bool] | None:
        """The name of the file that the block is, and whether it is added to what there is."""
        found = _FILE.fullmatch(self.lines[0]) if self.lines else None
        return (found[2], found[1] is not None) if found else None


@dataclass
class Session:
    """A page being run: its folder, the names its Python blocks share, the runs' ids for the page's, and what was found to differ."""

    page: Path
    folder: Path
    loop: asyncio.Runner
    names: dict[str, object] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)
    ids: dict[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()  # the files of the example that the page is about
    pasted: dict[tuple[int, int], list[str]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The page's name, as seen from the root where it is below it."""
        return (self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page).as_posix()

    def compare(self, start: int, expected: list[str], printed: list[str]) -> None:
        """Note a difference between what a page says from line *start* on, and what was printed."""
        said, found = (list(dict.fromkeys(_RUN_ID.findall("\n".join(lines)))) for lines in (expected, printed))
        self.ids |= {one: other for one, other in zip(said, found, strict=False) if one not in self.ids}
        self.pasted[(start, start + len(expected))] = printed
        if not matches(expected, printed):
            lines = difflib.unified_diff(expected, printed, "the page says", "it printed", lineterm="")
            self.differences.append("\n".join([f"{self.place}:{start + 1}", *lines]))


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    found: list[Block] = []
    opened: tuple[str, Block] | None = None
    before = ""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines()):
        if opened is None:
            fence = _FENCE.fullmatch(line)
            if fence:
                opened = fence[1], Block(fence[2], [], number + 1, number + 1, before != "<!-- not run -->")
            before = line.strip() or before
        elif line == opened[0]:
            opened[1].end = number
            found.append(opened[1])
            opened, before = None, ""
        else:
            opened[1].lines.append(line)
    return found


def matches(expected: list[str], printed: list[str]) -> bool:
    """Say whether the printed lines are the expected ones, but for what varies."""
    parts = [r"(?:.*\n)*" if line == "..." else re.escape(line) + "\n" for line in _plain_lines(expected)]
    return re.fullmatch("".join(parts), "".join(line + "\n" for line in _plain_lines(printed))) is not None


def _plain_lines(lines: list[str]) -> list[str]:
    """Return the lines without what varies; where among the steps a run is told to be accepted, varies with the disk."""
    return [plain for plain in map(_plain, lines) if plain != "run-ID  accepted"]


def _plain(line: str) -> str:
    for pattern, stand_in in _VARYING:
        line = pattern.sub(stand_in, line)
    return line.rstrip()


def run_page(page: Path) -> Session:
    """Run a page's examples in a fresh folder, and return what came of it."""
    with tempfile.TemporaryDirectory(prefix="agentflow-docs-") as name, asyncio.Runner() as loop:
        folder = Path(name).resolve() / "demo"
        folder.mkdir()
        session = Session(page, folder, loop)
        example = ROOT / "examples" / page.stem
        if page.parent.name == "patterns" and example.is_dir():
            shutil.copytree(example, folder, ignore=shutil.ignore_patterns("__pycache__", ".agentflow"), dirs_exist_ok=True)
            session.given = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        blocks = blocks_of(page)
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if block.is_run:
                _run(session, block, following)
    return session


def _run(session: Session, block: Block, following: Block | None) -> None:
    if block.file is not None:
        name, is_added = block.file
        path = session.folder / name
        if name in session.given and not is_added:
            session.compare(block.start + 1, block.lines[1:], path.read_text(encoding="utf-8").splitlines())
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") + "\n\n" if is_added else ""
        path.write_text(before + "\n".join(block.lines[is_added:]) + "\n", encoding="utf-8")
    elif block.language == "console":
        _run_commands(session, block)
    elif block.language == "python":
        printed = _run_python(session, block)
        is_told = following is not None and following.language == "text" and following.start <= block.end + 4
        if following is not None and is_told:
            session.compare(following.start, following.lines, printed)
        elif printed:
            session.compare(block.end, [], printed)
    elif block.language == "toml":
        _check_toml(session, block)


def _run_commands(session: Session, block: Block) -> None:
    at = 0
    while at < len(block.lines):
        command = block.lines[at].removeprefix("$ ")
        start = at = at + 1
        while at < len(block.lines) and not block.lines[at].startswith("$ "):
            at += 1
        moved = re.fullmatch(r"cd (\S+)", command)
        if moved:
            session.folder = (session.folder / moved[1]).resolve()
            continue
        command = _RUN_ID.sub(lambda found: session.ids.get(found[0], found[0]), command)
        session.compare(block.start + start, block.lines[start:at], _shell(command, session.folder))


def _shell(command: str, folder: Path) -> list[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTFLOW", "PYTEST", "COV"))}
    variables |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", "COLUMNS": "100", "NO_COLOR": "1"}
    variables["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # a reader has pytest, and not necessarily the plugins of this project
    variables.pop("ENVIRONMENT", None)
    done = subprocess.run(  # noqa: S602 - the pages' own commands, as a reader would type them
        command, shell=True, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
    return done.stdout.rstrip("\n").split("\n") if done.stdout.strip() else []


def _run_python(session: Session, block: Block) -> list[str]:
    name = f"{session.page.name}:{block.start + 1}"
    code = compile("\n".join(block.lines), name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    printed = io.StringIO()
    with contextlib.chdir(session.folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        begun = eval(code, session.names)  # noqa: S307 - the page's own code
        if begun is not None:
            session.loop.run(begun)
    return printed.getvalue().rstrip("\n").split("\n") if printed.getvalue() else []


def _check_toml(session: Session, block: Block) -> None:
    from agentflow.config.load import read  # noqa: PLC0415 - a page without such blocks need not wait for it

    path = session.folder / "part.toml"
    path.write_text("\n".join(block.lines) + "\n", encoding="utf-8")
    told = [one.render() for one in read(path, environ={}).diagnostics]
    if told:
        session.differences.append("\n".join([f"{session.place}:{block.start + 1}", *told]))
    path.unlink()


def write(session: Session) -> None:
    """Paste what was printed into the page; outputs that match as they stand stay, and so do the ids of runs."""
    known = {printed: said for said, printed in session.ids.items()}
    lines = session.page.read_text(encoding="utf-8").splitlines()
    for (start, end), printed in sorted(session.pasted.items(), reverse=True):
        if not matches(lines[start:end], printed):
            lines[start:end] = [_RUN_ID.sub(lambda found: known.get(found[0], found[0]), line) for line in printed]
    session.page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Check or write the pages that are named, all when none is."""
    options = argparse.ArgumentParser(description="Run the examples of the documents.")
    options.add_argument("pages", nargs="*", type=Path)
    options.add_argument("--write", action="store_true", help="paste what the examples print")
    given = options.parse_args()
    differences: list[str] = []
    for page in [path.resolve() for path in given.pages] or PAGES:
        session = run_page(page)
        differences += session.differences
        if given.write:
            write(session)
    print("\n\n".join(differences) or "all as the pages say")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
