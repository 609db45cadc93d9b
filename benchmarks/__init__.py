"""Measures agentflow beside hand-written floors and other frameworks; run it with `python -m benchmarks`.

Everything that a worker process imports (this file, `workloads`, `contender`, `families`, `memory`, `worker`) uses the
standard library only, so that it runs unchanged in the virtual environment of any peer.
"""
