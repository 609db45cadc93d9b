"""`${NAME}` and `${NAME:-default}` in string values."""

from collections.abc import Callable

import pytest

from agentflow.config import Draft, read


def role(value: str, environ: dict[str, str]) -> object:
    """Return what the string *value* becomes."""
    checked = read({"agents": {"a": {"role": value}}}, environ=environ)
    assert checked.diagnostics == []
    assert checked.config is not None
    return checked.config.agents["a"].role


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${X}", "x"),
        ("a-${X}-${X}.", "a-x-x."),
        ("${Y:-d}", "d"),
        ("${Y:-}", ""),
        ("${X:-d}", "x"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY}", ""),
        ("${Y:-a $ b: c}", "a $ b: c"),
        ("$${X}", "${X}"),
        ("$X $ $$ {X}", "$X $ $$ {X}"),
        ("${NESTED}", "${X}"),
        ("${QUOTED}", '"\nmode = 1'),
    ],
)
def test_a_variable_is_filled_in_once_as_text(value: str, expected: str) -> None:
    """What a variable holds is never read again, neither as TOML nor as an expression."""
    environ = {"X": "x", "EMPTY": "", "NESTED": "${X}", "QUOTED": '"\nmode = 1'}
    assert expected == role(value, environ)


def test_an_unset_variable_is_told_at_the_value(told: Callable[..., list[object]]) -> None:
    """AF0110 names the variable and how to give a default."""
    expected = [("AF0110", "agentflow.toml:2:8", "set it, or give a default: ${NOPE:-...}")]
    assert expected == told('[agents.a]\nrole = "x ${NOPE}"')


@pytest.mark.parametrize("value", ["${}", "${1A}", "${A", "${A:default}", "${A-b}", "${A:-${B}}", "${ A }"])
def test_what_is_no_expression_is_told_at_the_value(told: Callable[..., list[object]], value: str) -> None:
    """AF0111 says how an expression is written, and how a plain `${` is."""
    hint = "write ${NAME} or ${NAME:-default}; $${ stands for a plain ${"
    found = told(f'[agents.a]\nrole = "{value}"', environ={"A": "a", "B": "b"})
    assert found == [("AF0111", "agentflow.toml:2:8", hint)]


def test_keys_are_never_filled_in(told: Callable[..., list[object]]) -> None:
    """An expression in a name is a bad name."""
    assert [one[0] for one in told('[agents."${X}"]', environ={"X": "x"})] == ["AF0104"]


def test_lists_and_nested_tables_are_filled_in(draft: Callable[..., Draft]) -> None:
    """Every string value is, at any depth."""
    checked = draft('[orchestration]\nsequential_agents = ["${X}", "b"]\noptions = { a = [{ b = "${X}" }] }', environ={"X": "x"})
    assert checked.config is not None
    assert checked.config.orchestration.sequential_agents == ["x", "b"]
    assert checked.config.orchestration.options == {"a": [{"b": "x"}]}


def test_a_number_or_boolean_may_come_from_a_variable(draft: Callable[..., Draft]) -> None:
    """Where a number or boolean is wanted, a string that is one expression is read as one."""
    text = '[orchestration]\ntimeout_seconds = "${T:-30}"\nmax_hops = "${HOPS}"\n[agents.a]\nenabled = "${ON:-false}"'
    checked = draft(text, environ={"HOPS": "0x10"})
    assert checked.diagnostics == []
    assert checked.config is not None
    assert (30, 16) == (checked.config.orchestration.timeout_seconds, checked.config.orchestration.max_hops)
    assert checked.config.agents["a"].enabled is False


@pytest.mark.parametrize("value", ["many", "", "1\nmax_hops = 2", "[1]", '"3"', "1 # x\n"])
def test_a_variable_that_is_no_number_is_of_the_wrong_type(told: Callable[..., list[object]], value: str) -> None:
    """What is not one number stays a string, and is told as one."""
    found = told('[orchestration]\nmax_hops = "${HOPS}"', environ={"HOPS": value})
    assert [("AF0103", "agentflow.toml:2:12", "")] == found


def test_a_message_never_shows_what_a_variable_holds(draft: Callable[..., Draft]) -> None:
    """A variable may hold a secret: messages show the expression."""
    (diagnostic,) = draft('[logging]\nlevel = "${LEVEL}"', environ={"LEVEL": "canary"}).diagnostics
    assert diagnostic.code == "AF0104"
    assert "`${LEVEL}`" in diagnostic.message
    assert "canary" not in diagnostic.render()


def test_a_secret_by_variable_is_still_plain_text(told: Callable[..., list[object]]) -> None:
    """`api_key = "${KEY}"` puts the secret into the configuration; the reference keeps it out."""
    found = told('[llm]\nprovider = "openai"\nmodel = "m"\napi_key = "${KEY}"', environ={"KEY": "canary"})
    assert [one[:2] for one in found] == [("AF0117", "agentflow.toml:4:11")]


def test_very_many_unset_variables_are_counted(draft: Callable[..., Draft]) -> None:
    """The first 500 are told one by one, the rest as a number."""
    found = draft("[agents]\n" + "".join(f'a{n} = {{ role = "${{X}}" }}\n' for n in range(600)), environ={}).diagnostics
    assert sorted(one.code for one in found) == ["AF0100", *["AF0110"] * 500]
    assert "100 more variables" in next(one.message for one in found if one.code == "AF0100")
