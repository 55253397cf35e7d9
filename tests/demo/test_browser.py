"""The page in Chromium: pictures, drawings, camera, files, keyboard, refusals, no connection."""

import base64
import http.server
import shutil
import subprocess
import tarfile
import threading
import zipfile

import numpy as np
import pytest
from browser import Browser, skip_or_fail
from conftest import ROOT
from PIL import Image

import keras_arch
from keras_arch.class_names import pack_labels
from keras_arch.demo.contents import Contents, ExportedFile, Samples
from keras_arch.demo.page import compose_page
from keras_arch.images.read import read_image

DIGIT = ROOT / "examples" / "digit.png"
ANSWER = "document.documentElement.dataset.answer"
MESSAGE = "document.getElementById('message').textContent"


@pytest.fixture(scope="module")
def page(browser, demo_page):
    """The page, opened and ready."""
    with browser.open(demo_page.as_uri()) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        yield page


@pytest.fixture(scope="module")
def float32(quickstart):
    return keras_arch.open_artifact(quickstart / "export" / "model_float32.tflite")


@pytest.fixture(scope="module")
def int8(quickstart):
    return keras_arch.open_artifact(quickstart / "export" / "model_int8.tflite")


@pytest.fixture(autouse=True)
def picture_mode(page):
    """Leave a page as it was opened: its first file, the mode for pictures and no picture."""
    yield
    page.evaluate(
        "selectMode('picture'), chosen = null, clearPad(), byId('invert').checked = false"
    )
    page.evaluate("changeFile('the first file', () => openEmbedded(0))")


def top_class(artifact, path):
    """Return the class name and probability that Python finds in a picture."""
    (probabilities,) = artifact.predict(read_image(path, artifact.image_shape)[None])
    best = probabilities.argmax()
    return artifact.class_names[best], probabilities[best]


def check_answer(page, expected):
    """Wait for an answer. Answers for an unfinished drawing may come before."""
    name, probability = expected
    page.wait_for(
        f"{ANSWER} === {name!r} && "
        f"Math.abs(document.documentElement.dataset.probability - {probability}) < 1e-5"
    )
    assert page.evaluate("byId('first').textContent") == f"{name}, {probability:.1%}"


def wait_for_message(page, *words):
    page.wait_for(f"{words[0]!r} && {MESSAGE}.includes({words[0]!r})")
    message = page.evaluate(MESSAGE)
    assert all(word in message for word in words), message


def test_the_page_verifies_itself(page):
    found = page.evaluate("({...document.documentElement.dataset})")
    assert (found["file"], found["pictures"]) == ("model_float32.tflite", "12")
    assert float(found["difference"]) <= 1e-6
    assert "Probabilities of 12 test images" in page.evaluate("byId('check').textContent")


def test_a_changed_answer_is_reported(page):
    page.evaluate(
        "facts.files[1].answers[0][0][1] += 0.01, changeFile('float16', () => openEmbedded(1))"
    )
    page.wait_for("byId('check').textContent.includes('do not trust this browser')")
    page.evaluate("facts.files[1].answers[0][0][1] -= 0.01")


def test_a_test_image_is_classified_by_a_click(page):
    page.click("#samples button:nth-child(4)")
    page.wait_for(ANSWER)
    (best, probability), *_ = page.evaluate("facts.files[0].answers[3]")
    assert float(page.evaluate("document.documentElement.dataset.probability")) == pytest.approx(
        probability, abs=1e-6
    )
    assert page.evaluate("byId('answers').children[0].innerText").startswith(str(best))


def test_a_chosen_picture(page, float32):
    page.set_files("#chosen", [DIGIT])
    check_answer(page, top_class(float32, DIGIT))


def test_a_dropped_picture(page, float32):
    page.drop_files("main", [DIGIT])
    check_answer(page, top_class(float32, DIGIT))


def test_a_pasted_picture(page, float32):
    page.paste(DIGIT.read_bytes())
    check_answer(page, top_class(float32, DIGIT))


def test_swapped_brightness(page, float32, tmp_path):
    page.set_files("#chosen", [DIGIT])
    page.wait_for(ANSWER)
    page.click("#invert")
    (expected,) = float32.predict(255 - read_image(DIGIT, float32.image_shape)[None])
    page.wait_for(
        f"Math.abs(document.documentElement.dataset.probability - {expected.max()}) < 1e-5"
    )
    page.click("#invert")


