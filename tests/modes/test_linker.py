"""What the linker finds wrong with the meaning of a configuration, each with code, place and cure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from agentflow import app
from agentflow.config.diagnostics import ConfigError, Diagnostic
from agentflow.core.plan import Node
from agentflow.errors import did_you_mean
from agentflow.modes import findings

Check = Callable[[str], tuple[Node | None, list[Diagnostic]]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Write a file and check it."""

    def checked(text: str) -> tuple[Node | None, list[Diagnostic]]:
        path = tmp_path / "agentflow.toml"
        path.write_text(text, encoding="utf-8")
        return app.load(path, environ={}).check()

    return checked


AGENTS = "[agents.a]\n[agents.b]\n"
OF_JOINS = ("collaborative_agents", "failure_threshold", "max_concurrency", "merge")

MISTAKES = {
    "unknown mode": (
        '[orchestration]\nmode = "sequental"\n',
        "AF0201",
        "2:8",
        "unknown mode `sequental`",
        "did you mean `sequential`?",
    ),
    "missing list": (
        '[orchestration]\nmode = "sequential"\n[agents.a]\n',
        "AF0203",
        "1:1",
        "mode `sequential` needs `sequential_agents`",
        'sequential_agents = ["a", "b"]',
    ),
    "missing agent": (
        '[orchestration]\nmode = "loop"\n[agents.a]\n',
        "AF0203",
        "1:1",
        "mode `loop` needs `loop_agent`",
        'loop_agent = "a"',
    ),
    "missing both lists": (
        '[orchestration]\nmode = "mixed"\n[agents.a]\n',
        "AF0203",
        "1:1",
        "mode `mixed` needs `collaborative_agents` or `sequential_agents`",
        "add e.g.",
    ),
    "nobody to route to": ('[orchestration]\nmode = "route"\n', "AF0218", "1:2", "no agent to route to", "[agents.NAME]"),
    "empty list": (
        '[orchestration]\nmode = "sequential"\nsequential_agents = []\n',
        "AF0204",
        "3:21",
        "`sequential_agents` is empty",
        "name at least one",
    ),
    "nobody enabled": (
        '[orchestration]\nmode = "collaborative"\n[agents.a]\nenabled = false\n',
        "AF0218",
        "1:2",
        "no agents registered, and none in the file",
        "[agents.NAME]",
    ),
    "unknown agent": (
        '[orchestration]\nmode = "sequential"\nsequential_agents = ["analyzer", "analyser"]\n[agents.analyzer]\n',
        "AF0205",
        "3:34",
        "no agent or flow named `analyser`",
        "did you mean `analyzer`?; or add a table [agents.analyser]",
    ),
    "unknown loop agent": (
        f'[orchestration]\nmode = "loop"\nloop_agent = "zz"\n{AGENTS}',
        "AF0205",
        "3:14",
        "no agent or flow named `zz`",
        "known: a, b",
    ),
    "unknown default agent": (
        f'[orchestration]\nmode = "route"\ndefault_agent = "zz"\n{AGENTS}',
        "AF0205",
        "3:17",
        "no agent or flow named `zz`",
        "known: a, b",
    ),
    "disabled agent": (
        '[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\n[agents.a]\nenabled = false\n',
        "AF0206",
        "3:22",
        "agent `a` is disabled",
        "enable [agents.a]",
    ),
    "cycle": (
        '[orchestration]\nmode = "sequential"\nsequential_agents = ["one"]\n'
        '[flows.one]\nmode = "sequential"\nsequential_agents = ["two"]\n[flows.two]\nmode = "loop"\nloop_agent = "one"\n',
        "AF0207",
        "9:14",
        "flow `one` contains itself: one -> two -> one",
        "break the cycle",
    ),
    "flow of itself": (
        f'[orchestration]\nmode = "route"\n[flows.one]\nmode = "sequential"\nsequential_agents = ["a", "one"]\n{AGENTS}',
        "AF0207",
        "5:27",
        "flow `one` contains itself: one -> one",
        "break the cycle",
    ),
    "two things of one name": (
        f'[orchestration]\nmode = "route"\n{AGENTS}[flows.a]\nmode = "sequential"\nsequential_agents = ["b"]\n',
        "AF0208",
        "5:8",
        "`a` is both an agent and a flow",
        "rename one",
    ),
    "twice in a list": (
        f'[orchestration]\nmode = "collaborative"\ncollaborative_agents = ["a", "b", "a"]\n{AGENTS}',
        "AF0209",
        "3:35",
        "`a` is in the list twice",
        "remove one",
    ),
    "condition that cannot be read": (
        f'[orchestration]\nmode = "loop"\nloop_agent = "a"\nuntil = "state.x >"\n{AGENTS}',
        "AF0210",
        "4:9",
        "cannot read `state.x >`",
        "write CEL",
    ),
    "unknown name in a condition": (
        f'[orchestration]\nmode = "loop"\nloop_agent = "a"\nuntil = "stat.x > 1"\n{AGENTS}',
        "AF0211",
        "4:9",
        "unknown name `stat`",
        "did you mean `state`?",
    ),
    "misspelt event field": (
        f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\n'
        f'[[orchestration.switch]]\nwhen = "event.dta.x > 1"\nuse = "quick"\n'
        f'[flows.quick]\nmode = "sequential"\nsequential_agents = ["b"]\n{AGENTS}',
        "AF0211",
        "5:8",
        "an event has no `dta`",
        "did you mean `data`?",
    ),
    "condition of another mode": (
        f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\nuntil = "1 +"\n{AGENTS}',
        "AF0210",
        "4:9",
        "cannot read `1 +`",
        "write CEL",
    ),
    "route flow without a default": (
        f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a", "help"]\n[flows.help]\nmode = "route"\n{AGENTS}',
        "AF0212",
        "3:27",
        "route flow `help` is used as an agent and has no default_agent",
        "add default_agent to [flows.help]",
    ),
    "merge policy": (
        f'[orchestration]\nmode = "collaborative"\ncollaborative_agents = ["a"]\nmerge = {{ score = "mx" }}\n{AGENTS}',
        "AF0213",
        "4:19",
        "unknown merge policy `mx`",
        "did you mean `max`?",
    ),
    "options": (
        f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\noptions = {{ x = 1 }}\n{AGENTS}',
        "AF0214",
        "4:1",
        "mode `sequential` takes no options",
        "registered in Python",
    ),
    "switch to nowhere": (
        f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\n[[orchestration.switch]]\nwhen = "true"\nuse = "quik"\n'
        f'[flows.quick]\nmode = "sequential"\nsequential_agents = ["b"]\n{AGENTS}',
        "AF0215",
        "6:7",
        "no flow named `quik`",
        "did you mean `quick`?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_has_code_place_and_cure(name: str, check: Check) -> None:
    """Each mistake of meaning is an error with its code, the line and column that say it, and what to do."""
    text, code, place, message, cure = MISTAKES[name]
    plan, found = check(text)
    errors = [one for one in found if one.severity == "error"]
    assert plan is None or name in ("flow of itself", "two things of one name")
    assert [(one.code, f"{one.line}:{one.column}") for one in errors] == [(code, place)], [one.render() for one in errors]
    assert message in errors[0].message
    assert cure in errors[0].help


def nested_flows(levels: int) -> str:
    """Write a main flow that names f0, which names f1, and so on to an agent."""
    main = '[orchestration]\nmode = "sequential"\nsequential_agents = ["f0"]\n'
    flows = "".join(f'[flows.f{n}]\nmode = "sequential"\nsequential_agents = ["f{n + 1}"]\n' for n in range(levels - 1))
    return f'{main}{flows}[flows.f{levels - 1}]\nmode = "sequential"\nsequential_agents = ["a"]\n[agents.a]\n'


def test_flows_nested_too_deep_are_refused(check: Check) -> None:
    """Flows in flows go 16 levels deep, and no deeper."""
    _, found = check(nested_flows(18))
    (error,) = found
    assert (error.code, error.message) == ("AF0216", "flows are nested deeper than 16 levels at `f16`")
    assert error.line == 51


def test_sixteen_levels_are_taken(check: Check) -> None:
    """Sixteen levels of flows are no mistake."""
    plan, found = check(nested_flows(16))
    assert (plan is not None, found) == (True, [])


def test_all_mistakes_are_told_in_one_pass(check: Check) -> None:
    """Every mistake of a file is listed at once, in the order of its lines, each once."""
    _, found = check(
        """[orchestration]
mode = "sequential"
sequential_agents = ["a", "ghost", "off"]
until = "nope > 1"
[[orchestration.switch]]
when = "state."
use = "nowhere"
[flows.bad]
mode = "loop"
[flows.worse]
mode = "walk"
[[flows.worse.switch]]
when = "true"
use = "bad2"
[agents.a]
[agents.off]
enabled = false
"""
    )
    errors = [(one.code, one.line) for one in found if one.severity == "error"]
    assert errors == [
        ("AF0205", 3),
        ("AF0206", 3),
        ("AF0211", 4),
        ("AF0210", 6),
        ("AF0215", 7),
        ("AF0203", 8),
        ("AF0201", 11),
        ("AF0215", 14),
    ]


def test_mistake_of_a_shared_flow_is_told_once(check: Check) -> None:
    """A flow that is used in two places has its mistakes told once."""
    _, found = check('[orchestration]\nmode = "sequential"\nsequential_agents = ["f", "f"]\n[flows.f]\nmode = "loop"\n')
    assert [one.code for one in found] == ["AF0203"]


def test_mistake_is_shown_with_its_line(check: Check) -> None:
    """A mistake is shown with the line, a caret under the value, and the help."""
    _, found = check('[orchestration]\nmode = "sequential"\nsequential_agents = ["a", "bb"]\n[agents.a]\n[agents.bbb]\n')
    (error,) = found
    shown = error.render().splitlines()
    assert shown[0] == "error[AF0205]: no agent or flow named `bb`"
    assert shown[1].endswith("agentflow.toml:3:27")
    assert shown[-2:] == [
        ' 3 | sequential_agents = ["a", "bb"]',
        "   |                           ^^^^ help: did you mean `bbb`?; or add a table [agents.bb]",
    ]


@pytest.mark.parametrize(
    ("mode", "unused"),
    [
        ("route", [*OF_JOINS, "loop_agent", "max_iterations", "sequential_agents", "until"]),
        ("collaborative", ["default_agent", "loop_agent", "max_hops", "max_iterations", "sequential_agents", "until"]),
        ("sequential", [*OF_JOINS, "default_agent", "loop_agent", "max_hops", "max_iterations", "until"]),
        ("loop", [*OF_JOINS, "default_agent", "max_hops", "sequential_agents"]),
        ("mixed", ["default_agent", "loop_agent", "max_hops", "max_iterations", "until"]),
    ],
)
def test_keys_of_other_modes_are_listed(mode: str, unused: list[str], check: Check) -> None:
    """One file may have the keys of all modes: those that the chosen one does not read are listed as advice, with who reads them."""
    plan, found = check(
        f"""[orchestration]
mode = "{mode}"
collaborative_agents = ["a", "b"]
sequential_agents = ["a", "b"]
loop_agent = "a"
max_iterations = 3
max_hops = 4
until = "state.x"
default_agent = "a"
merge = "strict"
failure_threshold = 0.2
max_concurrency = 3
{AGENTS}"""
    )
    assert plan is not None
    assert {(one.code, one.severity) for one in found} == {("AF0290", "warning")}
    assert sorted(str(one.path[-1]) for one in found) == sorted(unused)
    assert all("is used by mode" in one.message and f"not by `{mode}`" in one.message and one.column == 1 for one in found)


def test_agents_of_a_mode_not_chosen_may_be_missing(check: Check) -> None:
    """Only what the chosen flow reaches must be there and enabled."""
    plan, found = check(
        f'[orchestration]\nmode = "sequential"\nsequential_agents = ["a"]\nloop_agent = "off"\n{AGENTS}[agents.off]\nenabled = false\n'
    )
    assert plan is not None
    assert [one.severity for one in found] == ["warning"]


def test_disabled_agent_is_left_out_of_defaults(check: Check) -> None:
    """Where a mode takes all agents, a disabled one is not among them and is no mistake."""
    plan, found = check(f'[orchestration]\nmode = "collaborative"\n{AGENTS}[agents.off]\nenabled = false\n')
    assert found == []
    assert plan is not None
    assert [branch.agent for branch in plan.branches] == ["a", "b"]  # type: ignore[union-attr]


def test_a_route_flow_does_not_reach_back_into_flows_that_use_it(check: Check) -> None:
    """A flow that uses a route flow is no member of it, in whatever order the file has them: that would be a cycle nobody wrote."""
    triage = '[flows.triage]\nmode = "route"\ndefault_agent = "a"\n'
    full = '[flows.full]\nmode = "sequential"\nsequential_agents = ["b", "triage"]\n'
    plain = '[flows.plain]\nmode = "sequential"\nsequential_agents = ["b"]\n'
    plans = []
    for flows in (triage + full + plain, full + triage + plain):
        plan, found = check(f'[orchestration]\nmode = "sequential"\nsequential_agents = ["triage"]\n{flows}{AGENTS}')
        assert found == []
        plans.append(plan)
    assert plans[0] == plans[1]
    members = plans[0].steps[0].body.routes  # type: ignore[union-attr]
    assert list(members) == ["a", "b", "plain"]


def test_default_of_a_route_flow_is_always_a_member(check: Check) -> None:
    """A route flow's default may be a flow that has a route flow in it."""
    plan, found = check(
        '[orchestration]\nmode = "sequential"\nsequential_agents = ["outer"]\n'
        '[flows.outer]\nmode = "route"\ndefault_agent = "team"\n'
        '[flows.team]\nmode = "sequential"\nsequential_agents = ["inner"]\n'
        '[flows.inner]\nmode = "route"\ndefault_agent = "a"\n'
        f"{AGENTS}"
    )
    assert found == []
    assert plan is not None
    outer = plan.steps[0]  # type: ignore[union-attr]
    assert outer.body.default == "team"
    assert outer.body.cases[outer.body.routes["team"]].flow.name == "team"


def test_very_many_route_flows_are_refused_and_not_unfolded(check: Check) -> None:
    """A file whose flows come to more than 20,000 steps is refused in time of its size."""
    flows = "".join(f'[flows.f{n}]\ndefault_agent = "a0"\n' for n in range(120))
    agents = "".join(f"[agents.a{n}]\n" for n in range(200))
    _, found = check(f"[orchestration]\n{flows}{agents}")
    assert [(one.code, one.message) for one in found] == [("AF0216", "the flows come to more than 20,000 steps")]


def test_flows_that_name_each_other_many_times_link_at_once(check: Check) -> None:
    """Sixteen flows of ten steps each are linked as sixteen flows, not as the tree they unfold to."""
    flows = "".join(f'[flows.f{n}]\nmode = "sequential"\nsequential_agents = {[f"f{n + 1}"] * 10}\n' for n in range(15))
    main = '[orchestration]\nmode = "sequential"\nsequential_agents = ["f0"]\n'
    plan, found = check(f'{main}{flows}[flows.f15]\nmode = "loop"\nloop_agent = "a"\n[agents.a]\n')
    assert (plan is not None, found) == (True, [])


def test_hints_end_before_they_take_long(check: Check) -> None:
    """Of very many unknown names each is told, and the first have a nearest name."""
    names = ", ".join(f'"b{n}"' for n in range(400))
    _, found = check(f'[orchestration]\nmode = "sequential"\nsequential_agents = [{names}]\n[agents.b]\n')
    assert len(found) == 400
    assert "did you mean `b`?" in found[0].help
    assert found[-1].help == "add a table [agents.b399]"


def test_names_are_compared_a_bounded_number_of_times(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """Among very many names the search for the nearest ends sooner, and a hint lists no thousands of names."""
    compared: list[int] = []

    def counted(name: str, known: Collection[str]) -> str:
        compared.append(len(known))
        return did_you_mean(name, known)

    monkeypatch.setattr(findings, "did_you_mean", counted)
    agents = "[agents]\n" + "".join(f"{n} = {{}}\n" for n in range(15_000))
    _, found = check(f'[orchestration]\nmode = "sequential"\nsequential_agents = ["odd", "strange", "unheard-of"]\n{agents}')
    assert compared == [15_000, 15_000]
    assert [one.help for one in found[1:]] == ["15,000 names are known; or add a table [agents.strange]", "add a table [agents.unheard-of]"]


def test_project_with_mistakes_cannot_be_run(tmp_path: Path) -> None:
    """Where running is asked for, the mistakes are raised together."""
    path = tmp_path / "agentflow.toml"
    path.write_text('[orchestration]\nmode = "mine"\n', encoding="utf-8")
    project = app.load(path, environ={})
    with pytest.raises(ConfigError) as caught:
        project.require(may_lack_modes=False)
    assert "AF0201" in str(caught.value)
    project.require(may_lack_modes=True)


def test_names_are_checked_under_the_mode_that_was_probably_meant(check: Check) -> None:
    """A misspelt mode does not hide an unknown name in its list."""
    _, found = check('[orchestration]\nmode = "sequental"\nsequential_agents = ["a", "nobody"]\n[agents.a]\n')
    assert ["AF0201", "AF0205"] == [one.code for one in found]
