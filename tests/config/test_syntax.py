"""Texts that are not TOML: one error hides no other, and each teaches its cure."""

from collections.abc import Callable

import pytest

from agentflow.config import Diagnostic, Draft

AT = "agentflow.toml:"


@pytest.mark.parametrize(
    ("text", "code", "place", "hint"),
    [
        ("[orchestration]\nmode = mixed", "AF0101", "2:8", 'text stands in quotes: "mixed"'),
        ("[agents.a]\nenabled = True", "AF0101", "2:11", "write true in lower case"),
        ("[orchestration]\nmode =", "AF0101", "2:7", "write a value after `=`; text stands in quotes"),
        ('[orchestration]\nmode: "mixed"', "AF0101", "2:5", "TOML writes key = value"),
        ('[orchestration]\nmax hops = 3', "AF0101", "2:5", "a key with spaces stands in quotes; `=` goes between key and value"),
        ("[orchestration]\ntimeout_seconds = 30s", "AF0101", "2:21", "one `key = value` a line; text stands in quotes"),
        ('[orchestration]\nmode = "mixed', "AF0101", "2:14", "close the string with a quote"),
        ('[orchestration]\nmode = "mixed\nmax_hops = 3', "AF0101", "2:14", "close the string on the line it starts, or use three quotes"),
        ('[agents.a]\nhandler = "C:\\dir"', "AF0101", "2:16", r"write `\\` for a backslash, or put the text in single quotes"),
        ("[orchestration\nmode = 'route'", "AF0101", "1:15", "close the header with a bracket"),
        ('[orchestration]\nsequential_agents = ["a" "b"]', "AF0101", "2:26", "a `,` or a `]` is missing"),
        ("[orchestration]\nretry = { jitter = true", "AF0101", "2:24", "a `,` or a `}` is missing"),
        ("[orchestration]\nsequential_agents = [\n'a',\n'b'\n", "AF0101", "2:1", "a `,` or a `]` is missing"),
        ("[orchestration]\nsequential_agents = [\n'a'\nmode = 'route'\n", "AF0101", "4:1", "a `,` or a `]` is missing"),
        ('[orchestration]\nuntil = """\nx\n', "AF0101", "2:1", "close the string with a quote"),
        ("[orchestration]\nmode = 'route' # x\0y", "AF0101", "2:19", ""),
        ("[orchestration]\nmode = “route”", "AF0101", "2:8", 'use straight quotes: "..."'),
        ("[orchestration]\nmode = 'a\0b'", "AF0101", "2:10", ""),
        ("[orchestration]\rmode = 'route'", "AF0101", "1:16", "end lines with a line feed"),
        ("[orchestration]\nmax_hops = " + "9" * 500, "AF0104", "2:12", ""),
        ("[orchestration]\nm\u043ede = 'route'", "AF0118", "2:1", "did you mean `mode`?"),
        ("[orchestration]\n'm\u043ede' = 'route'", "AF0118", "2:1", "did you mean `mode`?"),
        ("[\u0430gents.a]", "AF0118", "1:2", "did you mean `agents`?"),
        ("[orchestration]\nmode\u00a0= 'route'", "AF0118", "2:1", "did you mean `mode`?"),
        ("[orchestration]\nmode = 'route'\nmode = 'loop'", "AF0115", "3:1", "first set in line 2; keep one"),
        ("[orchestration]\nretry = { jitter = true, jitter = false }", "AF0115", "2:26", "first set in line 2; keep one"),
        ("[agents.a]\n[agents.b]\n[agents.a]\nrole = 'x'", "AF0115", "3:9", "first set in line 1; keep one"),
        ("[orchestration]\nretry = {}\n[orchestration.retry]\njitter = true", "AF0115", "3:16", "first set in line 2; keep one"),
        ("[[orchestration.switch]]\nwhen = ''\nuse = ''\n[orchestration.switch]", "AF0115", "4:16", "first set in line 1; keep one"),
        ("[agents.a]\nretry.jitter = true\n[agents.a.retry]", "AF0115", "3:1", "set it in one place"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_code_place_and_hint(told: Callable[..., list[object]], text: str, code: str, place: str, hint: str) -> None:
    """The first mistake of the text is told at the place where reading stopped, with its likely cure."""
    assert told(text)[0] == (code, AT + place, hint)


def test_a_look_alike_is_named_in_full(draft: Callable[..., Draft]) -> None:
    """No reader can see a Cyrillic letter in a Latin word: its Unicode name is told."""
    (diagnostic,) = draft("[orchestration]\nm\u043ede = 'route'").diagnostics
    assert diagnostic.message == "the key `m\u043ede` has U+043E CYRILLIC SMALL LETTER O"
    assert diagnostic.render().splitlines()[-1] == "   | ^^^^ help: did you mean `mode`?"


def test_one_syntax_error_hides_no_other_mistake(draft: Callable[..., Draft]) -> None:
    """Reading goes on at the next statement: errors of syntax and of shape are told together."""
    text = """
[orchestration]
mode = mixed
max_iterations = 0
sequential_agents = [
  "a",
  b,
]
[agents.a]
handler = "a:b
tols = []
"""
    assert [("AF0101", 3), ("AF0104", 4), ("AF0101", 7), ("AF0101", 10), ("AF0102", 11)] == [
        (one.code, one.line) for one in draft(text).diagnostics
    ]


def test_of_a_key_set_twice_the_first_is_checked(draft: Callable[..., Draft]) -> None:
    """The first value stands, for later checks too."""
    checked = draft("[orchestration]\nmode = 'rotue'\nmode = 'loop'\n")
    assert checked.config is not None
    assert checked.config.orchestration.mode == "rotue"
    assert len(checked.locate([Diagnostic("AF0201", "x", ("orchestration", "mode"))])) == 1


def test_a_comment_that_cannot_be_read_costs_no_statement(draft: Callable[..., Draft]) -> None:
    """Only the comment is set aside."""
    checked = draft("[orchestration]\nmode = 'loop' # a\x01b # c\n# d\x7f\n")
    assert ["a comment cannot have U+0001 CONTROL CHARACTER in it", "a comment cannot have U+007F CONTROL CHARACTER in it"] == [
        one.message for one in checked.diagnostics
    ]
    assert checked.config is not None
    assert checked.config.orchestration.mode == "loop"


def test_a_table_set_twice_keeps_the_first(draft: Callable[..., Draft]) -> None:
    """What stands below the second header is not mixed into another table."""
    checked = draft("[agents.a]\nrole = 'first'\n[agents.b]\n[agents.a]\nrole = 'second'\n[agents.c]\n")
    assert ["AF0115"] == [one.code for one in checked.diagnostics]
    assert checked.config is not None
    assert [("a", "first"), ("b", ""), ("c", "")] == [(name, agent.role) for name, agent in checked.config.agents.items()]


def test_a_statement_set_aside_causes_no_further_complaint(draft: Callable[..., Draft]) -> None:
    """A required key that could not be read is not called missing."""
    checked = draft('[llm]\nprovider = ollama\nmodel = "m"\n')
    assert [("AF0101", 2)] == [(one.code, one.line) for one in checked.diagnostics]


def test_a_header_that_cannot_be_read_leaves_no_config(draft: Callable[..., Draft]) -> None:
    """When it is not known what a text would have set, nothing is made up: other checks would mislead."""
    assert draft("[orchestration]\nmode = 'route'\n[agents.a\n").config is None


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" for _ in range(8_000)) + " = 1",
        "[" + ".".join("a" for _ in range(100)) + "]",
        "a = " + "[" * 5_000,
        "a = " + "{ a = " * 100,
        "[a.b]\nc = " + "{ a.b.c.d.e.f = [" * 20,
    ],
)
def test_deep_keys_and_brackets_are_refused_before_parsing(draft: Callable[..., Draft], text: str) -> None:
    """Depth is bounded at 64 levels, dots and brackets counted together."""
    checked = draft(text)
    (diagnostic,) = checked.diagnostics
    assert ("AF0114", "flatten the value") == (diagnostic.code, diagnostic.help)
    assert checked.config is None


def test_depth_within_the_bound_is_read(draft: Callable[..., Draft]) -> None:
    """Sixty levels are no mistake; brackets in strings and comments do not count."""
    nested = "[" * 60 + "]" * 60
    assert draft(f"[orchestration]\noptions = {{ a = {nested}, b = '{'[' * 99}' }} # {'[' * 99}\n").diagnostics == []


def test_many_syntax_errors_end_the_reading(draft: Callable[..., Draft]) -> None:
    """After a number of errors the rest of the text is left."""
    assert len(draft("".join(f"a{number} = x\n" for number in range(100))).diagnostics) == 21
