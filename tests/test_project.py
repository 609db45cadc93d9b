"""Keeps the house rules that no linter knows: sizes, names, seams, wording, the lock and the wheel."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "agentflow"
MODULES = sorted(PACKAGE.rglob("*.py"))

LONGEST_FILE = 400
LONGEST_FUNCTION = 40  # without its docstring
MOST_EXPORTS = 15
MOST_DISTRIBUTIONS = 24

# Where time and chance may come in; everything else is given them, so that a run can be replayed.
# A folder ends with "/".
SEAMS: tuple[str, ...] = ("agentflow/system.py",)
TIME_AND_CHANCE = {"time", "random", "uuid", "secrets"}

# Functions that may be longer than the limit, each with its reason.
LONG_FUNCTIONS: dict[str, str] = {
    "agentflow/engine/engine.py:_carry": "every step comes through it: each call it made would cost each step",
}

SKIPPED_FOLDERS = {"__pycache__", "build", "dist", "htmlcov", "out"}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".lock", ".sh", ".html", ".js", ".css", ".sql", ".json", ".cfg", ""}


def _place(path: Path) -> str:
    """Return *path* as seen from the root, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def _texts() -> Iterator[tuple[str, str]]:
    """Yield place and text of each file that a reader of the project would read."""
    for entry in sorted(ROOT.iterdir()):
        if entry.name in SKIPPED_FOLDERS or (entry.name.startswith(".") and entry.name not in {".ci", ".gitignore"}):
            continue
        for path in [entry] if entry.is_file() else sorted(entry.rglob("*")):
            inside = path.relative_to(ROOT).parts
            hidden = any(part in SKIPPED_FOLDERS or part.startswith(".") for part in inside[1:-1])
            if path.is_file() and not hidden and path.suffix in TEXT_SUFFIXES:
                yield _place(path), path.read_text(encoding="utf-8", errors="replace")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and top-level name of each import, also of those inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def _asks_the_date(node: ast.Attribute) -> bool:
    """Tell whether *node* is `datetime.now`, `datetime.datetime.utcnow`, `date.today` or the like."""
    return node.attr in {"now", "utcnow", "today"} and ast.unparse(node.value).rpartition(".")[2] in {"datetime", "date"}


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of *function* from its `def` to its end, without its docstring."""
    first = function.body[0]
    has_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if has_docstring else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def test_no_file_of_the_package_is_longer_than_the_limit() -> None:
    """A file of the package has at most 400 lines."""
    lengths = {_place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {} == {place: length for place, length in lengths.items() if length > LONGEST_FILE}


def test_no_function_of_the_package_is_longer_than_the_limit() -> None:
    """A function has at most 40 lines without its docstring, unless it is listed with its reason."""
    long = {
        f"{_place(path)}:{function.name}": _lines(function)
        for path in MODULES
        for function in _functions(_tree(path))
        if _lines(function) > LONGEST_FUNCTION
    }
    assert LONG_FUNCTIONS.keys() == long.keys(), long


def test_the_package_exports_few_names() -> None:
    """`agentflow` exports at most 15 names, and each one can be had."""
    import agentflow

    assert len(agentflow.__all__) <= MOST_EXPORTS
    assert [] == [name for name in agentflow.__all__ if not hasattr(agentflow, name)]


def test_no_code_is_made_from_text_or_pickles() -> None:
    """The package never calls eval, exec or compile on text, and never unpickles."""
    found = []
    for path in MODULES:
        tree = _tree(path)
        found += [f"{_place(path)}:{line} {name}" for line, name in _imported(tree) if name in {"pickle", "marshal", "shelve", "dill"}]
        found += [
            f"{_place(path)}:{node.lineno} {node.func.id}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile"}
        ]
    assert [] == found


def test_time_and_chance_come_in_through_the_seams_only() -> None:
    """Only the modules listed in SEAMS import time, random, uuid or secrets, or ask datetime for the present."""
    found = []
    for path in MODULES:
        place = _place(path)
        if any(place == seam or (seam.endswith("/") and place.startswith(seam)) for seam in SEAMS):
            continue
        tree = _tree(path)
        found += [f"{place}:{line} {name}" for line, name in _imported(tree) if name in TIME_AND_CHANCE]
        found += [
            f"{place}:{node.lineno} {ast.unparse(node)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and _asks_the_date(node)
        ]
    assert [] == found


def test_each_seam_exists() -> None:
    """SEAMS names no file or folder that is gone."""
    assert [] == [seam for seam in SEAMS if not (ROOT / seam).exists()]


def test_no_promise_that_cannot_be_kept() -> None:
    """We say "at-least-once execution, exactly-once recording" and never promise the other thing."""
    banned = re.compile(r"exactly[-\s]+once[-\s]+(?:" + "|".join(["execution", "delivery"]) + ")", re.IGNORECASE)
    assert [] == [f"{place}: {match[0]}" for place, text in _texts() for match in banned.finditer(text)]


def test_nothing_names_a_package_registry() -> None:
    """No file names a registry host: each user's own settings say where packages come from."""
    hosts = re.compile("|".join([r"py" r"pi\.org", r"python" r"hosted\.org"]))
    assert [] == [f"{place}: {match[0]}" for place, text in _texts() for match in hosts.finditer(text)]


