"""Unknown, missing, mistyped and out-of-range keys: code, place and hint of each."""

from collections.abc import Callable

import pytest

from agentflow.config import Draft, read

AT = "agentflow.toml:"


@pytest.mark.parametrize(
    ("text", "code", "place", "hint"),
    [
        ('[orchestration]\nsequental_agents = ["a"]', "AF0102", "2:1", "did you mean `sequential_agents`?"),
        ("[agnets.a]", "AF0102", "1:2", "did you mean `agents`?"),
        ("timeout_seconds = 3", "AF0102", "1:1", "it belongs in [orchestration]"),
        ('[agent_flow]\nloop_agent = "a"', "AF0102", "2:1", "it belongs in [orchestration]"),
        ('[orchestration]\nhandler = "a:b"', "AF0102", "2:1", "it belongs in [agents.<name>]"),
        ('[logging]\nextends = "base.toml"', "AF0102", "2:1", "it belongs at the top of the file, before the first [table]"),
        ("[logging]\nzzz = 1", "AF0102", "2:1", "known: level, format, file"),
        ("[orchestration]\nzzz = 1", "AF0102", "2:1", "`agentflow schema` lists the keys of [orchestration]"),
        ("[orchestration]\nretry = { jiter = true }", "AF0102", "2:11", "did you mean `jitter`?"),
        ("[orchestration.retry]\nJitter = true", "AF0102", "2:1", "did you mean `jitter`?"),
        ("[orchestration]\nmax-hops = 2", "AF0102", "2:1", "did you mean `max_hops`?"),
        ('[[orchestration.switch]]\nwhen = "true"', "AF0105", "1:1", "add use = ..."),
        ('[llm]\nprovider = "ollama"', "AF0105", "1:1", "add model = ..."),
        ('[orchestration]\ntimeout_seconds = "30"', "AF0103", "2:19", "write 30 without quotes"),
        ('[orchestration]\ntimeout_seconds = "30s"', "AF0103", "2:19", "write 30"),
        ('[orchestration]\ntimeout_seconds = "1.5 minutes"', "AF0103", "2:19", "write 90"),
        ('[orchestration]\ntimeout_seconds = "250ms"', "AF0103", "2:19", "write 0.25"),
        ('[orchestration]\ntimeout_seconds = "30 parsecs"', "AF0103", "2:19", ""),
        ('[orchestration]\nmax_hops = "3s"', "AF0103", "2:12", ""),
        ('[orchestration]\nmax_hops = "true"', "AF0103", "2:12", ""),
        ('[orchestration]\nmax_hops = "2.5"', "AF0103", "2:12", ""),
        ('[orchestration]\nmax_hops = "many"', "AF0103", "2:12", ""),
        ("[orchestration]\nmax_hops = 2.0", "AF0103", "2:12", ""),
        ("[orchestration]\nmax_hops = true", "AF0103", "2:12", ""),
        ("[orchestration]\ntimeout_seconds = 1979-05-27", "AF0103", "2:19", ""),
        ('[orchestration]\nsequential_agents = "a, b"', "AF0103", "2:21", 'write ["a", "b"]'),
        ('[orchestration]\nsequential_agents = "[a,b]"', "AF0103", "2:21", 'write ["a", "b"]'),
        ('[orchestration]\nsequential_agents = "[\'a\', b]"', "AF0103", "2:21", 'write ["a", "b"]'),
        ('[orchestration]\nsequential_agents = ["a", 5]', "AF0103", "2:27", "put it in quotes"),
        ("[orchestration]\nmode = 5", "AF0103", "2:8", "put it in quotes"),
        ("[agents.a]\nenabled = 'true'", "AF0103", "2:11", "write true without quotes"),
        ('[agents.a]\nenabled = "no"', "AF0103", "2:11", "write false"),
        ('[agents.a]\nenabled = "On"', "AF0103", "2:11", "write true"),
        ("[agents.a]\nenabled = 0", "AF0103", "2:11", "write false"),
        ("[agents.a]\nenabled = 2", "AF0103", "2:11", ""),
        ("agents = 5", "AF0103", "1:10", ""),
        ("[[orchestration]]", "AF0103", "1:1", "write [table], not [[table]]"),
        ("[orchestration]\nmax_iterations = 0", "AF0104", "2:18", ""),
        ("[orchestration]\ntimeout_seconds = 0", "AF0104", "2:19", ""),
        ("[orchestration]\ntimeout_seconds = -1.5", "AF0104", "2:19", ""),
        ("[orchestration]\ntimeout_seconds = nan", "AF0104", "2:19", ""),
        ("[orchestration]\ntimeout_seconds = inf", "AF0104", "2:19", ""),
        ("[orchestration]\nfailure_threshold = 1.1", "AF0104", "2:21", ""),
        ("[orchestration]\nretry_attempts = 101", "AF0104", "2:18", ""),
        ("[orchestration.retry]\nbackoff_factor = 0.5", "AF0104", "2:18", ""),
        ('[orchestration]\nmerge = "orderd"', "AF0104", "2:9", "did you mean `ordered`?"),
        ('[orchestration]\nmerge = { a = 5 }', "AF0103", "2:15", "put it in quotes"),
        ('[logging]\nlevel = "INFO"', "AF0104", "2:9", "did you mean `info`?"),
        ('[logging]\nlevel = "loud"', "AF0104", "2:9", ""),
        ('[orchestration]\non_error = "halt"', "AF0104", "2:12", 'write "stop", "continue", or "route:" and the name of an agent'),
        ('[orchestration]\non_error = "route:"', "AF0104", "2:12", 'write "stop", "continue", or "route:" and the name of an agent'),
        ("[orchestration]\nbudget = {}", "AF0104", "2:10", "give one of tokens, cost_usd, seconds and calls"),
        ("[orchestration]\nquorum = 2\nfailure_threshold = 0.1", "AF0125", "2:1", "give one of them"),
        ("[agents.a]\nfallback_on = []", "AF0126", "2:1", "add fallback, or take it out"),
        (
            "[agents.a]\nreserve_tokens = 9",
            "AF0127",
            "2:1",
            "add budget = { tokens = ... } to the flow or the agent, or take it out",
        ),
        (
            "[agents.a]\ndefault_output = { at = 2026-01-01 }",
            "AF0104",
            "2:18",
            "use strings, finite numbers, true or false, arrays and tables; write a date as a string",
        ),
        ('[agents."a b"]', "AF0104", "1:9", "names are 1 to 64 of: letters A-Z a-z, digits, `_`, `-`, `.`"),
        ('[flows."..é"]', "AF0104", "1:8", "names are 1 to 64 of: letters A-Z a-z, digits, `_`, `-`, `.`"),
        ("[flows.x]\nretry_attempts = 2\n[flows.x.retry]\nmax_retries = 3", "AF0116", "4:15", "give one of them, or the same number"),
        ('[llm]\nprovider = "openai"\nmodel = "m"\napi_key = {}', "AF0104", "4:11", ""),
        ("[orchestration]\nmax_process_deaths = 0", "AF0104", "2:22", ""),
        ("[flows.x]\nmax_process_deaths = 101", "AF0104", "2:22", ""),
        ("[limits]\nmax_records = 9", "AF0104", "2:15", ""),
        ("[limits]\nmax_records = 10_000_001", "AF0104", "2:15", ""),
        ("[limits]\nmax_run_bytes = 9_999", "AF0104", "2:17", ""),
        ("[limits]\nmax_run_bytes = 10_000_000_001", "AF0104", "2:17", ""),
        ("[limits]\nmax_record = 50", "AF0102", "2:1", "did you mean `max_records`?"),
        ("[journal]\nmax_records = 50", "AF0102", "2:1", "it belongs in [limits]"),
        ("[orchestration]\nmax_process_death = 5", "AF0102", "2:1", "did you mean `max_process_deaths`?"),
        ("[orchestration]\nrequires_approval = true", "AF0102", "2:1", "it belongs in [agents.<name>]"),
        ('[agents.a]\nrequires_approval = "yes"', "AF0103", "2:21", "write true"),
        ('[agents.a]\nrequires_approval = "yes"\napproval_timeout_seconds = 5', "AF0103", "2:21", "write true"),
        ("[agents.a]\nrequires_approval = true\napproval_timeout_seconds = 0", "AF0104", "3:28", ""),
        ("[agents.a]\nrequires_approval = true\napproval_timeout_seconds = inf", "AF0104", "3:28", ""),
        ('[agents.a]\nrequires_approval = true\napproval_timeout_seconds = "2h"', "AF0103", "3:28", "write 7200"),
        ("[agents.a]\napproval_timeout_seconds = 5", "AF0121", "2:1", "add requires_approval = true, or take it out"),
        (
            "[agents.a]\nrequires_approval = false\napproval_timeout_seconds = 5",
            "AF0191",
            "3:1",
            "it counts once requires_approval is true",
        ),
        ("[agents.a]\nrate_limit = { burst = 2 }", "AF0105", "2:14", "add requests_per_second = ..."),
        ("[agents.a]\nrate_limit = 5", "AF0103", "2:14", ""),
        ("[agents.a.rate_limit]\nrequests_per_second = 0", "AF0104", "2:23", ""),
        ("[agents.a.rate_limit]\nrequests_per_second = 1\nburst = 0", "AF0104", "3:9", ""),
        ("[agents.a.circuit_breaker]\nfailure_treshold = 5", "AF0102", "2:1", "did you mean `failure_threshold`?"),
        ("[agents.a.circuit_breaker]\nreset_seconds = inf", "AF0104", "2:17", ""),
        ("[agents.a]\nqueue_timeout_seconds = 5", "AF0122", "2:1", "add rate_limit, or [workers.a], or take it out"),
        ("[agents.a]\nqueue_timeout_seconds = 5\nrate_limit = { requests_per_second = 0 }", "AF0104", "3:38", ""),
        ("[agents.a]\nqueue_timeout_seconds = 5\n[workers.a]\ncount = 0", "AF0104", "4:9", ""),
        ("[workers.a]\ncount = 4\nmax = 2", "AF0104", "3:7", ""),
        ("[workers.a]\ncount = 4\nmin = 2", "AF0102", "3:1", "known: count, max, max_failures, idle_drain_seconds"),
        ("[agents.analyzer]\n[workers.analyser]", "AF0192", "2:10", "did you mean `analyzer`?"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_code_place_and_hint(told: Callable[..., list[object]], text: str, code: str, place: str, hint: str) -> None:
    """Each mistake of shape gives exactly one diagnostic, at the key or the value that is wrong."""
    assert [(code, AT + place, hint)] == told(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[orchestration]\nmax_iterations = 0", "`max_iterations` must be at least 1, not 0"),
        ("[orchestration]\ntimeout_seconds = nan", "`timeout_seconds` must be a finite number"),
        ("[orchestration]\nfailure_threshold = 1.1", "`failure_threshold` must be at most 1, not 1.1"),
        ("[orchestration]\nmode = []", "`mode` must be a string, not an array"),
        ("[[agents.a]]", "`a` must be a table, not an array"),
        ("agents = 1", "`agents` must be a table of tables, not an integer"),
        ("[orchestration]\nswitch = [1]", "`orchestration.switch[0]` must be a table, not an integer"),
        ('[agents."a b"]', "`a b` is not a valid name"),
        ('[logging]\nformat = "xml"', "`format` must be one of console, json, not `xml`"),
        ("[agnets.a]", "unknown section `agnets`"),
    ],
)
def test_a_message_names_the_key_what_it_wants_and_what_it_got(draft: Callable[..., Draft], text: str, message: str) -> None:
    """A message can be understood without the source line."""
    assert [message] == [diagnostic.message for diagnostic in draft(text).diagnostics]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[memory]\nurl = 'sqlite:memory.db'", "1:2"),
        ("[executor.ray]\naddress = 'auto'", "1:2"),
        ('[orchestration]\nkeep = "last"', "2:1"),
        ("[flows.x]\nallow_override = true", "2:1"),
        ("[agents.a]\ntools = []", "2:1"),
        ('[agents.a]\nurl = "x"', "2:1"),
        ("[runner]\nslow_event_seconds = 5", "2:1"),
        ('[llm]\nprovider = "ollama"\nmodel = "m"\nprices = {}', "4:1"),
    ],
)
def test_a_key_of_a_later_version_is_refused_as_such(draft: Callable[..., Draft], text: str, place: str) -> None:
    """A key of the language that is not honoured yet is an error of its own kind, never ignored."""
    (diagnostic,) = draft(text).diagnostics
    assert ("AF0106", AT + place) == (diagnostic.code, str(diagnostic.place))
    assert diagnostic.message.endswith("is not supported yet")
    assert diagnostic.help == "take it out; a later version honours it"


