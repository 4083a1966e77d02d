"""The corpus of hostile and broken replies: what is said, and what the answer to it must name."""

from tests.scientist.hostile_base import CASES, CHOSEN, KINDS
from tests.scientist.hostile_calls import ENDING, NOTHING
from tests.scientist.hostile_texts import FALSE_TOO, FORGED_TOO
from tests.scientist.hostile_values import near

__all__ = ["CASES", "CHOSEN", "ENDING", "FALSE_TOO", "FORGED_TOO", "KINDS", "NOTHING", "near"]
