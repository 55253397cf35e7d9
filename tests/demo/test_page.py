"""demo.html: exactly the bytes of the files, no other source, and text that no browser runs."""

import base64
import dataclasses
import gzip
import hashlib
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from demo_files import RUNTIME
from PIL import Image

from keras_arch.demo.contents import Contents, ExportedFile, Samples
from keras_arch.demo.page import compose_page, worker_script
from keras_arch.demo.runtime import FILES, VERSION, Runtime

MB = 1_000_000
LICENSE = "https://www.apache.org/licenses/LICENSE-2.0"
RNG = np.random.default_rng(0)
NAMES = (
    "</script><script>alert(1)</script>",
    "<!-- <script>",
    "]]>",
    "\"double\" 'single' `back`",
    "&amp; &lt;",
    "חתול",
    "猫 🐱",
    "tab\t null\0 esc\x1b[31m \u2028\u202e",
    "not UTF-8 \udcff",
    "$title ${facts} $$",
    "\\u003c \\",
    "x" * 500,
)


class Page(HTMLParser):
    """The elements of a page, as a browser finds them.

    Attributes:
        elements: (tag, attributes, text before the next tag) of each element.
    """

    def __init__(self, page):
        super().__init__()
        self.elements, self.is_inside = [], False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append([tag, dict(attributes), ""])
        self.is_inside = True

    def handle_endtag(self, tag):
        self.is_inside = False

    def handle_data(self, text):
        if self.is_inside:
            self.elements[-1][2] += text

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.elements if name == tag]

    def script(self, name):
        (text,) = [text for attributes, text in self.all("script") if attributes.get("id") == name]
        return text

    def unpack(self, name):
        return gzip.decompress(base64.b64decode(self.script(name), validate=True))


def make_contents(title="resnet8 on digits", names=NAMES, channels=3, ground=None):
    """Return contents with two files and an image for each class name."""
    answers = [[(number, 0.75), (0, 0.1)] for number in range(len(names))]
    pixels = RNG.integers(0, 256, (len(names), 4, 5, channels), "uint8")
    files = [
        ExportedFile("model_float32.tflite", RNG.bytes(1000) + b"</script>", answers, 1e-4),
        ExportedFile("model_dynamic.tflite", b"TFL3" * 99, answers, 0.05),
    ]
    return Contents(title, files, Samples(pixels, names, ground), 1234)


CONTENTS = make_contents()
PAGE = compose_page(CONTENTS, RUNTIME)
PARSED = Page(PAGE)


def test_the_same_contents_give_the_same_page():
    assert compose_page(CONTENTS, RUNTIME) == PAGE
    other = dataclasses.replace(CONTENTS, title="other")
    assert compose_page(other, RUNTIME) != PAGE


def test_the_page_has_exactly_the_bytes_of_the_files():
    assert PARSED.unpack("model-0") == CONTENTS.files[0].content
    assert PARSED.unpack("model-1") == CONTENTS.files[1].content
    assert PARSED.unpack("runtime-wasm") == RUNTIME.wasm
    assert PARSED.unpack("runtime-script").decode() == worker_script(RUNTIME)
    ids = [attributes.get("id") for attributes, _ in PARSED.all("script")]
    assert ids == ["facts", "runtime-script", "runtime-wasm", "model-0", "model-1", None]


def test_the_page_has_the_predictions_of_each_file():
    facts = json.loads(PARSED.script("facts"))
    for found, file in zip(facts["files"], CONTENTS.files, strict=True):
        assert found == {
            "name": file.name,
            "bytes": len(file.content),
            "answers": [[list(answer) for answer in answers] for answers in file.answers],
            "limit": file.limit,
        }


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_the_page_has_the_pixels_of_the_test_images(channels, mode):
    contents = make_contents(channels=channels, ground=7)
    facts = json.loads(Page(compose_page(contents, RUNTIME)).script("facts"))
    assert facts["ground"] == 7
    for found, pixels in zip(facts["samples"], contents.samples.pixels, strict=True):
        with Image.open(io.BytesIO(base64.b64decode(found["png"]))) as image:
            assert (image.format, image.mode) == ("PNG", mode)
            np.testing.assert_array_equal(np.array(image).reshape(pixels.shape), pixels)


# --- names are text ---


def test_class_names_round_trip():
    facts = json.loads(PARSED.script("facts"))
    assert [sample["className"] for sample in facts["samples"]] == [*NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_adds_no_element(name):
    """The page with this title and class name has the elements of a page with a plain one."""
    plain = Page(compose_page(make_contents("plain", ["plain"]), RUNTIME))
    page = Page(compose_page(make_contents(name, [name]), RUNTIME))
    assert [(tag, set(attributes)) for tag, attributes, _ in page.elements] == [
        (tag, set(attributes)) for tag, attributes, _ in plain.elements
    ]
    assert "<" not in page.script("facts")


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("</title><script>alert(1)</script>", None),
        ("a & b $title", None),
        ("חתול 猫", None),
        ("esc\x1b[31m\0", r"esc\x1b[31m\x00"),
        ("not UTF-8 \udcff", r"not UTF-8 \udcff"),
    ],
)
def test_the_title_is_text(title, shown):
    page = Page(compose_page(make_contents(title), RUNTIME))
    for tag in ("title", "h1"):
        ((_, text),) = page.all(tag)
        assert text.strip() == (shown or title)