def saved_drawing(page, path):
    """Save the drawing as a PNG file."""
    url = page.evaluate("byId('pad').toDataURL()")
    path.write_bytes(base64.b64decode(url.partition(",")[2]))
    return path


def test_a_drawing(page, float32, int8, tmp_path):
    page.click("[value=draw]")
    x, y = page.center("#pad")
    page.drag([(x, y - 90), (x, y - 30), (x, y + 30), (x, y + 90)])
    page.wait_for(ANSWER)
    path = saved_drawing(page, tmp_path / "drawing.png")
    drawing = read_image(path, (None, None, 1))[:, :, 0]
    side = len(drawing)
    assert np.ptp(drawing) == 255
    assert drawing[side // 2, side // 2] == 255  # digits are bright on dark
    assert (drawing[side // 2] > 127).sum() == pytest.approx(0.1 * side, abs=2)
    check_answer(page, top_class(float32, path))
    page.evaluate("changeFile('int8', () => openEmbedded(3))")  # it keeps the drawing
    page.wait_for("byId('time').textContent.startsWith('model_int8.tflite')")
    check_answer(page, top_class(int8, path))


def test_a_drawing_by_keyboard(page, float32, tmp_path):
    page.evaluate("document.querySelector('[value=picture]').focus()")
    page.key("ArrowRight")
    page.key("Tab")
    assert page.evaluate("document.activeElement.id") == "pad"
    for key in ["ArrowUp"] * 8 + [" "] + ["ArrowDown"] * 16:
        page.key(key)
    page.wait_for(ANSWER)
    check_answer(page, top_class(float32, saved_drawing(page, tmp_path / "drawing.png")))
    page.key("Delete")
    assert page.evaluate("byId('answers').children.length") == 0
    assert np.ptp(read_image(saved_drawing(page, tmp_path / "empty.png"), (None, None, 1))) == 0


def test_only_the_first_pointer_draws(page):
    page.click("[value=draw]")
    x, y = page.center("#pad")
    page.drag([(x - 300, y), (x, y)])  # it begins outside the drawing
    for pointer in ("isPrimary: false", "isPrimary: true, button: 2"):
        page.evaluate(
            "byId('pad').dispatchEvent(new PointerEvent('pointerdown', "
            f"{{ pointerId: 9, clientX: {x}, clientY: {y}, {pointer} }}))"
        )
    assert page.evaluate("isDrawn") is False


def test_the_drawing_of_a_portrait_model_has_its_shape(page, float32, tmp_path):
    page.click("[value=draw]")
    page.evaluate("Object.assign(model, { width: 14, height: 28 }), showPad()")
    width, height = page.evaluate(
        "(box => [box.width, box.height])(byId('pad').getBoundingClientRect())"
    )
    assert (page.evaluate("byId('pad').width"), height / width) == (140, pytest.approx(2, abs=0.03))


def test_clear_wins_over_a_running_classification(page):
    page.click("[value=draw]")
    page.evaluate("drawTo(10, 10), byId('clear').click(), queue")
    assert page.evaluate("byId('answers').children.length") == 0
    assert page.evaluate("byId('seen').hidden")


def test_a_mode_keeps_what_it_shows(page, float32):
    page.set_files("#chosen", [DIGIT])
    page.wait_for(ANSWER)
    page.click("[value=draw]")
    page.evaluate("drawTo(10, 10), drawTo(200, 200), queue")
    drawn = page.evaluate(ANSWER)
    page.click("[value=picture]")
    check_answer(page, top_class(float32, DIGIT))
    page.click("[value=draw]")
    page.wait_for(f"{ANSWER} === '{drawn}' && isDrawn")


def test_an_answer_for_another_mode_is_dropped(page):
    page.click("[value=draw]")
    page.evaluate("drawTo(10, 10), document.querySelector('[value=picture]').click(), queue")
    assert page.evaluate("queue.then(() => byId('answers').children.length)") == 0


def test_another_file_by_keyboard(page, int8):
    page.set_files("#chosen", [DIGIT])
    page.wait_for(ANSWER)
    page.evaluate("byId('files').focus()")
    for _ in range(3):
        page.key("ArrowDown")
    page.wait_for("document.documentElement.dataset.file === 'model_int8.tflite'")
    page.wait_for("byId('time').textContent.startsWith('model_int8.tflite')")
    check_answer(page, top_class(int8, DIGIT))


def test_a_file_from_disk(page, float32, tmp_path):
    """It has other class names, which are read from the file."""
    path = renamed(float32, tmp_path, [f"digit {number}" for number in range(10)])
    page.set_files("#opened", [path])
    page.wait_for("byId('check').textContent.includes('not compared')")
    assert page.evaluate("byId('files').selectedOptions[0].text").startswith("renamed.tflite (")
    page.set_files("#chosen", [DIGIT])
    check_answer(page, top_class(keras_arch.open_artifact(path), DIGIT))


def renamed(artifact, folder, names):
    """Return a copy of a .tflite file with other class names."""
    original = artifact.path
    with zipfile.ZipFile(original) as archive:
        start = archive.infolist()[0].header_offset
    path = folder / "renamed.tflite"
    path.write_bytes(original.read_bytes()[:start])
    pack_labels(path, names)
    return path


def test_a_cut_file_is_refused(page, float32, tmp_path):
    content = float32.path.read_bytes()
    for size in (20, len(content) // 2, len(content) - 10):
        (tmp_path / "cut.tflite").write_bytes(content[:size])
        page.set_files("#opened", [tmp_path / "cut.tflite"])
        wait_for_message(page, "cut.tflite cannot be opened. It", "cut")
        page.evaluate("showMessage('')")
    page.set_files("#chosen", [DIGIT])  # the file that was open still works
    page.wait_for(ANSWER)
    assert page.evaluate("model.name") == "model_float32.tflite"


def test_text_as_a_model_is_refused(page, tmp_path):
    (tmp_path / "text.tflite").write_text("This is not a model.")
    page.drop_files("main", [tmp_path / "text.tflite"])
    wait_for_message(page, "text.tflite cannot be opened. It is not a .tflite file.")


def test_text_as_a_picture_is_refused(page, tmp_path):
    (tmp_path / "text.png").write_text("This is not a picture.")
    page.set_files("#chosen", [tmp_path / "text.png"])
    wait_for_message(page, "text.png cannot be decoded as a picture by this browser.")


def test_labels_of_another_model_are_refused(page, float32, tmp_path):
    page.set_files("#opened", [renamed(float32, tmp_path, ["cat", "dog"])])
    wait_for_message(page, "renamed.tflite cannot be opened. It has 2 class names for 10 classes.")


def test_a_picture_beyond_the_limits_of_a_canvas_is_refused(page, tmp_path):
    """Such a canvas stays empty, so the picture would be black."""
    Image.new("RGB", (70_000, 2), "red").save(tmp_path / "wide.png")
    page.set_files("#chosen", [tmp_path / "wide.png"])
    wait_for_message(page, "The picture is too large for this browser: 70000 \u00d7 2 pixels.")


def test_two_files_and_text_are_refused(page, tmp_path):
    (tmp_path / "folder").mkdir()
    for paths, message in {
        (DIGIT, DIGIT): "Use one file at a time, not 2.",
        (tmp_path / "folder",): "Drop a picture or a .tflite file.",
    }.items():
        page.drop_files("main", paths)
        wait_for_message(page, message)
    page.evaluate(
        "document.body.dispatchEvent(new ClipboardEvent('paste', "
        "{ clipboardData: new DataTransfer(), bubbles: true }))"
    )
    wait_for_message(page, "The clipboard contains no picture.")


def test_a_missing_camera_is_reported(page):
    page.click("[value=camera]")
    wait_for_message(page, "There is no camera.")
    page.click("[value=picture]")
    assert page.evaluate(MESSAGE) == ""


def test_the_camera(demo_page):
    with Browser(camera=True) as browser, browser.open(demo_page.as_uri()) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        page.click("[value=camera]")
        page.wait_for(f"stream && {ANSWER}")
        page.evaluate("window.track = stream.getTracks()[0], delete found.answer")
        page.wait_for(ANSWER)  # another frame
        page.click("[value=picture]")
        assert page.evaluate("track.readyState") == "ended"
        # Leaving the mode before the camera replies ends it, too.
        page.evaluate("""(() => {
          const media = navigator.mediaDevices;
          const getUserMedia = media.getUserMedia.bind(media);
          window.streams = [];
          media.getUserMedia = async (wanted) => {
            const stream = await getUserMedia(wanted);
            streams.push(stream);
            await new Promise((resolve) => setTimeout(resolve, 200));
            return stream;
          };
          for (const name of ["camera", "picture", "camera", "picture"]) {
            document.querySelector(`[value=${name}]`).click();
          }
        })()""")
        page.wait_for("streams.length === 2 && streams.every((stream) => !stream.active)")


def test_no_connection_leaves_the_page(page):
    """The content security policy blocks them, even to an address that replies."""
    received = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            received.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    attempts = [
        f"fetch('{url}').then(() => 'sent', () => 'blocked')",
        f"new Promise((done) => Object.assign(new Image(), {{src: '{url}', onload: () => done('sent'), onerror: () => done('blocked')}}))",
        f"new Promise((done) => {{ const s = new WebSocket('{url.replace('http', 'ws')}'); s.onerror = () => done('blocked'); s.onopen = () => done('sent'); }})",
        f"navigator.sendBeacon('{url}') ? 'blocked or sent' : 'blocked'",
    ]
    found = []
    for attempt in attempts:
        try:
            found.append(page.evaluate(attempt))
        except AssertionError:  # new WebSocket raises
            found.append("blocked")
    server.shutdown()
    server.server_close()
    assert "sent" not in found
    assert received == []


def test_the_page_is_quiet_and_requests_nothing(browser, demo_page):
    with browser.open(demo_page.as_uri()) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        assert page.console == []
        first, *others = page.requests
        assert first == demo_page.as_uri()
        assert {url.partition(":")[0] for url in others} <= {"blob", "data"}


HOSTILE_NAMES = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- <script>",
    "star & <ring>",
    "\"quoted\" 'name'",
    "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
    "חתול",
    "名前",
    "tab\tand \u202e reversed",
    "{{name}} $name %s",
]


def test_hostile_names_are_shown_as_text(browser, runtime, float32, tmp_path):
    path = renamed(float32, tmp_path, HOSTILE_NAMES)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 1), "uint8")
    samples = Samples(pixels, HOSTILE_NAMES, ground=0)
    file = ExportedFile(path.name, path.read_bytes(), [[(0, 0.5)]], limit=1)
    page_path = tmp_path / "demo.html"
    contents = Contents(HOSTILE_NAMES[0], [file], samples, classes=10)
    page_path.write_text(compose_page(contents, runtime), encoding="utf-8")
    with browser.open(page_path.as_uri(), width=360) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        assert page.console == []
        assert page.evaluate("document.title") == HOSTILE_NAMES[0]
        assert texts_in(page, "samples") == HOSTILE_NAMES
        page.evaluate(SHOW_ALL)
        assert texts_in(page, "answers") == HOSTILE_NAMES[:5]
        for width in (360, 1000):
            page.resize(width, 800)
            assert page.evaluate("document.documentElement.scrollWidth") <= width


SHOW_ALL = """showAnswer({
  probabilities: Array(10).fill(0.1), milliseconds: 1, pixels: new Uint8Array(192)
})"""


def texts_in(page, element):
    """Return the names in an element of the page."""
    return page.evaluate(
        f"[...byId({element!r}).querySelectorAll('bdi')].map((name) => name.textContent)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1000])
@pytest.mark.parametrize("mode", ["picture", "draw", "camera"])
def test_accessibility(browser, demo_page, axe, width, dark, mode):
    """axe-core finds nothing. It is not a dependency: npm has it, or the test is skipped."""
    with browser.open(demo_page.as_uri(), width=width, dark=dark) as page:
        page.wait_for("document.documentElement.dataset.state === 'ready'")
        page.click(f"[value={mode}]")
        page.evaluate(axe)
        found = page.evaluate(
            "axe.run().then(({ violations }) => violations.map(({ id, help }) => `${id}: ${help}`))"
        )
        assert found == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The script of axe-core."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        skip_or_fail("npm is not installed, so axe-core is missing", "all")
    packed = subprocess.run(
        ["npm", "pack", "axe-core@4", "--silent"], cwd=folder, capture_output=True, text=True
    )
    if packed.returncode:
        skip_or_fail(f"npm cannot fetch axe-core: {packed.stderr}", "all")
    with tarfile.open(folder / packed.stdout.strip()) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()
