"""The section [journal]: what it may say, where that leads, and which store it comes to."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import run

import pytest

from agentflow import app
from agentflow.config import Draft
from agentflow.config.journal import BESIDE_THE_FILE, IN_MEMORY
from agentflow.errors import StoreError

AT = "agentflow.toml:"
_PATH = "write the file's path right after `sqlite:`, without `//` or `~`, e.g. sqlite:.agentflow/journal.db"
_BARE = "write `sqlite:` before the path of a file"
_NEEDS_FILE = 'write url = "sqlite:PATH", or take durability out'
_NEEDS_MEMORY = 'write url = "memory:", or durability = "relaxed" for speed'


def choice(folder: Path, text: str, default: str = IN_MEMORY, **layers: object) -> app.JournalChoice:
    """Return the journal that a file with this text in a folder comes to."""
    folder.mkdir(exist_ok=True)
    (folder / "agentflow.toml").write_text(text, encoding="utf-8")
    project = app.load(folder / "agentflow.toml", environ={}, **layers)  # type: ignore[arg-type]
    project.require(may_lack_modes=True)
    return project.journal(default)


@pytest.mark.parametrize(
    "url", ["memory:", "sqlite:a.db", "sqlite:/var/lib/a b.db", "sqlite:../a.db", "sqlite:.agentflow/journal.db", "sqlite:.a"]
)
def test_a_url_names_memory_or_a_file(told: Callable[..., list[object]], url: str) -> None:
    """Both forms are taken, with any path to a file."""
    assert told(f'[journal]\nurl = "{url}"\n') == []


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("", _BARE),
        ("journal.db", _BARE),
        (".agentflow/journal.db", _BARE),
        ("memory", "write memory:"),
        (":memory:", "write memory:"),
        ("memory://", "write memory:"),
        ("sqlite::memory:", "write memory:"),
        ("sqlite://:memory:", "write memory:"),
        ("sqlite:", _PATH),
        ("sqlite: a.db", _PATH),
        ("sqlite:///a.db", _PATH),
        ("sqlite:~/a.db", _PATH),
        ("sqlite:.", _PATH),
        ("sqlite:a/", _PATH),
        ("sqlite:a/..", _PATH),
        ("sqlite:a\\u0000b", _PATH),
        ("SQLite:a.db", _PATH),
        ("mysql://host/db", ""),
    ],
)
def test_another_url_is_refused_where_it_stands(draft: Callable[..., Draft], url: str, hint: str) -> None:
    """What names no journal is told with its place and what to write."""
    (found,) = draft(f'[journal]\nurl = "{url}"\n').diagnostics
    assert (found.code, str(found.place), found.help) == ("AF0104", AT + "2:7", hint)
    assert found.message == "`url` must be `memory:` or `sqlite:PATH`"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_a_server_is_not_supported_yet_and_its_password_not_shown(draft: Callable[..., Draft], scheme: str) -> None:
    """PostgreSQL has an error of its own kind, in which the password of the url does not stand."""
    (found,) = draft(f'[journal]\nurl = "{scheme}://me:canary@host/db"\n').diagnostics
    assert (found.code, str(found.place), found.help) == ("AF0106", AT + "2:7", "today it is `memory:` or `sqlite:PATH`")
    assert found.message.endswith("is not supported yet")
    assert "canary" not in found.render() + str(found.to_dict()) + found.annotation()


@pytest.mark.parametrize(
    ("text", "code", "place", "hint"),
    [
        ('durability = "ful"', "AF0104", "2:14", "did you mean `full`?"),
        ("durability = true", "AF0103", "2:14", "put it in quotes"),
        ('retention_days = "30d"', "AF0103", "2:18", ""),
        ("retention_days = 0", "AF0104", "2:18", ""),
        ("retention_days = 36_501", "AF0104", "2:18", ""),
        ("snapshot_every = 0", "AF0104", "2:18", ""),
        ("snapshot_every = 1.5", "AF0103", "2:18", ""),
        ("retention = 5", "AF0102", "2:1", "did you mean `retention_days`?"),
        ('durability = "none"\nurl = "sqlite:a.db"', "AF0120", "2:14", _NEEDS_MEMORY),
        ('url = "memory:"\ndurability = "full"', "AF0120", "3:14", _NEEDS_FILE),
        ('url = "memory:"\ndurability = "relaxed"', "AF0120", "3:14", _NEEDS_FILE),
    ],
)
def test_a_mistake_in_the_section_is_told(told: Callable[..., list[object]], text: str, code: str, place: str, hint: str) -> None:
    """Each wrong value, and each pair that rules itself out, gives one diagnostic with place and hint."""
    assert told(f"[journal]\n{text}\n") == [(code, AT + place, hint)]


@pytest.mark.parametrize("text", ['url = "a.db"\ndurability = "none"', 'url = "sqlite:a.db"\ndurability = "non"'])
def test_a_value_that_is_wrong_contradicts_nothing(told: Callable[..., list[object]], text: str) -> None:
    """What could not be read is told once, and not compared."""
    assert len(told(f"[journal]\n{text}\n")) == 1


def test_keys_are_led_to_the_section(told: Callable[..., list[object]]) -> None:
    """A key of [journal] that stands elsewhere is told where it belongs."""
    assert told("[runner]\nretention_days = 5\n") == [("AF0102", AT + "2:1", "it belongs in [journal]")]


# --- where it leads ---


def test_without_a_section_the_caller_decides(tmp_path: Path) -> None:
    """Python keeps nothing on disk, the command line has a file beside the configuration."""
    in_memory = choice(tmp_path, "")
    assert in_memory == app.JournalChoice(None, "none", 100, 30)
    assert in_memory.url == "memory:"
    on_disk = choice(tmp_path, "", BESIDE_THE_FILE)
    assert on_disk == app.JournalChoice(tmp_path / ".agentflow" / "journal.db", "full", 100, 30)
    assert on_disk.url == f"sqlite:{tmp_path}/.agentflow/journal.db"


@pytest.mark.parametrize("default", [IN_MEMORY, BESIDE_THE_FILE])
def test_a_url_holds_whoever_asks(tmp_path: Path, default: str) -> None:
    """A url that is given is the same for Python and the command line, and so is all that stands beside it."""
    text = '[journal]\nurl = "sqlite:x/y.db"\ndurability = "relaxed"\nretention_days = 7\nsnapshot_every = 1\n'
    assert choice(tmp_path, text, default) == app.JournalChoice(tmp_path / "x" / "y.db", "relaxed", 1, 7)
    assert choice(tmp_path, '[journal]\nurl = "sqlite:y.db"\n', default).durability == "full"
    assert choice(tmp_path, '[journal]\nurl = "memory:"\n', default) == app.JournalChoice(None, "none", 100, 30)
    assert choice(tmp_path, '[journal]\nurl = "memory:"\ndurability = "none"\n', default).durability == "none"


@pytest.mark.parametrize("default", [IN_MEMORY, BESIDE_THE_FILE])
@pytest.mark.parametrize(("durability", "path"), [("none", None), ("relaxed", "journal.db"), ("full", "journal.db")])
def test_a_durability_without_a_url_is_given(tmp_path: Path, default: str, durability: str, path: str | None) -> None:
    """Who asks for durability gets a file, who asks for none gets memory, from Python and from the command line."""
    found = choice(tmp_path, f'[journal]\ndurability = "{durability}"\n', default)
    assert (found.path and found.path.name, found.durability) == (path, durability)


def test_other_keys_do_not_choose_a_journal(tmp_path: Path) -> None:
    """Keys that say nothing of where and how safely leave that to the caller."""
    text = "[journal]\nsnapshot_every = 5\n"
    assert choice(tmp_path, text) == app.JournalChoice(None, "none", 5, 30)
    assert choice(tmp_path, text, BESIDE_THE_FILE).path == tmp_path / ".agentflow" / "journal.db"


def test_a_path_is_relative_to_the_file_that_says_it(tmp_path: Path) -> None:
    """A url of a base file starts at the base file's folder; one of the command line, and the default, beside the file itself."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "base.toml").write_text('[journal]\nurl = "sqlite:a.db"\n', encoding="utf-8")
    text = 'extends = "base/base.toml"\n'
    assert choice(tmp_path, text).path == base / "a.db"
    assert choice(tmp_path, f'{text}[journal]\nurl = "sqlite:a.db"\n').path == tmp_path / "a.db"
    assert choice(tmp_path, text, overrides={"journal.url": "sqlite:b.db"}).path == tmp_path / "b.db"
    assert choice(tmp_path, text, overrides={"journal.url": "sqlite:/b.db"}).path == Path("/b.db")