@pytest.mark.parametrize("value", ["queue", "interrupt"])
def test_on_busy_is_refused_for_a_nested_flow(draft: Callable[..., Draft], value: str) -> None:
    """Sessions are of events, and only the main flow takes these: also the default is refused, since it would say nothing."""
    (diagnostic,) = draft(f'[flows.x]\nmode = "route"\non_busy = "{value}"').diagnostics
    assert ("AF0128", AT + "3:1") == (diagnostic.code, str(diagnostic.place))
    assert diagnostic.help == "write it below [orchestration]"


def test_what_a_busy_session_does_is_one_of_four_words(draft: Callable[..., Draft]) -> None:
    """A misspelt one is refused with the one that was meant."""
    for word in ("queue", "reject", "interrupt", "parallel"):
        assert [] == [one for one in draft(f'[orchestration]\non_busy = "{word}"').diagnostics if one.severity == "error"]
    (diagnostic,) = draft('[orchestration]\non_busy = "interupt"').diagnostics
    assert ("AF0104", "did you mean `interrupt`?") == (diagnostic.code, diagnostic.help)


def test_all_mistakes_are_told_in_one_pass_in_the_order_of_the_text(draft: Callable[..., Draft]) -> None:
    """One bad key hides no other, be it in the same table, another table, or below a misspelt header."""
    text = """
[orchestration]
mode = "sequential"
max_iterations = 0
sequental_agents = ["a", 5, "b"]
[agnets.a]
handler = 5
[agents.b]
tols = []
[memory]
"""
    found = draft(text).diagnostics
    assert ["AF0104", "AF0102", "AF0103", "AF0102", "AF0103", "AF0102", "AF0106"] == [diagnostic.code for diagnostic in found]
    assert [4, 5, 5, 6, 7, 9, 10] == [diagnostic.line for diagnostic in found]


