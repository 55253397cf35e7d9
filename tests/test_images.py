"""One picture: which files are opened, and what becomes of their modes, depths and transparency."""

import numpy as np
import pytest
from PIL import Image

import keras_arch
from keras_arch.data.check import check
from keras_arch.images import FORMATS, RASTER, SUFFIXES, read_image

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (6, 9, 4)).astype("uint8")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def on_white(colors, alpha):
    """The definition of composition, in real numbers."""
    share = alpha[..., np.newaxis] / 255
    return np.floor(share * colors + (1 - share) * 255 + 0.5)


# --- formats ---


@pytest.fixture
def ghostscript(tmp_path, monkeypatch):
    """The trace of a program `gs` on the PATH, which is there once the program has been started."""
    from PIL import EpsImagePlugin

    program, trace = tmp_path / "bin" / "gs", tmp_path / "started"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {trace}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # so that Pillow looks for it
    return trace


@pytest.mark.parametrize("name", ["x.png", "x.eps"])
def test_eps_starts_no_program(tmp_path, ghostscript, name):
    (tmp_path / name).write_bytes(EPS)
    with pytest.raises(keras_arch.InputError, match="cannot identify image file"):
        read_image(tmp_path / name, (8, 8, 3))
    assert "cannot identify" in check(str(tmp_path / name)).error
    assert not ghostscript.exists()


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_each_suffix_opens_what_pillow_writes(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    mode = "L" if suffix in (".pgm", ".pbm") else "RGB"
    Image.new(mode, (9, 6), "white").save(path)
    assert read_image(path, (None, None, 3)).shape == (6, 9, 3)
    assert read_image(path, (None, None, 3)).min() > 250
    path.rename(tmp_path / "named_otherwise.png")
    assert check(str(tmp_path / "named_otherwise.png")).size == (9, 6)


def test_no_format_of_another_program_or_without_decoder():
    assert not set(RASTER) & {"EPS", "WMF", "PDF", "FITS", "GRIB", "BUFR", "HDF5", "MPEG"}
    assert set(FORMATS) <= set(RASTER)
    assert {".jpg", ".png", ".tif", ".tiff", ".jfif", ".jpe", ".ppm", ".webp"} <= SUFFIXES
    assert (".avif" in SUFFIXES) == (".avif" in Image.registered_extensions())


def test_first_page_of_a_tiff(tmp_path):
    pages = [Image.new("L", (4, 4), value) for value in (10, 200)]
    pages[0].save(tmp_path / "x.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif", (4, 4, 1)), 10)
