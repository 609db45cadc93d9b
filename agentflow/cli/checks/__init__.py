"""What `agentflow doctor` looks at: each module a part, each function a question. They change nothing."""