def test_what_is_wrong_is_set_aside_and_the_rest_makes_a_config(draft: Callable[..., Draft]) -> None:
    """A misspelt key is read as the one that was meant; a wrong value gives way to the default."""
    config = draft('[orchestration]\nsequental_agents = ["a", 5, "b"]\nmax_hops = 0\n[agnets.a]\n[agents.b]\nrole = "x"\n').config
    assert config is not None
    assert config.orchestration.sequential_agents == ["a", "b"]
    assert config.orchestration.max_hops == 32
    assert set(config.agents) == {"a", "b"}


def test_a_misspelt_key_is_not_missing_as_well(told: Callable[..., list[object]]) -> None:
    """A required key that was misspelt is told once."""
    assert [("AF0102", AT + "3:1", "did you mean `model`?")] == told("[llm]\nprovider = 'ollama'\nmodle = 'm'")
    assert [("AF0104", AT + "2:12", "did you mean `ollama`?")] == told("[llm]\nprovider = 'olama'\nmodel = 'm'")


def test_below_a_misspelt_header_keys_are_guessed_too(told: Callable[..., list[object]]) -> None:
    """What is meant by a key depends on the table that is meant."""
    found = told("[orchestratoin]\nmax_hop = 1\n[agnets.a]\ntools = []\n")
    assert [(AT + "1:2", "did you mean `orchestration`?"), (AT + "2:1", "did you mean `max_hops`?")] == [one[1:] for one in found[:2]]
    assert ("AF0106", AT + "4:1") == found[3][:2]


