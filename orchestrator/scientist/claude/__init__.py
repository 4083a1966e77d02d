"""A scientist that asks Claude: one fresh conversation per turn, with tools that edit a draft."""

from orchestrator.errors import StoppedError
from orchestrator.scientist.claude.scientist import ClaudeScientist

__all__ = ["ClaudeScientist", "StoppedError"]
