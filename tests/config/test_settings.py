"""The effective values with their origins, as `agentflow config show --origin` prints them."""

from collections.abc import Callable

from agentflow.config import Draft


def test_rows_are_in_the_order_of_the_models_and_the_file(draft: Callable[..., Draft]) -> None:
    """Each value has one row; agents come in file order, so that two prints can be compared."""
    keys = [row.key for row in draft('[agents.b]\n[agents."a.c"]\n').settings]
    assert keys[:5] == ["agent_flow.name", "agent_flow.version", "agent_flow.description", "agent_flow.entrypoint", "orchestration.mode"]
    assert [key for key in keys if key.endswith(".role")] == ["agents.b.role", 'agents."a.c".role']
    assert keys[-1] == "error_routing.error_handler"
    assert len(keys) == len(set(keys))


def test_each_row_says_where_its_value_comes_from(draft: Callable[..., Draft]) -> None:
    """A default says so, a value of the file names its line, one that was misspelt the line it stands in."""
    text = '[orchestration]\nmode = "loop"\nretry = { max_retries = 2 }\nmax_hop = 4\n[[orchestration.switch]]\nwhen = "true"\nuse = "x"\n'
    origins = {key: str(origin) for key, origin in draft(text).origins.items()}
    assert origins["orchestration.mode"] == "agentflow.toml:2"
    assert origins["orchestration.retry.max_retries"] == "agentflow.toml:3"
    assert origins["orchestration.retry.jitter"] == "default"
    assert origins["orchestration.max_hops"] == "agentflow.toml:4"
    assert origins["orchestration.switch[0].use"] == "agentflow.toml:7"
    assert origins["agent_flow.name"] == "default"


def test_the_name_of_the_project_is_that_of_its_folder(draft: Callable[..., Draft]) -> None:
    """Unless the file gives one; a default does not count as given."""
    checked = draft("")
    assert checked.config is not None
    assert checked.config.agent_flow.name == checked.folder.absolute().name != ""
    assert checked.config.agent_flow.given == frozenset()
    named = draft("[agent_flow]\nname = 'x'").config
    assert named is not None
    assert named.agent_flow.name == "x"


def test_secrets_are_masked(draft: Callable[..., Draft]) -> None:
    """Values from secret variables, of secret keys and in addresses are never shown; references are."""
    text = """
[llm]
provider = "openai"
model = "m"
base_url = "https://user:canary@host/${MODEL_TOKEN}"
api_key = { env = "OPENAI_API_KEY" }
[agents.a]
role = "${DB_PASSWORD}"
capabilities = ["x", "${API_KEY}"]
[agnts.c]
role = "${DB_PASSWORD}"
[agents.b]
description = "https://user:canary@host/path"
[orchestration]
options = { token = "canary", many = [{ secret = "canary" }], plain = "shown", url = "redis://:canary@h" }
"""
    checked = draft(text, environ={"DB_PASSWORD": "canary", "API_KEY": "canary", "MODEL_TOKEN": "canary"})
    assert ["AF0102"] == [one.code for one in checked.diagnostics]
    values = {row.key: row.value for row in checked.settings}
    assert "canary" not in str(values)
    assert values["llm.api_key.env"] == "OPENAI_API_KEY"
    assert values["agents.a.capabilities"] == ["x", "***"]
    assert values["agents.b.description"] == "https://***@host/path"
    assert values["orchestration.options.plain"] == "shown"


def test_without_a_config_there_are_no_rows(draft: Callable[..., Draft]) -> None:
    """A text that could not be read has no values."""
    assert draft("[").settings == []