def test_the_page_is_utf_8_and_says_so():
    page = compose_page(make_contents("חתול \udcff"), RUNTIME).encode("utf-8")
    assert b'<meta charset="utf-8">' in page[:1024]
    assert "חתול" in page.decode("utf-8")


# --- nothing leaves the page ---


def test_the_page_has_no_source_but_itself():
    for tag, attributes, _ in PARSED.elements:
        for name in ("src", "srcset", "data", "action", "formaction", "poster", "background"):
            assert name not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        assert tag not in ("link", "iframe", "object", "embed", "base", "form"), tag
    addresses = [attributes.get("href") for _, attributes, _ in PARSED.elements]
    assert set(addresses) == {None, LICENSE}
    ((_, style),) = PARSED.all("style")
    assert "url(" not in style
    assert "@import" not in style


def hash_of(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_security_policy_allows_this_script_and_this_style_alone():
    (policy,) = [
        attributes["content"]
        for attributes, _ in PARSED.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    ((_, style),) = PARSED.all("style")
    (script,) = [text for attributes, text in PARSED.all("script") if not attributes]
    assert rules == {
        "default-src": "'none'",
        "script-src": f"{hash_of(script)} 'wasm-unsafe-eval'",
        "style-src": hash_of(style),
        "worker-src": "blob:",
        "img-src": "blob:",
        "media-src": "blob: mediastream:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    # A browser reads these as line feeds and replacement characters before it computes the hash.
    assert not {"\r", "\0"} & {*script, *style}
    assert "<!--" not in script  # would change where the element ends
    types = [attributes.get("type") for attributes, _ in PARSED.all("script")]
    assert {*types[:-1]} == {"application/json", "text/plain"}


def test_the_policy_comes_before_what_it_governs():
    tags = [tag for tag, _, _ in PARSED.elements]
    assert tags.index("style") > 2
    assert tags.index("script") > tags.index("style")
    assert PARSED.elements[2][1].get("http-equiv") == "Content-Security-Policy"


# --- LiteRT.js ---


def test_the_module_becomes_a_plain_script():
    code = worker_script(RUNTIME)
    lines = code.splitlines()
    assert not [line for line in lines if line.startswith(("import ", "export "))]
    assert lines[0] == RUNTIME.glue
    assert "return { loadLiteRt, loadAndCompile, Tensor };" in lines
    assert "sourceMappingURL" not in code


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('import { createWasmLib } from "@litertjs/wasm-utils";\n', ""),
        ('from "@litertjs/wasm-utils"', 'from "@litertjs/wasm"'),
        ("var Tensor", 'import { Tensor } from "tensor";\nvar Tensor'),
        ("export {", "export default {"),
    ],
)
def test_another_version_is_refused(old, new):
    assert old in RUNTIME.api
    runtime = dataclasses.replace(RUNTIME, api=RUNTIME.api.replace(old, new))
    with pytest.raises(AssertionError, match=r"another version of LiteRT\.js"):
        worker_script(runtime)


def test_the_page_names_version_and_license():
    text = " ".join(PAGE.split())
    assert f'LiteRT.js {VERSION} (Google, <a href="{LICENSE}">Apache 2.0 license</a>)' in text
    assert "1,234 classes" in text


# --- size ---

# Random bytes, which gzip cannot compress, of the size of LiteRT.js 2.5.3 after gzip.
STAND_IN = Runtime(RUNTIME.api, RUNTIME.glue, RNG.bytes(2_950_000))


def size_with(files):
    images = RNG.integers(0, 256, (6, 224, 224, 3), "uint8")
    contents = Contents("t", files, Samples(images, ["a"] * 6), 10)
    return len(compose_page(contents, STAND_IN).encode())


def test_the_page_of_the_quickstart_is_smaller_than_5_mb(quickstart):
    files = [
        ExportedFile(path.name, path.read_bytes(), [], 0.0)
        for path in (quickstart / "export").glob("*.tflite")
    ]
    assert len(files) == 5
    contents = Contents("t", files, make_contents().samples, 10)
    assert 4 * MB < len(compose_page(contents, STAND_IN).encode()) < 5 * MB


@pytest.mark.slow
def test_the_page_of_a_resnet_50_in_int8_is_smaller_than_40_mb():
    """Its file has 26 MB. Test images of noise are larger than photographs."""
    file = ExportedFile("model_int8.tflite", RNG.bytes(26 * MB), [], 0.0)
    assert 36 * MB < size_with([file]) < 40 * MB


@pytest.mark.slow
def test_the_stand_in_is_not_smaller_than_the_runtime():
    folder = Path.home() / ".cache/keras_arch" / f"litertjs-{VERSION}"
    paths = [folder / Path(name).name for name in FILES]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"LiteRT.js is not in {folder}: run keras-arch demo demo")
    compressed = sum(len(gzip.compress(path.read_bytes())) for path in paths)
    assert 0.9 * len(STAND_IN.wasm) < compressed <= len(STAND_IN.wasm)
