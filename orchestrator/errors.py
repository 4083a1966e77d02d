"""Errors of the engine, by whom they are for.

`UserError` is shown to a person as one clear message and ends the command with its exit code.
`RefusedError` is shown to the scientist (model or policy), who may try again.
How a training run ended is no exception at all: it is an `Outcome` value (see `core.records`).
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_NEEDS_PERSON = 3
EXIT_STOPPED = 4
EXIT_INTERRUPT = 130


class UserError(Exception):
    """Something a person must change; the message says what was expected, what was found, where, and what to do."""

    exit_code = EXIT_USAGE


class NeedsPersonError(UserError):
    """The exploration cannot go on by itself (exit code 3); everything finished so far is kept."""

    exit_code = EXIT_NEEDS_PERSON


class InstructionError(UserError):
    """An instruction, config or exploration file that cannot be read with certainty."""


class JournalError(UserError):
    """The journal is damaged in the middle or held by another engine; nothing was written."""

    exit_code = EXIT_NEEDS_PERSON


class RefusedError(Exception):
    """A proposal that breaks a rule: says what was refused, the rule, and the nearest valid thing."""


class TrialRefusedError(RefusedError):
    """A code edit that did not survive its trial; the sentence holds a traceback, line by line."""


class StoppedError(Exception):
    """A person asked the engine to stop while it waited for something."""


class ModelUnavailableError(Exception):
    """The language model could not be asked just now (429, 529, 5xx, lost connection): waiting may help."""

    def __init__(self, sentence: str, *, maybe_paid: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(sentence)
        self.maybe_paid = maybe_paid
        """Whether the service may have begun to answer, so that the request may be on the bill."""
        self.retry_after_s = retry_after_s


class ModelRejectedError(NeedsPersonError):
    """The service turned the request down (400, 401, 403, 404, 413): the same request would be turned down again."""
