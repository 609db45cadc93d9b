"""The JSON Schema and the reference page, written from the models."""

import json

import pytest

from agentflow.config.model import Config, Section
from agentflow.config.schema import json_schema, reference
from agentflow.config.section import key_of


def _tables(section: type[Section]) -> list[type[Section]]:
    """List the tables of files: the models of which no other is made."""
    parts = section.__subclasses__()
    return [table for part in parts for table in (_tables(part) or [part]) if table.__module__.startswith("agentflow.config.")]


TABLES = list(dict.fromkeys(_tables(Section)))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_every_key_is_described(table: type[Section]) -> None:
    """Each key says what it does, each duration that it is in seconds, each open default what it is."""
    assert table.__doc__
    for name, field in table.model_fields.items():
        assert field.description, name
        assert field.description.endswith((".", "`.")), name
        assert ("in seconds" in field.description) == name.endswith("_seconds"), name


def test_the_schema_is_closed_and_names_its_dialect() -> None:
    """Editors mark unknown keys in every table; the schema is JSON."""
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == {*Config.model_fields, "extends"}
    assert all(table["additionalProperties"] is False for table in [schema, *schema["$defs"].values()])
    assert "null" not in json.dumps(schema)


def test_the_schema_has_types_bounds_and_defaults() -> None:
    """A number may be given by a variable, which is a string."""
    flow = json_schema()["$defs"]["FlowConfig"]["properties"]
    number, variable = flow["max_iterations"]["anyOf"]
    assert (number["minimum"], flow["max_iterations"]["default"]) == (1, 5)
    assert variable["type"] == "string"
    assert flow["on_error"]["pattern"].startswith("^(stop|continue|route:")
    assert [choice["type"] for choice in flow["merge"]["oneOf"]] == ["string", "object"]
    assert flow["loop_agent"]["type"] == "string"


def test_the_reference_lists_every_key() -> None:
    """Each table has a section, each key a row with type and default; what is not supported yet is named."""
    page = reference()
    for table in TABLES:
        if table is not Config:
            assert all(f"| `{key_of(table, name)}` |" in page for name in table.model_fields)
    assert "| `max_hops` | integer ≥ 1 | `32` |" in page
    assert "| `timeout_seconds` | number > 0 | – |" in page
    assert "| `failure_threshold` | number 0–1 | `0.5` |" in page
    assert '| `merge` | `"ordered"`, `"strict"` or table | `"ordered"` |' in page
    assert "| `when` | string | required |" in page
    assert "`executor`" in page
    assert page.endswith("`slow_event_seconds`\n")
