"""Testing: time that jumps, and agents that stand in for the real ones.

    from agentflow import Event, Runner
    from agentflow.testing import run_virtual, stub_agents

    def test_the_publisher_comes_last():
        runner = Runner.from_config("agentflow.toml")
        calls = stub_agents(runner, {"collector": {"rows": 3}, "publisher": ConnectionError("down")})

        async def main():
            async with runner:
                return await runner.run(Event("collector", {"day": "Monday"}))

        result = run_virtual(main())
        assert calls.agents == ["collector", "publisher"]
        assert calls[1].state == {"day": "Monday", "rows": 3}
        assert result.error.type == "ConnectionError"

In an async test the loop itself may be virtual: `asyncio.Runner(loop_factory=virtual_loop)`, or whatever your test
runner takes as a loop factory.
"""

from __future__ import annotations

from agentflow.testing.clock import StalledError, VirtualLoop, run_virtual, virtual_loop
from agentflow.testing.stubs import StubCall, StubCalls, stub_agents

__all__ = ["StalledError", "StubCall", "StubCalls", "VirtualLoop", "run_virtual", "stub_agents", "virtual_loop"]
