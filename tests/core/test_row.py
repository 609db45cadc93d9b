"""What a result holds reads as attributes and as the JSON that is printed."""

from __future__ import annotations

import pytest

from agentflow.core.failure import failure_of
from agentflow.core.merge import Conflict
from agentflow.core.result import Timing, Usage
from agentflow.core.row import Row


@pytest.mark.parametrize("row", [failure_of(ValueError("bad")), Conflict("k", ("a", "b"), "b"), Usage(calls=2), Timing(1.0, 2.0)])
def test_row_reads_as_its_json_object(row: Row) -> None:
    """Each entry of `to_dict` can be had by its key, and nothing else can."""
    assert row.to_dict() == {key: row[key] for key in row.to_dict()}
    with pytest.raises(KeyError):
        row["nothing"]
