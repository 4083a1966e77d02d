"""LLM-in-the-loop experiment orchestrator: instruction -> proposal -> run -> tree -> memory -> next proposal."""

__version__ = "0.1.0"
