"""Sets what holds for every test: how Hypothesis looks for counterexamples."""

import os

from hypothesis import settings

# A build must say the same twice, so on a build server the examples are fixed; at a desk each run looks elsewhere.
# No deadline: a shared machine is sometimes slow, and how long something takes is a question for benchmarks/.
settings.register_profile("desk", deadline=None)
settings.register_profile("build", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("build" if os.environ.get("CI") else "desk")
