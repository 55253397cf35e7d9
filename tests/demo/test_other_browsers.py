"""The page in Firefox and in WebKit, the engine of Safari."""

import base64
import json

import numpy as np
import pytest
from other_browsers import Firefox, WebKit
from pictures import KINDS, save_picture

from keras_arch.images.read import read_image

pytestmark = pytest.mark.slow
SHAPE = (48, 64, 3)
TRANSPARENT = [
    "rgb_alpha.png",
    "gray_alpha.png",
    "palette_alpha.png",
    "lossy_alpha.webp",
    "lossless_alpha.webp",
]
# {kind of picture: maximum difference from read_image}, as docs/mobile.md states. All other kinds
# are equal. WebKit applies the gamma and the color profile of a picture.
DIFFERENCES = {
    Firefox: dict.fromkeys([*TRANSPARENT, "16_bits.png"], 1),
    WebKit: {
        **dict.fromkeys(TRANSPARENT, 1),
        "gamma.png": 100,
        "profile.jpg": 255,
        "profile.png": 255,
    },
}
PIXELS = f"""((data) => decodePicture(new Blob([fromBase64(data)])).then((picture) =>
  Array.from(pixelsFor(picture, {{ height: {SHAPE[0]}, width: {SHAPE[1]}, channels: 3 }}))))"""


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_the_page_verifies_itself(kind, demo_page):
    with kind() as page:
        page.open(demo_page.as_uri())
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        assert page.evaluate("document.documentElement.dataset.pictures") == "12"
        assert float(page.evaluate("document.documentElement.dataset.difference")) <= 1e-6


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_other_pixels_are_those_that_the_docs_name(kind, demo_page, tmp_path):
    found = {}
    with kind() as page:
        page.open(demo_page.as_uri())
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        for name in KINDS:
            path = save_picture(name, tmp_path)
            data = base64.b64encode(path.read_bytes()).decode()
            pixels = np.array(page.evaluate(f"{PIXELS}({json.dumps(data)})")).reshape(SHAPE)
            found[name] = np.abs(pixels - read_image(path, SHAPE).astype(int)).max()
    allowed = DIFFERENCES[kind]
    assert {name for name, difference in found.items() if difference} == set(allowed)
    assert all(found[name] <= allowed[name] for name in allowed)