def test_a_path_is_absolute(folder: Path) -> None:
    """A journal stays where it is when the process goes to another folder."""
    (folder / "agentflow.toml").write_text("", encoding="utf-8")
    assert app.load("agentflow.toml", environ={}).journal(BESIDE_THE_FILE).path == folder / ".agentflow" / "journal.db"


# --- which store ---


def test_a_choice_leads_to_its_store(tmp_path: Path) -> None:
    """A store has the url and the durability of its choice; making it touches no file."""
    for found in (choice(tmp_path, ""), choice(tmp_path, '[journal]\nurl = "sqlite:sub/a.db"\ndurability = "relaxed"\n')):
        store = app.store_of(found)
        assert (store.url, store.durability) == (found.url, found.durability)
    assert not (tmp_path / "sub").exists()


async def test_a_store_says_what_it_is_given(tmp_path: Path) -> None:
    """A reader refuses to make what is not there; the writer tells others where it takes commands."""
    on_disk = choice(tmp_path, "", BESIDE_THE_FILE)
    with pytest.raises(StoreError):
        await app.store_of(on_disk, is_reader=True).open()
    store = app.store_of(on_disk, control="here", warn=lambda message: None)
    await store.open()
    try:
        assert '"control": "here"' in (tmp_path / ".agentflow" / "journal.db.lock").read_text(encoding="utf-8")
    finally:
        await store.close()


def test_memory_has_nothing_for_a_reader(tmp_path: Path) -> None:
    """What another process keeps in memory cannot be read, and that is said with what to do."""
    with pytest.raises(StoreError, match="outlives") as caught:
        app.store_of(choice(tmp_path, ""), is_reader=True)
    assert "--journal PATH" in caught.value.hint


@pytest.mark.parametrize(("url", "loaded"), [("memory:", ["memory"]), ("sqlite:a.db", ["sqlite"])])
def test_only_the_chosen_store_is_imported(tmp_path: Path, url: str, loaded: list[str]) -> None:
    """An adapter is imported when it is first used: sqlite3 is none of memory's business."""
    code = (
        "import sys; from agentflow import app\n"
        f"app.store_of(app.load({{'journal': {{'url': {url!r}}}}}, environ={{}}).journal('memory:'))\n"
        "print([name for name in ('memory', 'sqlite') if 'agentflow.stores.' + name in sys.modules])"
    )
    done = run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(loaded)
