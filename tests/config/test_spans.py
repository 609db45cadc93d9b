"""Where keys and values stand: the walk agrees with the parser on every text."""

import datetime
from collections.abc import Iterator
from typing import Any

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from agentflow.config.display import KeyPath
from agentflow.config.spans import index, key_parts, key_text

TEXT = '''\
title = "x" # [not.a.table]
"quoted key".'literal' . bare = 1
dates = [1979-05-27 07:32:00, 07:32:00,]
[a . "b.c"]
inline = { d.e = 1, "f" = [ { g = 1 }, { g = 2 } ], # a comment
  h = {}, }
multi = """
[x]
k = 1 \\""" """""
literal = \'\'\'
'']\'\'\'
nested = [
  [1, "]"], # ]
  [],
]
[[t]]
n = 1
[t.sub]
k = 1
[[t]]
[[t.u]]
k = 1
[[t.u]]
k = 2
[a]
"\\u0062" = 3
'''


def paths(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield every key path of parsed TOML."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def agree(text: str) -> None:
    """Check that every path of the parser is found, and that the text at each key is that key."""
    found = index(text)
    for path in paths(tomli.loads(text)):
        span = found.spans[path]
        if isinstance(path[-1], str):
            assert key_text(text[span.key : span.key_end]) == path[-1]
    assert found.repeats == []


def test_every_form_of_toml_is_found() -> None:
    """Headers, arrays of tables, dotted and quoted keys, inline tables, strings and arrays of many lines, comments."""
    agree(TEXT)


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("quoted key", "literal", "bare"), "bare", "1"),
        (("quoted key",), '"quoted key"', '"quoted key"'),
        (("dates",), "dates", "[1979-05-27 07:32:00, 07:32:00,]"),
        (("dates", 0), "1979-05-27 07:32:00", "1979-05-27 07:32:00"),
        (("a", "b.c"), '"b.c"', '[a . "b.c"]'),
        (("a",), "a", "[a]"),
        (("a", "b.c", "inline", "d", "e"), "e", "1"),
        (("a", "b.c", "inline", "f", 1, "g"), "g", "2"),
        (("a", "b.c", "nested", 0, 1), '"]"', '"]"'),
        (("a", "b.c", "literal"), "literal", "'''\n'']'''"),
        (("t", 1), "t", "[[t]]"),
        (("t", 1, "u", 1, "k"), "k", "2"),
        (("a", "b"), '"\\u0062"', "3"),
    ],
)
def test_a_span_holds_its_key_and_its_value(path: KeyPath, key: str, value: str) -> None:
    """For a table the value is its header, for an item of an array key and value are the item."""
    span = index(TEXT).spans[path]
    assert (key, value) == (TEXT[span.key : span.key_end], TEXT[span.value : span.value_end])


@pytest.mark.parametrize("text", ["a = ", "a", "[a", "a = [1", 'a = "', "a = {b", "= 1", 'a."\\q" = 1', "a = [1 2]", "[]"])
def test_a_broken_text_is_read_as_far_as_it_goes(text: str) -> None:
    """The walk ends where the text is no TOML, with what was before."""
    assert ("b",) in index(f"b = 1\n{text}").spans


@pytest.mark.parametrize(
    ("dotted", "parts"), [("a.b", ["a", "b"]), ('a."b.c".d', ["a", "b.c", "d"]), ("a b", ["a b"]), ("a.", ["a."]), ("", [""])]
)
def test_a_dotted_key_has_parts(dotted: str, parts: list[str]) -> None:
    """What is not written as TOML is one part."""
    assert parts == key_parts(dotted)


keys = st.one_of(
    st.text("abc-_19", min_size=1, max_size=3),
    st.text("a.\u00e9 ", max_size=3).map(lambda text: f"'{text}'"),
    st.sampled_from(['"q\\n"', '"\\u00e9"', '"=[#"', '"\\""']),
)
space = st.sampled_from(["", " ", "\t"])
gap = st.sampled_from(["", " ", "\n", " # ]}\n\n"])
plain = st.sampled_from(
    ["1", "-2.5e3", "true", "inf", "0x1F", "1979-05-27T07:32:00Z", "'#'", '"a\\"]"', "'''\n''a'''", '"""\n\\"""=[\n""""', '"""\\\n  x"""']
)


def arrays(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arrays with any white space, comments, and a comma at the end or none."""
    items = st.lists(st.tuples(gap, values, gap).map("".join), max_size=3)
    return st.builds(
        lambda parts, comma, end: "[" + ",".join(parts) + ("," if comma and parts else "") + end + "]", items, st.booleans(), gap
    )


def inline_tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Inline tables with plain and dotted keys."""
    pairs = st.lists(st.tuples(keys, st.one_of(st.none(), keys), values), max_size=3)
    return pairs.map(lambda found: "{" + ", ".join(f"{one} {'. ' + two if two else ''} = {value}" for one, two, value in found) + "}")


values = st.recursive(plain, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=5)
dotted = st.lists(st.tuples(space, keys, space).map("".join), min_size=1, max_size=3).map(".".join)
statements = st.one_of(
    st.tuples(space, dotted, st.just("="), space, values).map("".join),
    dotted.map(lambda key: f"[{key}]"),
    dotted.map(lambda key: f"[[{key}]] # x"),
    st.just("# [x"),
)


@given(st.lists(statements, max_size=8).map("\n".join))
def test_the_walk_agrees_with_the_parser(text: str) -> None:
    """Whatever the parser accepts, the walk finds; what it refuses as set twice, the walk may tell."""
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        index(text)
    else:
        agree(text)


def test_parsed_dates_are_values_of_the_language() -> None:
    """The texts above are TOML as the parser reads it."""
    assert tomli.loads(TEXT)["dates"][1] == datetime.time(7, 32)
