"""The engine: asks the walk what is ready, hands calls to the executor, settles the answers."""
