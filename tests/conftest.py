"""Sets what holds for every test: how Hypothesis looks for counterexamples, and that no test knows another one's secrets."""

import os

import pytest
from hypothesis import settings

from agentflow.core.redaction import KNOWN

# A build must say the same twice, so on a build server the examples are fixed; at a desk each run looks elsewhere.
# No deadline: a shared machine is sometimes slow, and how long something takes is a question for benchmarks/.
settings.register_profile("desk", deadline=None)
settings.register_profile("build", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("build" if os.environ.get("CI") else "desk")


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin without a secret: what one has read would be masked in the others."""
    monkeypatch.setattr(KNOWN, "_known", {})
    monkeypatch.setattr(KNOWN, "_forms", ())
