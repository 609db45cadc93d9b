"""`extends`: base files, merged below the file that names them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.config import Draft, read
from agentflow.config.files import MOST_FILES


@pytest.fixture
def files(folder: Path) -> Callable[..., Draft]:
    """Write texts by file name; read the first."""

    def files(texts: dict[str, str], environ: dict[str, str] | None = None) -> Draft:
        for name, text in texts.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return read(next(iter(texts)), environ=environ or {})

    return files


def test_tables_merge_and_the_rest_is_replaced(files: Callable[..., Draft]) -> None:
    """Tables meet key by key; arrays and single values of the file replace those of its base."""
    base = '[orchestration]\nmode = "sequential"\nmax_hops = 3\nsequential_agents = ["a", "b"]\n[agents.a]\nrole = "base"\n[agents.b]\n'
    top = 'extends = "base.toml"\n[orchestration]\nsequential_agents = ["b"]\n[agents.a]\nversion = "2"\n[agents.c]\n'
    checked = files({"dev.toml": top, "base.toml": base})
    assert checked.diagnostics == []
    assert checked.config is not None
    flow = checked.config.orchestration
    assert ("sequential", 3, ["b"]) == (flow.mode, flow.max_hops, flow.sequential_agents)
    assert list(checked.config.agents) == ["a", "b", "c"]
    assert ("base", "2") == (checked.config.agents["a"].role, checked.config.agents["a"].version)


def test_a_chain_of_bases_is_read_relative_to_each_file(files: Callable[..., Draft]) -> None:
    """A base in a folder below may extend a file beside itself."""
    texts = {
        "top.toml": "extends = 'parts/middle.toml'\n[runner]\nqueue_size = 1\n",
        "parts/middle.toml": "extends = 'base.toml'\n[runner]\nqueue_size = 2\nmax_running = 2\n",
        "parts/base.toml": "[runner]\nqueue_size = 3\nmax_running = 3\npythonpath = ['lib']\n",
    }
    checked = files(texts)
    assert checked.config is not None
    assert (1, 2) == (checked.config.runner.queue_size, checked.config.runner.max_running)
    assert checked.folder_of(("runner", "pythonpath")) == Path("parts")
    assert checked.folder_of(("runner", "queue_size")) == Path()
    assert checked.folder_of(("logging", "file")) == Path()


def test_a_mistake_is_told_in_the_file_that_makes_it(files: Callable[..., Draft]) -> None:
    """Diagnostics name base files; those of the file itself come first."""
    texts = {"top.toml": "extends = 'base.toml'\n[logging]\nformat = 'xml'\n", "base.toml": "[runner]\nqueue_size = 0\n\n[loging]\n"}
    assert [("AF0104", "top.toml:3:10"), ("AF0104", "base.toml:2:14"), ("AF0102", "base.toml:4:2")] == [
        (one.code, str(one.place)) for one in files(texts).diagnostics
    ]


def test_a_missing_key_is_told_at_the_header_of_the_file_itself(files: Callable[..., Draft]) -> None:
    """Where both files have the table, the top file's header lacks the key."""
    texts = {"top.toml": "extends = 'base.toml'\n[llm]\nprovider = 'ollama'\n", "base.toml": "[llm]\ntemperature = 1\n"}
    assert [("AF0105", "top.toml:2:1")] == [(one.code, str(one.place)) for one in files(texts).diagnostics]


def test_a_base_may_complete_the_file(files: Callable[..., Draft]) -> None:
    """Keys are required of all files together, and a value that is overridden need not have its variable."""
    texts = {
        "top.toml": "extends = '${BASE:-base}.toml'\n[llm]\nprovider = 'ollama'\nbase_url = 'http://localhost'\n",
        "base.toml": "[llm]\nmodel = 'm'\nbase_url = '${NOT_SET}'\n",
    }
    assert files(texts).diagnostics == []


