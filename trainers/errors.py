"""How a training, preparation or scoring ends when it cannot go on: exit code, kind, one sentence."""

from __future__ import annotations

MEMORY_WORDS = ("out of memory", "t allocate memory", "not enough memory", "_ALLOC_FAILED")
"""Of torch's allocators, of the CUDA driver, of cuBLAS, cuDNN and cuSOLVER."""


class StepError(Exception):
    """An end with a sentence for people; `code` is the exit code of docs/contract.md."""

    code = 1
    kind = "error"


class RefusedError(StepError):
    """The order, the data or an estimate is not usable as it is; nothing was trained or scored."""

    code = 13
    kind = "refused"


class DivergedError(StepError):
    """A loss or a weight became NaN or infinite; the last good checkpoint stays."""

    code = 10
    kind = "diverged"


class StoppedError(StepError):
    """SIGTERM arrived; a checkpoint was written."""

    code = 12
    kind = "stopped"


class MemoryRefusedError(StepError):
    """Memory ran out."""

    code = 11
    kind = "out_of_memory"


def is_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out: of Python, of torch on either device, of a CUDA library."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in MEMORY_WORDS)
