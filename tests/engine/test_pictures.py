"""Plots as a language model may see them: foreign, planted, too large, and the usual ones."""

import io
import os
import struct
import zlib

import pytest
from PIL import Image

from orchestrator.engine import opening, pictures
from orchestrator.engine.reading import Library
from orchestrator.errors import RefusedError, UserError
from tests import toy
from tests.shelf import BAD, opened


def png(width=40, height=30, mode="RGB", colour=None, **extra):
    packed = io.BytesIO()
    Image.new(mode, (width, height), colour if colour is not None else "red").save(packed, "PNG", **extra)
    return packed.getvalue()


def head(width, height):
    """Return a PNG that is all head: it claims a size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    return (b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data) - 4) + data
            + struct.pack(">I", zlib.crc32(data)))  # fmt: skip


def second_head(data, width, height):
    """Return a PNG whose second head claims another size than the first."""
    return data[:33] + head(width, height)[8:33] + data[33:]


@pytest.fixture
def plots(home):
    """The plots folder of the third run, with a few plots."""
    folder = toy.out(home) / "runs" / "0003-1" / "plots"
    (folder / "matrix").mkdir(parents=True)
    for name in ("loss", "zoo_1_5", "zoo_1_40", "matrix/comparison_0_500", "matrix/comparison_10_2500",
                 "matrix/comparison_9_9000"):  # fmt: skip
        (folder / f"{name}.png").write_bytes(png(colour=(len(name), 0, 0)))
    return folder


def not_shown(library, state, name, iteration=3):
    with pytest.raises(RefusedError) as caught:
        library.view_plot(state, iteration, name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 4000
    return str(caught.value)


def test_plots_are_listed_with_the_instructions_figures_first(home, plots):
    library, state = opened(home)
    (plots / "readme.txt").write_text("x")
    assert library.plots(state, 3) == (
        "plots/loss.png", "plots/matrix/comparison_10_2500.png", "plots/matrix/comparison_9_9000.png",
        "plots/matrix/comparison_0_500.png", "plots/zoo_1_40.png", "plots/zoo_1_5.png",
    )  # fmt: skip
    assert library.plots(state, 1) == () and library.plots(state, 2) == ()
    for iteration in (4, 0, -1, "3", None, 3.0, True):
        with pytest.raises(RefusedError, match="iterations 1, 2, 3"):
            library.plots(state, iteration)
    setup = opening.load(home, "toy", opening.Wishes())
    state.contract = state.contract.model_copy(update={"figures": ("zoo_*.png",)})
    assert Library(setup).plots(state, 3)[:2] == ("plots/zoo_1_40.png", "plots/zoo_1_5.png")


def test_a_plot_is_shown_once_and_kept(home, plots, monkeypatch):
    library, state = opened(home)
    picture = library.view_plot(state, 3, "plots/loss.png")
    assert (picture.name, picture.width, picture.height) == ("iter 3: plots/loss.png", 40, 30)
    data = library.image(picture.sha256)
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (40, 30) and image.getpixel((0, 0)) == (4, 0, 0) and image.info == {}
    monkeypatch.setattr(pictures, "small_png", None)  # decoding again would fail
    assert opened(home)[0].view_plot(state, 3, "plots/loss.png") == picture
    with pytest.raises(UserError, match="none"):
        library.image("0" * 64)


@pytest.mark.parametrize("damage", ["blob", "blob gone", "index"])
def test_a_damaged_blob_is_made_again_with_the_same_bytes(home, plots, damage):
    library, state = opened(home)
    picture = library.view_plot(state, 3, "plots/loss.png")
    blobs = toy.out(home) / "blobs"
    if damage == "index":
        next(blobs.glob("*.json")).write_text('{"sha256": "../../journal.jsonl", "width": 1, "height": 1}')
    elif damage == "blob":
        (blobs / picture.sha256).write_bytes(b"torn")
        with pytest.raises(UserError, match="another content"):
            library.image(picture.sha256)
    else:
        (blobs / picture.sha256).unlink()
    assert library.view_plot(state, 3, "plots/loss.png") == picture and library.image(picture.sha256)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("size", "shown"), [((3000, 100), (1568, 52)), ((2000, 2000), (1072, 1072)), ((1568, 733), (1568, 733)),
                        ((9, 1), (9, 1))]
)  # fmt: skip
def test_large_plots_are_scaled_down(size, shown):
    data, width, height = pictures.small_png(png(*size))
    assert (width, height) == shown and width * height <= pictures.SHOWN_PIXELS
    assert pictures.small_png(png(*size))[0] == data
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == shown


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [("RGBA", (0, 0, 0, 0), (255, 255, 255)), ("P", 0, (0, 0, 0)), ("L", 100, (100, 100, 100)), ("1", 1, (255,) * 3),
     ("I;16", 0x8000, (128, 128, 128)), ("LA", (10, 255), (10, 10, 10))],
)  # fmt: skip
def test_every_kind_of_png_is_shown_as_it_looks(mode, colour, seen):
    with Image.open(io.BytesIO(pictures.small_png(png(8, 8, mode, colour))[0])) as image:
        assert image.convert("RGB").getpixel((3, 3)) == seen


FOREIGN = {
    "text": (b"the key", "no PNG"),
    "empty": (b"", "no PNG"),
    "torn": (png(400, 400)[:60], "broken PNG"),
    "bomb": (head(2**31 - 1, 2**31 - 1), "at most 20000000 are decoded"),
    "flat bomb": (head(20_000_001, 1), "at most 20000000 are decoded"),
    "nothing": (head(0, 10), "at most 20000000 are decoded"),
    "second head": (second_head(png(), 6000, 6000), "at most 20000000 are decoded"),
    "no pixels": (head(1000, 1000), "broken PNG"),
    "large": (png() + b"\0" * 2**23, "cannot be read safely"),
    "a tiff": (b"II*\0" + b"\0" * 100, "no PNG"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_plots_are_refused_with_the_others_named(home, plots, kind):
    library, state = opened(home)
    (plots / "bad.png").write_bytes(FOREIGN[kind][0])
    told = not_shown(library, state, "plots/bad.png")
    assert FOREIGN[kind][1] in told and "plots/loss.png" in told
    assert not (toy.out(home) / "blobs").exists()


@pytest.mark.parametrize("kind", ["link", "link to a plot", "pipe", "folder", "in a linked folder", "swapped"])
def test_planted_plots_are_neither_listed_nor_read(home, plots, kind, monkeypatch):
    library, state = opened(home)
    path = plots / "planted.png"
    name = "plots/planted.png"
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "link to a plot":
        path.symlink_to(plots / "loss.png")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "in a linked folder":
        (plots / "linked").symlink_to(plots / "matrix")
        name = "plots/linked/comparison_0_500.png"
    else:  # a link takes the plot's place after it was listed
        path.symlink_to(plots / "loss.png")
        monkeypatch.setattr(pictures, "_found", lambda run: [name])
        assert "cannot be read safely" in not_shown(library, state, name)
        return
    assert name not in library.plots(state, 3)
    assert "has no plot of exactly that name" in not_shown(library, state, name)


def test_a_plots_folder_that_is_a_link_has_none(home, plots):
    library, state = opened(home)
    plots.rename(plots.with_name("elsewhere"))
    plots.symlink_to("elsewhere")
    assert library.plots(state, 3) == ()
    assert "has no plots" in not_shown(library, state, "plots/loss.png")


@pytest.mark.parametrize("name", [*BAD, "loss.png", "plots/../plots/loss.png", "/plots/loss.png", "comparison", "3"],
                         ids=lambda n: ascii(n)[:20])  # fmt: skip
def test_names_that_are_not_exactly_a_plots_are_refused_with_the_nearest(home, plots, name):
    library, state = opened(home)
    assert "plots/loss.png" in not_shown(library, state, name)


def test_refusals_name_the_nearest_plot_and_other_runs(home, plots):
    library, state = opened(home)
    told = not_shown(library, state, "plots/matrix/comparison_9_9001.png")
    assert told.index("comparison_9_9000") < told.index("comparison_10_2500") < told.index("plots/loss.png")
    assert "ended crashed" in not_shown(library, state, "plots/loss.png", 2)
    for iteration in (9, "3", None):
        assert "only runs that have ended, iterations 1, 2, 3" in not_shown(library, state, "plots/loss.png", iteration)