def test_two_tables_for_one_section_are_read_together(draft: Callable[..., Draft]) -> None:
    """A header misspelt in one place of several is told there, and what stands below it is checked."""
    checked = draft("[agents.a]\n[agent.b]\nrole = 5\n[agent.a]\nrole = 6\n[agents.c]\n")
    assert [("AF0102", 2), ("AF0103", 3)] == [(one.code, one.line) for one in checked.diagnostics]
    assert checked.config is not None
    assert list(checked.config.agents) == ["a", "c", "b"]


def test_an_agent_that_is_no_table_keeps_its_name(draft: Callable[..., Draft]) -> None:
    """A value in the place of an agent's table is told once; lists that name the agent stay right."""
    checked = draft("[agents]\na = 5\n")
    assert ["AF0103"] == [diagnostic.code for diagnostic in checked.diagnostics]
    assert checked.config is not None
    assert list(checked.config.agents) == ["a"]


def test_the_same_number_of_retries_said_twice_is_no_mistake(told: Callable[..., list[object]]) -> None:
    """`retry_attempts` and `retry.max_retries` may both be given when they agree."""
    assert told("[orchestration]\nretry_attempts = 2\nretry = { max_retries = 2 }") == []


def test_very_many_mistakes_are_listed_up_to_a_number(draft: Callable[..., Draft]) -> None:
    """Beyond 500 mistakes the rest is counted, so that a wrong file is no flood."""
    found = draft("".join(f"[x{number}]\n" for number in range(600))).diagnostics
    assert len(found) == 501
    assert ("AF0100", "100 more mistakes are not listed", 501) == (found[-1].code, found[-1].message, found[-1].line)