@pytest.mark.parametrize("name", ["requirements.lock", ".ci/bootstrap.lock"])
def test_the_lock_pins_everything_by_hash_and_names_no_address(name: str) -> None:
    """Every requirement of a lock has an exact version and a hash, and there is no address in it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.findall(r"^[^#\s](?:.*\\\n)*.*$", text, re.MULTILINE)
    assert entries
    assert [] == [entry for entry in entries if not re.match(r"[A-Za-z0-9._-]+==\S+", entry) or "--hash=sha256:" not in entry]
    assert "://" not in text


def test_the_lock_holds_every_declared_dependency() -> None:
    """What pyproject.toml asks for at the core and for development stands in requirements.lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0] for requirement in asked}
    locked = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))
    assert set() == names - locked


def test_the_core_installs_few_distributions() -> None:
    """`pip install agentflow` brings at most 24 distributions, itself included."""
    waiting, installed = ["agentflow"], set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in installed:
            installed.add(name)
            needed = map(Requirement, metadata.requires(name) or [])
            waiting += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert len(installed) <= MOST_DISTRIBUTIONS, sorted(installed)


def test_the_layers_hold() -> None:
    """No module imports upwards, none is outside the layers, and core is pure."""
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def test_the_wheel_holds_the_package_and_nothing_that_runs_by_itself(tmp_path: Path) -> None:
    """The wheel has every module, the type marker and the licence, and no .pth file that would run at each start of Python."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {_place(path) for path in MODULES} | {"agentflow/py.typed"} <= names
    assert [] == [name for name in names if name.endswith(".pth")]
    assert {"agentflow"} == {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_every_test_says_its_rule() -> None:
    """Each test function has a docstring: the rule under test, in a sentence."""
    silent = [
        f"{_place(path)}:{function.lineno} {function.name}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for function in _functions(_tree(path))
        if function.name.startswith("test_") and not ast.get_docstring(function)
    ]
    assert [] == silent


def test_the_documents_name_make_targets_that_exist() -> None:
    """Each `make target` in README and CONTRIBUTING is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    named = {name for page in pages for name in re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.MULTILINE)}
    assert set() == named - targets


def test_decision_records_are_numbered_and_listed() -> None:
    """The decision records are numbered without gaps, and the index lists each one."""
    folder = ROOT / "docs" / "decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [f"{number:04}" for number in range(1, len(records) + 1)] == [name[:4] for name in records]
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert [] == [name for name in records if f"]({name})" not in index]
