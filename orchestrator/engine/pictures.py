"""Plots of finished runs, as a language model may see them: found without following links, small, safe to decode.

What a plot is shown as is a blob, and which blob is kept by the sha256 of the plot's file, so a second view, in a later
session too, decodes nothing and gives the same bytes.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import io
import math
import os
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from orchestrator.core.records import Record
from orchestrator.core.state import Iteration, State
from orchestrator.errors import RefusedError
from orchestrator.launch.folder import read_file
from orchestrator.paths import Paths, RunPaths
from orchestrator.ports import Picture
from orchestrator.store import atomic
from orchestrator.store.blobs import Blobs

if TYPE_CHECKING:
    from PIL.Image import Image

FILE_BYTES = 8 * 2**20
PIXELS = 20_000_000
"""Largest plot that is decoded, width times height."""
LONG_SIDE, SHOWN_PIXELS = 1568, 1_150_000
"""Largest picture that is shown: what a larger one is scaled down to by the service anyway."""
PLOTS = 1000
"""Plots of a run that are listed."""
LISTED = 12
"""Plots that a refusal names."""
NAME = 300
"""Longest name that is looked at."""
_HEAD = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_NUMBERS = re.compile(r"_?(\d+(?:_\d+)*)$")


class Shown(Record):
    """What a plot is shown as."""

    sha256: str
    width: int = Field(ge=1)
    height: int = Field(ge=1)


def finished(state: State, iteration: int) -> Iteration:
    """Return an iteration whose deciding run has ended.

    Raises:
        RefusedError: there is no such iteration, or it has not ended; names those that have.
    """
    known = isinstance(iteration, int) and not isinstance(iteration, bool)
    found = state.iterations.get(iteration) if known else None
    if found is not None and found.final is not None:
        return found
    why = "has not ended" if found is not None else "does not exist"
    done = numbers([it.proposal.iteration for it in state.done])
    raise RefusedError(f"iteration {shown_name(iteration)} was refused: it {why}; only runs that have ended, {done}")


def numbers(iterations: list[int]) -> str:
    """Return iterations in words, the latest when there are many."""
    if not iterations:
        return "and none has yet"
    listed = ", ".join(map(str, iterations[-LISTED:]))
    return f"iterations {listed}" if len(iterations) <= LISTED else f"{len(iterations)}, the latest {listed}"


def shown_name(name: object) -> str:
    """Return what was asked for as a message quotes it: short, printable."""
    text = repr(name) if isinstance(name, str) else f"{type(name).__name__} {name!r}"
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= 80 else f"{text[:80]}..."


class Plots:
    """The plots of one exploration's runs."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._blobs = Blobs(paths.blobs)

    def names(self, state: State, iteration: int) -> tuple[str, ...]:
        """Return a finished run's plots, named from its folder: the contract's figures first, each latest first.

        Raises:
            RefusedError: there is no such iteration, or it has not ended.
        """
        run = self._run(finished(state, iteration))
        return _ordered(_found(run), state.contract.figures)

    def view(self, state: State, iteration: int, name: str) -> Picture:
        """Return a plot as it is shown, kept as a blob.

        Raises:
            RefusedError: no such plot (names the nearest), or one that is not shown (says why).
        """
        it = finished(state, iteration)
        known = self.names(state, iteration)
        if not isinstance(name, str) or name not in known:
            raise RefusedError(_no_such(state, it, name, known))
        run = self._run(it)
        try:
            data = read_file(run.root / name, FILE_BYTES, root=self._paths.runs)
            shown = self._shown(data)
        except (OSError, RefusedError) as error:
            others = [n for n in known if n != name][:LISTED]
            what = (
                str(error) if isinstance(error, RefusedError) else f"it cannot be read safely, or is over {FILE_BYTES}"
            )
            told = f"other plots of iteration {iteration}: {', '.join(others)}" if others else "the run has no other"
            raise RefusedError(f"plot {shown_name(name)} was refused: {what}; {told}") from error
        return Picture(name=f"iter {iteration}: {name}", **shown.model_dump())

    def _run(self, it: Iteration) -> RunPaths:
        return self._paths.run(it.proposal.iteration, it.attempts[-1].number)

    def _shown(self, data: bytes) -> Shown:
        """Return what a plot's file is shown as, decoding it only the first time."""
        index = self._paths.shown(hashlib.sha256(data).hexdigest())
        try:
            shown = Shown.model_validate_json(index.read_bytes())
            if self._blobs.find(shown.sha256) is not None:
                return shown
        except (OSError, ValidationError):
            pass  # not shown before, or the note of it is damaged: made again
        png, width, height = small_png(data)
        shown = Shown(sha256=self._blobs.keep(png), width=width, height=height)
        atomic.write_text(index, shown.model_dump_json() + "\n")
        return shown