def test_a_plain_secret_is_refused_and_never_shown(draft: Callable[..., Draft]) -> None:
    """`api_key` as text is AF0117; neither message, source line nor row has the value."""
    found = draft('[llm]\nprovider = "openai"\nmodel = "m"\napi_key = "sk-canary"\n').diagnostics
    (diagnostic,) = found
    assert ("AF0117", 4, 11) == (diagnostic.code, diagnostic.line, diagnostic.column)
    assert diagnostic.help == 'keep it out of the file: { env = "NAME_OF_VARIABLE" } or { file = "path" }'
    assert " 4 | api_key = ***\n   |           ^^^ help" in diagnostic.render()
    assert "canary" not in diagnostic.render() + str(diagnostic.to_dict()) + diagnostic.annotation()


def test_collaborate_is_read_as_collaborative() -> None:
    """The documents use both words for one mode."""
    config = read({"orchestration": {"mode": "collaborate"}}, environ={}).config
    assert config is not None
    assert config.orchestration.mode == "collaborative"


_NO_DASH = ", and name it so in Python: no module or function has `-` in its name"
_NO_FILE = "; a module is named as in `import`, not by its file"
_NO_NAME = "; names are of letters A-Z a-z, digits and `_`; no private names"


@pytest.mark.parametrize(
    ("handler", "hint"),
    [
        ("hh.b", "write hh:b"),
        ("handlers", "write handlers:function"),
        ("handlers:", "write handlers:function"),
        ("./handlers.py", "write handlers:function" + _NO_FILE),
        ("../lib/handlers.py:go", "write handlers:go" + _NO_FILE),
        ("lib/handlers.py:go", "write lib.handlers:go" + _NO_FILE),
        ("my-handlers:x", "write my_handlers:x" + _NO_DASH),
        ("", "write module:function" + _NO_NAME),
        ("a:_private", "write module:function" + _NO_NAME),
        ("a" * 201, "write module:function" + _NO_NAME),
    ],
)
def test_a_malformed_handler_is_told_with_what_to_write(told: Callable[..., list[object]], handler: str, hint: str) -> None:
    """A handler is `module:function`; anything else is refused where it stands, before any import."""
    assert [("AF0104", AT + "2:11", hint)] == told(f'[agents.a]\nhandler = "{handler}"')


@pytest.mark.parametrize(
    ("entrypoint", "hint"),
    [
        ("./handlers.py", "write handlers" + _NO_FILE),
        ("my-handlers", "write my_handlers" + _NO_DASH),
        ("a:", "write a"),
        ("a:b:c", "write module or module:function" + _NO_NAME),
    ],
)
def test_a_malformed_entrypoint_is_told_with_what_to_write(told: Callable[..., list[object]], entrypoint: str, hint: str) -> None:
    """An entrypoint is `module` or `module:function`; anything else is refused where it stands."""
    assert [("AF0104", AT + "2:14", hint)] == told(f'[agent_flow]\nentrypoint = "{entrypoint}"')


@pytest.mark.parametrize("entrypoint", ["handlers", "handlers:register", "package.handlers:register"])
def test_a_module_alone_is_an_entrypoint(draft: Callable[..., Draft], entrypoint: str) -> None:
    """An entrypoint may leave its function out, and may be in a package."""
    assert [] == draft(f'[agent_flow]\nentrypoint = "{entrypoint}"').diagnostics


def test_a_reference_filled_from_a_variable_is_not_shown(draft: Callable[..., Draft]) -> None:
    """The message and the help for a malformed handler show the text of the file, not what a variable held."""
    (told,) = draft('[agents.a]\nhandler = "${PLACE}"', environ={"PLACE": "hidden/x.py"}).diagnostics
    assert "`handler` = `${PLACE}` is no module:function" == told.message
    assert "hidden" not in told.help
