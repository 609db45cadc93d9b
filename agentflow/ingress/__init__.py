"""Where events come in from outside the process: HTTP, with what guards it. Composed by `agentflow serve`."""
