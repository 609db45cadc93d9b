"""The pure core: what an event, a state, a plan and its interpreter are. No I/O, clock, randomness or asyncio."""
