"""How a diagnostic is shown: as text, as a row, as an annotation."""

from collections.abc import Callable

import pytest

from agentflow.config import ConfigError, Diagnostic, Draft, Place, read, report


def rendered(draft: Callable[..., Draft], text: str) -> str:
    """Return the first diagnostic of *text* as shown."""
    return draft(text).diagnostics[0].render()


def test_a_diagnostic_has_the_documented_form(draft: Callable[..., Draft]) -> None:
    """What, where, the source line, a caret run under the key, and the help beside it."""
    text = '[orchestration]\nmode = "sequential"\n\n\n\n\n\n\nsequental_agents = ["collector", "publisher"]\n'
    expected = """\
error[AF0102]: unknown key `sequental_agents`
  --> agentflow.toml:9:1
   |
 9 | sequental_agents = ["collector", "publisher"]
   | ^^^^^^^^^^^^^^^^ help: did you mean `sequential_agents`?"""
    assert expected == rendered(draft, text)


def test_the_margin_is_as_wide_as_the_line_number(draft: Callable[..., Draft]) -> None:
    """Three-digit lines keep the bar in one column."""
    expected = """\
error[AF0104]: `max_hops` must be at least 1, not 0
    --> agentflow.toml:100:12
     |
 100 | max_hops = 0
     |            ^"""
    assert expected == rendered(draft, "[orchestration]" + "\n" * 99 + "max_hops = 0")


def test_tabs_and_wide_characters_keep_the_caret_in_place(draft: Callable[..., Draft]) -> None:
    """A tab takes four cells, a wide character two, a combining mark none; columns count characters."""
    text = '[agents.a]\n\tretry = { "漢e\u0301" = 1, jiter = 2 }\n'
    diagnostic = draft(text).diagnostics[1]
    assert (2, 23) == (diagnostic.line, diagnostic.column)
    line, carets = diagnostic.render().splitlines()[3:5]
    assert line == '  2 |     retry = { "漢e\u0301" = 1, jiter = 2 }'[1:]
    assert carets.index("^") == len("    |     retry = { '--e' = 1, "[1:])


def test_a_long_line_is_cut_around_the_place(draft: Callable[..., Draft]) -> None:
    """At most 100 characters are shown, with the place among them, and dots where text is missing."""
    text = (
        "[orchestration]\nretry = { retryable_errors = ["
        + '"error", ' * 500
        + '], jiter = 1, max_retries = 1, description = "'
        + "x" * 500
        + '" }'
    )
    diagnostic = draft(text).diagnostics[0]
    line, carets = diagnostic.render().splitlines()[3:5]
    start = carets.index("^")
    assert line[start : start + 5] == "jiter"
    assert line[4:6] == " …"
    assert line.endswith("…")
    assert len(line) < 115
    assert diagnostic.column == 4534


@pytest.mark.parametrize("hidden", ["\x1b", "\x7f", "\u202e", "\u2066", "\u200b", "\u2028", "\u00a0", "\U000e0001"])
def test_characters_that_could_deceive_are_escaped(draft: Callable[..., Draft], hidden: str) -> None:
    """Control, bidi and invisible characters never reach the terminal, be they in a key or in the line."""
    found = draft(f"[orchestration]\nmode = 5 # {hidden}\n'x{hidden}y' = 1\n".encode())
    shown = report(found.diagnostics)
    assert hidden not in shown
    assert f"{ord(hidden):x}" in shown.lower()
    assert all(hidden not in str(one.to_dict()["message"]) + one.annotation() for one in found.diagnostics)


def test_a_file_name_cannot_deceive_either() -> None:
    """The name of the file is escaped too."""
    place = Place(file="a\x1b[31m\n.toml", line=1, column=2)
    assert "\x1b" not in Diagnostic("AF0101", "x", place=place).render()
    assert str(place) == "a\\x1b[31m\\x0a.toml:1:2"


def test_a_row_has_the_documented_keys(draft: Callable[..., Draft]) -> None:
    """`validate --format json` prints code, severity, file, line, column, message, help."""
    expected = {
        "code": "AF0102",
        "severity": "error",
        "file": "agentflow.toml",
        "line": 2,
        "column": 1,
        "message": "unknown key `levle`",
        "help": "did you mean `level`?",
    }
    assert [expected] == [diagnostic.to_dict() for diagnostic in draft("[logging]\nlevle = 'info'").diagnostics]


def test_an_annotation_is_a_workflow_command(draft: Callable[..., Draft]) -> None:
    """GitHub shows it on the changed line."""
    (diagnostic,) = draft("[logging]\nlevle = 'info'").diagnostics
    expected = "::error file=agentflow.toml,line=2,col=1,title=AF0102::unknown key `levle` (did you mean `level`?)"
    assert expected == diagnostic.annotation()


def test_an_annotation_is_escaped() -> None:
    """Per cent signs and line ends anywhere, colons and commas in properties, cannot end the command early."""
    place = Place(file="a,b:c%.toml", line=1, column=2)
    diagnostic = Diagnostic("AF0290", "50%\n::warning::x", severity="warning", place=place)
    assert diagnostic.annotation() == "::warning file=a%2Cb%3Ac%25.toml,line=1,col=2,title=AF0290::50%25\\x0a::warning::x"


def test_an_annotation_without_a_file_has_no_place() -> None:
    """A mapping has no file to point at."""
    assert Diagnostic("AF0103", "x", ("a",)).annotation() == "::error title=AF0103::x"


def test_a_mapping_is_shown_by_key_path() -> None:
    """Without a file the dotted key stands where the file would."""
    (diagnostic,) = read({"orchestration": {"switch": [{"when": "true", "use": 5}]}}, environ={}).diagnostics
    expected = """\
error[AF0103]: `use` must be a string, not an integer
  --> orchestration.switch[0].use
   = help: put it in quotes"""
    assert expected == diagnostic.render()
    assert (None, None, None) == (diagnostic.file, diagnostic.line, diagnostic.column)


def test_the_report_counts_errors_and_warnings() -> None:
    """All blocks, a blank line between them, and the numbers last."""
    warning = Diagnostic("AF0290", "b", severity="warning")
    assert report([Diagnostic("AF0102", "a"), warning, warning]) == (
        "error[AF0102]: a\n\nwarning[AF0290]: b\n\nwarning[AF0290]: b\n\n1 error, 2 warnings"
    )


def test_a_config_error_carries_and_shows_its_diagnostics() -> None:
    """The exception's text is the whole report."""
    error = ConfigError([Diagnostic("AF0102", "a")])
    assert str(error) == "error[AF0102]: a\n\n1 error, 0 warnings"
    assert [one.code for one in error.diagnostics] == ["AF0102"]


def test_a_mistake_in_a_variable_names_it_in_every_form(draft: Callable[..., Draft]) -> None:
    """A row and an annotation have no line to show it by, and no file to point at."""
    name = "AGENTFLOW__RUNNER__QUEUE_SIZE"
    (diagnostic,) = draft("", environ={name: "0"}).diagnostics
    message = f"{name}: `queue_size` must be at least 1, not 0"
    assert ("environment", None, message) == (diagnostic.file, diagnostic.line, diagnostic.to_dict()["message"])
    assert diagnostic.annotation() == f"::error title=AF0104::{message}"
    assert diagnostic.render() == f"error[AF0104]: `queue_size` must be at least 1, not 0\n  --> environment: {name}"
