"""Gives the tests of this folder a world of their own, and says how much work is asked of them."""

from __future__ import annotations

import os

import pytest

from tests.durability.world import World


@pytest.fixture
def world() -> World:
    """A world with nobody in it."""
    return World()


@pytest.fixture
def is_proof() -> bool:
    """Whether the full counts are asked for, with AGENTFLOW_PROOF=1."""
    return bool(os.environ.get("AGENTFLOW_PROOF"))
