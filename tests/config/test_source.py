"""Files as bytes: unreadable, too large, not UTF-8; byte order marks and line ends."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.config import Draft, read
from agentflow.config.limits import LARGEST_FILE


def only(checked: Draft) -> tuple[str, str, str, str]:
    """Return code, place, message and help of the one diagnostic there is."""
    (diagnostic,) = checked.diagnostics
    assert checked.config is None
    return diagnostic.code, str(diagnostic.place), diagnostic.message, diagnostic.help


def test_a_missing_file_is_told(folder: Path) -> None:
    """AF0107 names the file as it was given, and the command that makes one."""
    expected = (
        "AF0107",
        "nowhere.toml",
        "cannot read the configuration: no such file or directory",
        "`agentflow create` writes a project with a configuration",
    )
    assert expected == only(read("nowhere.toml", environ={}))


def test_a_folder_is_no_file(folder: Path) -> None:
    """A folder in the place of a file is AF0107."""
    assert only(read(folder, environ={})) == ("AF0107", str(folder), "cannot read the configuration: it is a folder", "name a TOML file")


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    """What is not a regular file is refused at once."""
    os.mkfifo(folder / "pipe")
    expected = ("AF0107", "pipe", "cannot read the configuration: it is not a regular file", "name a TOML file")
    assert only(read("pipe", environ={})) == expected


def test_a_name_no_file_can_have_is_told(folder: Path) -> None:
    """A NUL in the name is AF0107, shown escaped."""
    code, place, message, _ = only(read("a\0b", environ={}))
    assert (code, place) == ("AF0107", "a\\x00b")
    assert message.startswith("cannot read the configuration: ")


def test_a_file_that_may_not_be_read_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of the system is told in its words."""
    (folder / "a.toml").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    expected = ("AF0107", "a.toml", "cannot read the configuration: permission denied", "check the name and its permissions")
    assert only(read("a.toml", environ={})) == expected


def test_a_large_file_is_refused(draft: Callable[..., Draft]) -> None:
    """256 KB are read, one byte more is not."""
    assert draft("#" * LARGEST_FILE).diagnostics == []
    assert only(draft("#" * (LARGEST_FILE + 1))) == (
        "AF0109",
        "agentflow.toml",
        "the file is larger than 256 KB",
        "split it with `extends`",
    )


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_named(draft: Callable[..., Draft], codec: str) -> None:
    """A file with the mark of UTF-16 is told to be saved as UTF-8."""
    content = "\ufeff[logging]".encode(codec)
    assert only(draft(content)) == ("AF0108", "agentflow.toml", "the file is UTF-16, not UTF-8", "save the file as UTF-8")


def test_bytes_that_are_no_utf_8_are_told_with_their_place(draft: Callable[..., Draft]) -> None:
    """AF0108 points at the first wrong byte; columns count characters, not bytes."""
    checked = draft("[logging]\r\n# é".encode() + b"\xff'x'")
    assert only(checked) == ("AF0108", "agentflow.toml:2:4", "the file is not UTF-8: byte 0xff", "save the file as UTF-8")
    assert checked.diagnostics[0].render().splitlines()[3:] == [" 2 | # é", "   |    ^ help: save the file as UTF-8"]


def test_a_byte_order_mark_is_no_column(draft: Callable[..., Draft]) -> None:
    """The mark of UTF-8 is read over."""
    (diagnostic,) = draft(b"\xef\xbb\xbflevel = 1").diagnostics
    assert (1, 1) == (diagnostic.line, diagnostic.column)


def test_windows_line_ends_count_as_one(draft: Callable[..., Draft]) -> None:
    """Lines and columns are those an editor shows."""
    (diagnostic,) = draft(b"[logging]\r\n\r\nlevel = 1\r\n").diagnostics
    assert (3, 9) == (diagnostic.line, diagnostic.column)
    assert "\r" not in diagnostic.render()