@pytest.mark.parametrize(
    ("texts", "code", "place", "message", "hint"),
    [
        (
            {"a.toml": "extends = 'bsae.toml'", "base.toml": ""},
            "AF0112",
            "a.toml:1:11",
            "cannot read `bsae.toml`: no such file or directory",
            "did you mean `base.toml`?",
        ),
        ({"a.toml": "extends = 'a.toml'"}, "AF0112", "a.toml:1:11", "`extends` goes in a circle: a.toml -> a.toml", ""),
        (
            {"a.toml": "extends = 'b.toml'", "b.toml": "\nextends = 'a.toml'"},
            "AF0112",
            "b.toml:2:11",
            "`extends` goes in a circle: a.toml -> b.toml -> a.toml",
            "",
        ),
        (
            {"in/a.toml": "extends = '../b.toml'", "b.toml": ""},
            "AF0112",
            "in/a.toml:1:11",
            "`../b.toml` is outside the configuration's folder",
            "keep base files beside the first file, or in folders below it",
        ),
        (
            {"a.toml": "extends = '/etc/passwd'"},
            "AF0112",
            "a.toml:1:11",
            "`/etc/passwd` is outside the configuration's folder",
            "keep base files beside the first file, or in folders below it",
        ),
        ({"a.toml": 'extends = "a\\u0000b"'}, "AF0112", "a.toml:1:11", "`a\\x00b` is not the name of a file", ""),
        ({"a.toml": "extends = '.'"}, "AF0112", "a.toml:1:11", "cannot read `.`: it is a folder", ""),
        ({"a.toml": "extends = ['b.toml']"}, "AF0103", "a.toml:1:11", "`extends` must be a string: one file", ""),
        ({"a.toml": "extends = '${B}'"}, "AF0110", "a.toml:1:11", "the variable `B` is not set", "set it, or give a default: ${B:-...}"),
        ({"a.toml": "extends = 'b.toml'", "b.toml": "x = ["}, "AF0101", "b.toml:1:6", "invalid value", None),
    ],
)
def test_a_base_that_cannot_be_read_is_told(
    files: Callable[..., Draft], texts: dict[str, str], code: str, place: str, message: str, hint: str | None
) -> None:
    """The mistake is told where `extends` is said."""
    (diagnostic,) = files(texts).diagnostics
    assert (code, place, message) == (diagnostic.code, str(diagnostic.place), diagnostic.message)
    assert hint in {None, diagnostic.help}


def test_without_its_base_a_file_is_not_called_incomplete(files: Callable[..., Draft]) -> None:
    """What is missing may stand in the base: there is no config, and no complaint about missing keys."""
    checked = files({"a.toml": "extends = 'b.toml'\n[llm]\nprovider = 'olama'\n"})
    assert ["AF0112", "AF0104"] == [one.code for one in checked.diagnostics]
    assert checked.config is None


def test_a_link_does_not_lead_outside(files: Callable[..., Draft], folder: Path) -> None:
    """A symbolic link is followed before the check."""
    (folder / "secret.toml").write_text("[logging]\nfile = 'x'\n", encoding="utf-8")
    (folder / "in").mkdir()
    (folder / "in" / "b.toml").symlink_to(folder / "secret.toml")
    assert ["AF0112"] == [one.code for one in files({"in/a.toml": "extends = 'b.toml'"}).diagnostics]


def test_a_chain_has_an_end(files: Callable[..., Draft]) -> None:
    """At most eight files extend one another."""
    texts = {f"f{number}.toml": f"extends = 'f{number + 1}.toml'" for number in range(MOST_FILES)}
    texts[f"f{MOST_FILES}.toml"] = ""
    (diagnostic,) = files(texts).diagnostics
    assert ("AF0112", f"f{MOST_FILES - 1}.toml:1:11") == (diagnostic.code, str(diagnostic.place))


def test_a_mapping_cannot_extend(folder: Path) -> None:
    """Without a file there is no place to look for a base."""
    (diagnostic,) = read({"extends": "base.toml"}, environ={}).diagnostics
    assert ("AF0112", "a configuration without a file cannot extend one") == (diagnostic.code, diagnostic.message)
