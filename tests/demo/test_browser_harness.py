"""The browser that tests of demo.html use: what it sees, and that nothing is left of it."""

import subprocess
import time
from pathlib import Path

import pytest
from browser import Browser, require_browser
from other_browsers import Firefox, WebKit

PAGE = """<!doctype html><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'
 blob: data:; worker-src blob:">
<input type=file><textarea></textarea><div></div>
<script>
var seen = [];
const worker = new Worker(URL.createObjectURL(new Blob([`
  console.log("from the worker");
  importScripts("data:text/javascript,");
  fetch("http://192.0.2.1/refused").catch(() => postMessage("done"));
  throw new TypeError("in the worker");
`])));
worker.onmessage = (event) => { document.documentElement.dataset.state = event.data; };
const add = (name, file) => file.text().then((text) => seen.push([name, file.name, text]));
const [input, , pad] = document.body.children;
pad.style = "height: 100px; touch-action: none";
input.onchange = () => add("input", input.files[0]);
document.addEventListener("paste", (event) => add("paste", event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  add("drop", event.dataTransfer.files[0]);
});
for (const name of ["pointerdown", "pointermove", "pointerup"])
  pad.addEventListener(name, (e) => seen.push([name, e.pointerType, Math.round(e.offsetX), e.buttons]));
const camera = () => navigator.mediaDevices.getUserMedia({ video: true })
  .then((stream) => stream.getTracks().length, (error) => error.name);
</script>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(PAGE)
    (folder / "note.txt").write_text("a note")
    return folder


@pytest.fixture(scope="module")
def url(folder):
    return (folder / "page.html").as_uri()


@pytest.fixture(scope="module")
def page(browser, url):
    with browser.open(url) as page:
        yield page


def test_a_page_and_its_worker_report_messages_errors_and_requests(page, url):
    page.wait_for("document.documentElement.dataset.state === 'done'")
    page.evaluate("alert('a dialog')")
    for text in (
        "log: from the worker",
        "uncaught: TypeError: in the worker",
        "error: Connecting to 'http://192.0.2.1/refused' violates",
        "alert: a dialog",
    ):
        page.wait_for_console(text)
    assert page.requests[0] == url
    assert {address.split(":")[0] for address in page.requests[1:]} == {"blob", "data"}


def test_evaluate_and_wait_for_report_what_is_wrong(page):
    page.evaluate("console.warn('careful')")
    assert page.evaluate("Promise.resolve({ a: [1, 'b', null] })") == {"a": [1, "b", None]}
    with pytest.raises(AssertionError, match="ReferenceError: nothing is not defined"):
        page.evaluate("nothing.at_all")
    with pytest.raises(AssertionError, match="RangeError: too much"):
        page.evaluate("Promise.reject(new RangeError('too much'))")
    with pytest.raises(AssertionError, match=r"(?s)After 0\.1 s, seen\.length is 0.*careful"):
        page.wait_for("seen.length", seconds=0.1)


@pytest.mark.slow
def test_keys_write_and_move(page):
    page.evaluate("input.focus()")
    for key in ("Tab", "a", "B", " ", "1", "ArrowLeft", "Backspace", "Enter"):
        page.key(key)
    assert page.evaluate("document.activeElement.value") == "aB\n1"
    page.key("Shift+Tab")
    assert page.evaluate("document.activeElement.type") == "file"


def test_files_arrive_by_input_drop_and_paste(page, folder):
    page.set_files("input", [folder / "note.txt"])
    page.drop_files("div", [folder / "note.txt"])
    page.paste(b"pasted", "b.txt", "text/plain")
    page.wait_for("seen.length === 3")
    assert sorted(page.evaluate("seen.splice(0)")) == [
        ["drop", "note.txt", "a note"],
        ["input", "note.txt", "a note"],
        ["paste", "b.txt", "pasted"],
    ]


@pytest.mark.slow
def test_without_a_camera_there_is_none(page):
    assert page.evaluate("camera()") == "NotFoundError"


@pytest.mark.slow
def test_a_drag_is_one_of_the_mouse(page):
    check_drag(page, "mouse")


@pytest.mark.slow
def test_a_drag_in_a_dark_and_narrow_touch_window_is_one_of_a_finger(browser, url):
    with browser.open(url, width=360, height=500, dark=True, touch=True) as page:
        check_drag(page, "touch")
        assert page.evaluate(f"[innerWidth, innerHeight, {DARK}]") == [360, 500, True]


DARK = "matchMedia('(prefers-color-scheme: dark)').matches"


def check_drag(page, pointer):
    x, y = page.center("div")
    page.drag([(x, y), (x + 10, y), (x + 20, y)])
    events = page.evaluate("seen.splice(0)")
    assert {kind for _, kind, _, _ in events} == {pointer}
    down, up = (event for event in events if event[0] != "pointermove")
    assert ["pointermove", pointer, down[2] + 10, 1] in events
    assert [down[0], down[3], up[0], up[3], up[2] - down[2]] == [
        "pointerdown",
        1,
        "pointerup",
        0,
        20,
    ]
    assert page.evaluate("matchMedia('(pointer: coarse)').matches") == (pointer == "touch")


@pytest.mark.slow
@pytest.mark.parametrize(("dark", "full"), [(False, False), (True, True)])
def test_a_screenshot_has_the_size_of_the_window_or_of_the_page(page, tmp_path, dark, full):
    page.set_dark(dark)
    page.resize(700, 400)
    page.evaluate("pad.style.height = '2000px'")
    assert page.evaluate(f"[innerWidth, innerHeight, {DARK}]") == [700, 400, dark]
    page.screenshot(tmp_path / "page.png", full=full)
    header = (tmp_path / "page.png").read_bytes()[:24]
    assert header[:4] == b"\x89PNG"
    height = page.evaluate("document.documentElement.scrollHeight") if full else 400
    assert [int.from_bytes(header[16:20]), int.from_bytes(header[20:24])] == [700, height]


def test_nothing_is_left_of_a_browser_with_a_camera_after_an_error(url):
    with pytest.raises(RuntimeError, match="in the test"), Browser(camera=True) as browser:
        assert browser.open(url).evaluate("camera()") == 1
        assert browser.profile in processes()
        raise RuntimeError("in the test")
    deadline = time.monotonic() + 5
    while browser.profile in processes():
        assert time.monotonic() < deadline
    assert not Path(browser.profile).exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Firefox, WebKit])
def test_firefox_and_webkit_open_a_page_and_end(kind, url, folder):
    with kind() as page:
        page.open(url)
        page.wait_for("document.documentElement.dataset.state === 'done'")
        page.set_files("input", [folder / "note.txt"])
        assert page.wait_for("seen.length && seen") == [["input", "note.txt", "a note"]]
        with pytest.raises(AssertionError, match="too much"):
            page.evaluate("Promise.reject(new RangeError('too much'))")
        with pytest.raises(AssertionError, match=r"failed: .*nothing"):
            page.wait_for("nothing.at_all", seconds=0.1)
        page.screenshot(folder / "other.png")
        assert (folder / "other.png").read_bytes()[:4] == b"\x89PNG"
        groups = {process.pid for process in page.processes}
    deadline = time.monotonic() + 5
    while groups & living_groups():
        assert time.monotonic() < deadline
    assert not page.profile.exists()


def living_groups():
    """Return the numbers of process groups in which a process is alive."""
    command = ["ps", "-A", "-o", "pgid=,stat="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(line.split()[0]) for line in lines if not line.split()[1].startswith("Z")}


def processes():
    """Return the command lines of all processes of this machine."""
    command = ["ps", "-A", "-ww", "-o", "args"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("required", "outcome"), [("", pytest.skip.Exception), ("required", pytest.fail.Exception)]
)
def test_no_browser_skips_or_fails(monkeypatch, tmp_path, required, outcome):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CHROME", "")
    monkeypatch.setenv("KERAS_ARCH_BROWSER", required)
    with pytest.raises(outcome, match=r"no browser to open .* in: chromium, chromium-br"):
        require_browser()
