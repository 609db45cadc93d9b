"""Agents: the kinds of things that answer a call."""
