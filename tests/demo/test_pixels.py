"""picture.js gives a model the same pixels as `read_image`, bit by bit."""

import base64
import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import KINDS, save_picture
from PIL import Image

from keras_arch.demo.page import read
from keras_arch.images.read import center_box, read_image

SHAPES = [(8, 8, 3), (224, 224, 3), (48, 64, 3), (28, 28, 1)]
SIDES = st.integers(1, 80)  # pixels
SCRIPT = """
const toBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

/** Return the pixels of the chosen file for each shape. */
async function pixelsOfFile(shapes) {
  const picture = await decodePicture(document.querySelector("input").files[0]);
  return shapes.map(([height, width, channels]) =>
    toBase64(pixelsFor(picture, { height, width, channels })));
}

/** Return [left, top, right, bottom] for each pair of sizes [width, height]. */
function centerBoxes(sizes) {
  const toSize = ([width, height]) => ({ width, height });
  return sizes.flatMap((size) => sizes.map((target) => {
    const { left, top, width, height } = centerBox(toSize(size), toSize(target));
    return [left, top, left + width, top + height];
  }));
}

/** Resize a box [left, top, right, bottom] of pixels to [width, height]. */
function resizeBox(pixels, [height, width, channels], [left, top, right, bottom], target) {
  const data = Uint8Array.from(atob(pixels), (letter) => letter.charCodeAt(0));
  const image = { width, height, channels, data };
  const box = { left, top, width: right - left, height: bottom - top };
  return toBase64(resize(image, box, ...target).data);
}
"""


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """A page with picture.js alone."""
    path = tmp_path_factory.mktemp("pixels") / "page.html"
    path.write_text(f"<input type=file><script>{read('picture.js')}{SCRIPT}</script>")
    with browser.open(path.as_uri()) as page:
        yield page


def call(page, function, *arguments):
    return page.evaluate(f"{function}({', '.join(map(json.dumps, arguments))})")


def to_array(text, shape):
    return np.frombuffer(base64.b64decode(text), "uint8").reshape(shape)


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_python(page, tmp_path, kind):
    path = save_picture(kind, tmp_path)
    page.set_files("input", [path])
    for shape, pixels in zip(SHAPES, call(page, "pixelsOfFile", SHAPES), strict=True):
        expected = read_image(path, shape)
        np.testing.assert_array_equal(to_array(pixels, shape), expected, str(shape))


def test_every_color_of_every_opacity_is_composited_as_pillow_does(page, tmp_path):
    values = np.arange(256, dtype="uint8")
    color, alpha = np.meshgrid(values, values)
    image = np.stack([color, 255 - color, 7 * color, alpha], axis=-1)
    for suffix, options in (("png", {}), ("webp", {"lossless": True, "exact": True})):
        path = tmp_path / f"x.{suffix}"
        Image.fromarray(image).save(path, **options)
        page.set_files("input", [path])
        (pixels,) = call(page, "pixelsOfFile", [(*image.shape[:2], 3)])
        expected = read_image(path, (None, None, 3))
        np.testing.assert_array_equal(to_array(pixels, expected.shape), expected, suffix)


def test_the_box_is_that_of_python(page):
    sizes = [*itertools.product([1, 2, 3, 5, 7, 8, 9, 64], repeat=2)]
    found = call(page, "centerBoxes", sizes)
    assert found == [list(center_box(size, target)) for size in sizes for target in sizes]


@st.composite
def resizings(draw):
    """Draw an image (height, width, channels), a box of it and a size (width, height)."""
    width, height, channels = draw(SIDES), draw(SIDES), draw(st.sampled_from([1, 3]))
    left, right = sorted(draw(st.tuples(*[st.integers(0, width)] * 2).filter(differ)))
    top, bottom = sorted(draw(st.tuples(*[st.integers(0, height)] * 2).filter(differ)))
    seed = draw(st.integers(0, 99))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, channels), "uint8")
    return image, (left, top, right, bottom), (draw(SIDES), draw(SIDES))


def differ(pair):
    return pair[0] != pair[1]


@given(resizings())
@settings(max_examples=100, deadline=None)
def test_any_box_is_resized_as_pillow_does(page, resizing):
    """Sizes are larger and smaller, tall and wide."""
    image, box, size = resizing
    picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    expected = np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box))
    pixels = base64.b64encode(image.tobytes()).decode()
    found = call(page, "resizeBox", pixels, image.shape, box, size)
    np.testing.assert_array_equal(to_array(found, expected.shape), expected)
