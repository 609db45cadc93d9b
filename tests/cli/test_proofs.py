"""`agentflow plan`: what is sure of a configuration before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call

DESK = """
[agent_flow]
name = "desk"

[orchestration]
mode = "mixed"
collaborative_agents = ["scorer", "tagger"]
sequential_agents = ["team"]
quorum = 1
merge = { tags = "union" }
budget = { calls = 500, tokens = 90_000 }

[flows.team]
mode = "supervisor"
supervisor = "lead"
agents = ["writer", "checker"]
max_rounds = 4
on_error = "continue"

[agents.scorer]
system_prompt = "Score it."
writes = ["score", "tags"]
[agents.tagger]
handler = "desk:tag"
reserve_tokens = 50
writes = ["score", "tags"]
retry = { max_retries = 2 }
[agents.lead]
system_prompt = "Say who is next."
[agents.writer]
system_prompt = "Write."
[agents.checker]
system_prompt = "Check."
[agents.listener]
subscribes = ["order.*"]
[agents.idle]
capabilities = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
[agents.off]
enabled = false

[llm]
provider = "ollama"
model = "tiny"
max_tokens = 800
"""


@pytest.fixture
def desk(project: Path) -> Path:
    """A project that a model mostly answers."""
    file = project / "desk.toml"
    file.write_text(DESK, encoding="utf-8")
    return file


def checks(row: Any) -> dict[str, bool]:
    """Return which questions of the checklist are met, by the first word that tells them apart."""
    return {one["item"]: one["ok"] for one in row["checklist"]}


def test_all_that_is_sure_of_a_plan_is_json(call: Call, desk: Path) -> None:
    """Worst cases, loops, joins, keys that two may write, agents that nobody calls, and the checklist."""
    outcome = call("plan", "desk.toml", "--json")
    assert outcome.code == 0
    row = outcome.json
    assert (row["worst_case_calls"], row["worst_case_steps"], row["worst_case_hops"]) == (16, 14, 0)
    assert row["worst_case_tokens"] == 800 + 3 * 50 + 4 * 3 * 800
    assert row["unknown_tokens"] == []
    assert [(one["scope"], one["calls"], one["tokens"]) for one in row["budgets"]] == [("run", 500, 90_000)]
    assert [(one["flow"], one["kind"], one["stop"], one["most"], one["unit"]) for one in row["loops"]] == [
        ("team", "delegation", "lead sets `done`", 4, "rounds")
    ]
    assert [(one["position"], one["flow"], one["members"], one["quorum"]) for one in row["joins"]] == [
        ("0.0", "desk", 2, 1),
        ("0.1.0#.1", "team", 2, None),
    ]
    assert [(one["key"], one["agents"], one["merge"]) for one in row["write_conflicts"]] == [("score", ["scorer", "tagger"], "ordered")]
    assert [(one["flow"], one["agents"]) for one in row["unknown_writes"]] == [("team", ["writer", "checker"])]
    assert row["unreached_agents"] == ["idle"]
    assert [(one["agent"], one["attempts"], one["on_error"], one["by"]) for one in row["errors"]] == [
        ("scorer", 1, "join", "join 0.0"),
        ("tagger", 3, "join", "join 0.0"),
        ("lead", 1, "continue", "flow team"),
        ("writer", 1, "join", "join 0.1.0#.1"),
        ("checker", 1, "join", "join 0.1.0#.1"),
    ]
    assert all(checks(row).values())
    assert len(checks(row)) == 8


def test_a_person_reads_the_same(call: Call, desk: Path) -> None:
    """Below the tree, each with its place; the command exits with 0 whatever the checklist says."""
    outcome = call("plan", "desk.toml", "--config-set", "journal.url=memory:")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert "worst case: 16 calls (14 without retries), 0 hand-offs, 3,303.3 s, 10,550 tokens" in lines
    at = lines.index("budgets:")
    assert [line.split(": ")[0] for line in lines[at:] if not line.startswith("  ")] == [
        "budgets:",
        "loops:",
        "joins:",
        "may be written side by side:",
        "errors:",
        "reached by no path:",
        "checklist:",
    ]
    assert "  run: 90,000 tokens, 500 calls" in lines
    assert "  0.1.0  team: until lead sets `done`; at most 4 rounds" in lines
    assert "  0.0  desk: fails when fewer than 1 succeed; merge ordered" in lines
    assert "  0.0  desk: `score` by scorer, tagger: the last one wins" in lines
    assert "  0.1.0#.1  team: unknown of writer, checker, without `writes`" in lines
    assert "  0.0.1  tagger: 3 attempts, counts for the join (join 0.0)" in lines
    assert "  0.1.0#.0  lead: continue (flow team)" in lines
    assert "  [x] termination is defined: 1 loop, each with a stop condition and a cap" in lines
    assert any(line.startswith("  [ ] state can be recovered: nothing is kept on disk") for line in lines)


def test_what_nobody_bounds_is_unknown(call: Call, desk: Path) -> None:
    """A model without max_tokens has no bound, whatever its agent sets aside; nor has a handler that sets nothing aside."""
    text = DESK.replace("max_tokens = 800\n", "").replace("reserve_tokens = 50\n", "").replace("budget =", "# budget =")
    desk.write_text(
        text.replace('system_prompt = "Score it."', 'system_prompt = "Score it."\nreserve_tokens = 7\nbudget = { tokens = 99 }'),
        encoding="utf-8",
    )
    row = call("plan", "desk.toml", "--json").json
    assert row["worst_case_tokens"] is None
    assert row["unknown_tokens"] == ["scorer", "tagger", "lead", "writer", "checker"]
    assert [(one["scope"], one["tokens"]) for one in row["budgets"]] == [("agent scorer", 99)]
    assert not checks(row)["resources are limited"]
    assert ", tokens unknown" in call("plan", "desk.toml").out


def test_what_can_be_told_of_many_steps_is_cut(call: Call, project: Path) -> None:
    """Of a plan with more steps than anybody reads the first are told, and how many there are."""
    names = [f"a{number}" for number in range(60)]
    tables = "".join(f"[agents.{name}]\n" for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    text = f'[orchestration]\nmode = "sequential"\nsequential_agents = [{listed}]\n[agents.extra]\n{tables}'
    (project / "many.toml").write_text(text, encoding="utf-8")
    assert "  and 10 more" in call("plan", "many.toml").out.splitlines()


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("fail_fast = true\njoin_timeout_seconds = 5", "fails when more than 0.5 of 2 fail, at once; closed after 5 s; merge ordered"),
        ('aggregate = "vote"', "fails when more than 0.5 of 2 fail; aggregate vote"),
        ('merge = "strict"', "fails when more than 0.5 of 2 fail; merge strict"),
    ],
)
def test_joins_tell_what_they_do(call: Call, project: Path, keys: str, told: str) -> None:
    """With which limits, and how one state is made of many."""
    text = f'[orchestration]\nmode = "collaborative"\ncollaborative_agents = ["a", "b"]\n{keys}\n[agents.a]\nwrites = ["k"]\n[agents.b]\n'
    (project / "join.toml").write_text(text, encoding="utf-8")
    assert told in call("plan", "join.toml").out


def test_collected_results_are_not_merged(call: Call, project: Path) -> None:
    """Items that fail are told to the reducer where the file says so; an answer may stand in for a failed step."""
    text = '[orchestration]\nmode = "map_reduce"\nmap = "a"\nover = "files"\nreduce = "b"\nmap_failures = "skip"\n[agents.a]\n[agents.b]\n'
    text += 'fallback = ["c"]\ndefault_output = { total = 0 }\n[agents.c]\n'
    (project / "reduce.toml").write_text(text, encoding="utf-8")
    lines = call("plan", "reduce.toml").out.splitlines()
    assert any(line.endswith(": failures go to the next step; nothing is merged") for line in lines)
    assert "  0.1  b: or else c, or else its default output, stop (default)" in lines
    assert "may be written side by side:" not in lines
