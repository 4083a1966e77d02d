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