def _found(run: RunPaths) -> list[str]:
    """Return the names of the regular PNG files below a run's plots, sorted; links are not followed."""
    if run.root.is_symlink() or run.plots.is_symlink():
        return []
    found: list[str] = []
    for folder, folders, files in os.walk(run.plots):
        folders.sort()
        for file in sorted(files):
            path = os.path.join(folder, file)
            name = os.path.relpath(path, run.root)
            plain = name.isprintable() and len(name) <= NAME and "\\" not in name
            if plain and name.endswith(".png") and os.path.isfile(path) and not os.path.islink(path):
                found.append(name)
        if len(found) > PLOTS:
            break
    return sorted(found[:PLOTS])


def _moment(name: str) -> tuple[int, ...]:
    """Return the `{epoch}_{step}` that a plot's name ends with, () without one."""
    match = _NUMBERS.search(PurePosixPath(name).stem)
    return tuple(int(n) for n in match[1].split("_")) if match else ()


def _ordered(names: list[str], figures: tuple[str, ...]) -> tuple[str, ...]:
    """Return names with those that a figure's pattern matches first, in the patterns' order, each latest first."""
    latest = sorted(names, key=_moment, reverse=True)
    first = [n for pattern in figures for n in latest if _matches(n, pattern)]
    rest = sorted(latest, key=lambda n: _NUMBERS.sub("", str(PurePosixPath(n).with_suffix(""))))
    return tuple(dict.fromkeys([*first, *rest]))


def _matches(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"plots/{pattern}")


def _no_such(state: State, it: Iteration, name: object, known: tuple[str, ...]) -> str:
    number = it.proposal.iteration
    told = f"plot {shown_name(name)} was refused: "
    if not known:
        good = numbers([i.proposal.iteration for i in state.done if i.outcome == "ok"])
        return f"{told}the run of iteration {number} (ended {it.outcome}) has no plots; runs that ended well: {good}"
    near = difflib.get_close_matches(str(name)[:NAME], known, n=LISTED, cutoff=0.3)
    listed = list(dict.fromkeys([*near, *known]))
    more = f" and {len(listed) - LISTED} more" if len(listed) > LISTED else ""
    return f"{told}iteration {number} has no plot of exactly that name; it has {', '.join(listed[:LISTED])}{more}"


def small_png(data: bytes) -> tuple[bytes, int, int]:
    """Return a PNG as it is shown (no larger than the service looks at, nothing but pixels), its width and height.

    The size is checked in the header before anything is unpacked, and again after Pillow has read its own.

    Raises:
        RefusedError: no PNG, too large, or broken.
    """
    if data[: len(_HEAD)] != _HEAD or len(data) < 33:
        raise RefusedError("it is no PNG")
    _must_be_small(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            _must_be_small(*image.size)
            image.load()
            plain = _scaled(_on_white(image))
    except RefusedError:
        raise
    except Exception as error:  # a decoder of foreign files: anything may come out of it
        raise RefusedError(f"it is a broken PNG ({type(error).__name__})") from error
    packed = io.BytesIO()
    plain.save(packed, "PNG", compress_level=6)
    return packed.getvalue(), *plain.size


def _must_be_small(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > PIXELS:
        raise RefusedError(f"it has {width} x {height} pixels, and at most {PIXELS} are decoded")


def _on_white(image: Image) -> Image:
    """Return an image's pixels on white, without metadata."""
    from PIL import Image as Images

    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip them
        image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    plain = Images.new("RGB", image.size, "white")
    seen = image.convert("RGBA")
    plain.paste(seen, mask=seen.getchannel("A"))
    return plain


def _scaled(image: Image) -> Image:
    """Return an image scaled down to the largest size that is shown; a small one as it is."""
    from PIL import Image as Images

    width, height = image.size
    scale = min(1.0, LONG_SIDE / max(width, height), math.sqrt(SHOWN_PIXELS / (width * height)))
    if scale == 1.0:
        return image
    size = (max(1, math.floor(width * scale + 1e-6)), max(1, math.floor(height * scale + 1e-6)))
    return image.resize(size, Images.Resampling.LANCZOS)
