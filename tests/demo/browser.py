"""Drive a Chromium browser over the DevTools protocol, with the standard library alone.

Reference: https://chromedevtools.github.io/devtools-protocol/. The messages are JSON, separated
by zero bytes. The browser reads them from file descriptor 3 and writes them to 4.
"""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 60  # seconds to wait for a reply of the browser
ARGUMENTS = (
    "--headless=new",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--disable-dev-shm-usage",  # /dev/shm has 64 MB in a container
    "--password-store=basic",
    "--disable-gpu",
    "--host-resolver-rules=MAP * 127.0.0.1:9, EXCLUDE 127.0.0.1",  # no name leads off this machine
    "--use-fake-ui-for-media-stream",  # the page may use the camera, if there is one
)
KEYS = {  # {name: (code, number of the key, text)}; a letter needs no row
    "ArrowDown": ("ArrowDown", 40, ""),
    "ArrowLeft": ("ArrowLeft", 37, ""),
    "ArrowRight": ("ArrowRight", 39, ""),
    "ArrowUp": ("ArrowUp", 38, ""),
    "Backspace": ("Backspace", 8, ""),
    "Delete": ("Delete", 46, ""),
    "End": ("End", 35, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "Home": ("Home", 36, ""),
    "Tab": ("Tab", 9, ""),
    " ": ("Space", 32, " "),
}
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
PASTE = """(([target, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const clipboardData = new DataTransfer();
  clipboardData.items.add(new File([bytes], name, { type }));
  document.querySelector(target).dispatchEvent(
    new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
})"""


def find_browser():
    """Return the path of a Chromium browser: $CHROME or the first one on the PATH, or None."""
    return next(filter(None, map(shutil.which, (os.environ.get("CHROME", ""), *NAMES))), None)


def require_browser():
    """Return the path of a browser. Skip the test without one, or fail if one is required."""
    return find_browser() or skip_or_fail(
        f"no browser to open demo.html in: {', '.join(NAMES)}, or $CHROME; "
        "apt-get install chromium would give one",
        "required",
        "all",
    )


def skip_or_fail(reason, *levels):
    """Skip a test, or fail it if $KERAS_ARCH_BROWSER is one of `levels`.

    A value of "required" makes tests without Chromium fail, "all" also those without Firefox or
    WebKit.
    """
    refuse = pytest.fail if os.environ.get("KERAS_ARCH_BROWSER") in levels else pytest.skip
    refuse(reason)


class Browser:
    """A headless browser with a temporary profile. `with Browser() as browser:` ends it.

    Args:
        camera: whether the browser has a camera, which films a test pattern.
        arguments: more command line arguments of the browser.
    """

    def __init__(self, *, camera=False, arguments=()):
        self.path = require_browser()
        self.profile = tempfile.mkdtemp(prefix="keras_arch-browser-")
        self.sessions = {}  # {session: page} of the pages and their workers
        self.number = 0
        self.unread = bytearray()
        commands, self.writing = os.pipe()
        self.reading, events = os.pipe()
        log = os.open(Path(self.profile, "log.txt"), os.O_CREAT | os.O_WRONLY)
        self.process = os.posix_spawn(
            self.path,
            [
                self.path,
                *ARGUMENTS,
                f"--user-data-dir={self.profile}",
                f"--use-fake-device-for-media-stream=device-count={int(camera)}",
                *(["--no-sandbox"] if os.geteuid() == 0 else []),  # root has no sandbox
                *arguments,
            ],
            os.environ | {"HOME": self.profile},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, commands, 3),
                (os.POSIX_SPAWN_DUP2, events, 4),
            ],
            setpgroup=0,
        )
        for descriptor in (commands, events, log):
            os.close(descriptor)
        try:
            self.version = self.call("Browser.getVersion")["product"]
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End the browser and all its processes, and remove its profile."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.reading)
        os.close(self.writing)
        deadline = time.monotonic() + 5  # its children may still write
        while os.path.exists(self.profile) and time.monotonic() < deadline:
            shutil.rmtree(self.profile, ignore_errors=True)

    def open(self, url, *, width=1000, height=800, dark=False, touch=False):
        """Open `url` in a new tab and return its `Page` when it has loaded."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.sessions[session] = Page(self, target, session, touch)
        self.watch(session)
        page.call("Page.enable")
        page.call("Emulation.setFocusEmulationEnabled", enabled=True)
        page.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        page.resize(width, height)
        page.set_dark(dark)
        error = page.call("Page.navigate", url=url).get("errorText")
        assert not error, f"{url}: {error}"
        page.wait_for("document.readyState === 'complete'", PATIENCE)
        return page

    def watch(self, session):
        """Receive the messages, errors and requests of a page or a worker.

        A new worker waits until it is watched: during the next call, such as `wait_for`.
        """
        for method in ("Runtime.enable", "Log.enable", "Network.enable"):
            self.send(method, session)
        self.send(
            "Target.setAutoAttach",
            session,
            autoAttach=True,
            waitForDebuggerOnStart=True,
            flatten=True,
        )
        self.send("Runtime.runIfWaitingForDebugger", session)

    def send(self, method, session=None, **parameters):
        """Send a command without waiting for its reply. Return its number."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self.writing, data) :]
        return self.number

    def call(self, method, session=None, seconds=PATIENCE, **parameters):
        """Send a command and return its result."""
        number = self.send(method, session, **parameters)
        deadline = time.monotonic() + seconds
        while (message := self.receive(deadline, method)).get("id") != number:
            if "method" in message:
                self.handle(**message)
        assert "error" not in message, f"{method}: {message['error']}"
        return message["result"]

    def receive(self, deadline, method):
        """Return the next message of the browser."""
        searched = 0
        while (end := self.unread.find(b"\0", searched)) < 0:
            searched = len(self.unread)
            ready, _, _ = select.select([self.reading], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{method}: the browser does not reply"
            data = os.read(self.reading, 1 << 20)
            assert data, f"{self.path} ended: {Path(self.profile, 'log.txt').read_text()[-2000:]}"
            self.unread += data
        message = json.loads(self.unread[:end])
        del self.unread[: end + 1]
        return message

    def handle(self, method, params, sessionId=None):  # noqa: N803
        """Record an event in its page. Watch a worker that a page starts."""
        if (page := self.sessions.get(sessionId)) is None:
            return
        if method == "Target.attachedToTarget":
            self.sessions[params["sessionId"]] = page
            self.watch(params["sessionId"])
        elif method == "Network.requestWillBeSent":
            page.requests.append(params["request"]["url"])
        elif method == "Network.webSocketCreated":
            page.requests.append(params["url"])
        elif method == "Runtime.consoleAPICalled":
            page.console.append(f"{params['type']}: {' '.join(map(text_of, params['args']))}")
        elif method == "Runtime.exceptionThrown":
            page.console.append(f"uncaught: {error_of(params['exceptionDetails'])}")
        elif method == "Log.entryAdded" and params["entry"]["source"] != "worker":
            page.console.append(f"{params['entry']['level']}: {params['entry']['text']}")
        elif method == "Page.javascriptDialogOpening":
            page.console.append(f"{params['type']}: {params['message']}")
            self.send("Page.handleJavaScriptDialog", sessionId, accept=True)
        elif method == "Inspector.targetCrashed":
            raise AssertionError("The page crashed.")


class Page:
    """A tab of the browser.

    Attributes:
        console: messages, uncaught errors and dialogs of the page and its workers, one string
            each: "log: ready".
        requests: URLs that the page and its workers requested, the page first. An image that a
            content security policy refused is in the list, a refused fetch only in `console`.
    """

    def __init__(self, browser, target, session, touch):
        self.browser = browser
        self.target = target
        self.session = session
        self.touch = touch
        self.console = []
        self.requests = []

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, method, **parameters):
        """Send a command of the protocol to the page and return its result."""
        return self.browser.call(method, self.session, **parameters)

    def run(self, expression, **options):
        """Return the remote object of a JavaScript expression, after a promise is resolved."""
        result = self.call(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            userGesture=True,
            **options,
        )
        if "exceptionDetails" in result:
            raise AssertionError(f"{expression[:200]}: {error_of(result['exceptionDetails'])}")
        return result["result"]

    def evaluate(self, expression):
        """Return the JSON value of a JavaScript expression, or of its promise."""
        return self.run(expression, returnByValue=True).get("value")

    def wait_for(self, expression, seconds=20):
        """Wait until a JavaScript expression is true and return its value."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if value := self.evaluate(expression):
                    return value
                problem = f"is {value!r}"
            except AssertionError as error:  # such as an element that does not exist yet
                problem = str(error)
            time.sleep(0.02)
        state = self.evaluate(
            "({...document.documentElement.dataset, text: document.body.innerText.slice(0, 2000)})"
        )
        raise AssertionError(
            f"After {seconds} s, {expression} {problem}\n{state}\n" + "\n".join(self.console)
        )

    def wait_for_console(self, start, seconds=20):
        """Wait for a line of the console that starts so. Lines of a worker may arrive late."""
        deadline = time.monotonic() + seconds
        while not any(line.startswith(start) for line in self.console):
            assert time.monotonic() < deadline, f"No line {start!r} in {self.console}"
            self.evaluate("new Promise((resolve) => setTimeout(resolve, 20))")

    def set_files(self, selector, paths):
        """Choose files in an `<input type=file>`."""
        element = self.run(f"document.querySelector({json.dumps(selector)})")["objectId"]
        files = [str(Path(path).resolve()) for path in paths]
        self.call("DOM.setFileInputFiles", files=files, objectId=element)

    def drop_files(self, selector, paths):
        """Drag files from outside the browser to the center of an element and drop them."""
        x, y = self.center(selector)
        files = [str(Path(path).resolve()) for path in paths]
        data = {"items": [], "files": files, "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def paste(self, data, name="picture.png", kind="image/png", selector="body"):
        """Paste a file with these bytes, by an event as Control+V causes it."""
        values = [selector, name, kind, base64.b64encode(data).decode()]
        self.evaluate(f"{PASTE}({json.dumps(values)})")

    def key(self, name):
        """Press and release a key: "ArrowDown", " ", "a", "Shift+Tab"."""
        *modifiers, key = name.split("+") if len(name) > 1 else [name]
        code, number, text = KEYS.get(key) or (f"Key{key.upper()}", ord(key.upper()), key)
        text = "" if {"Control", "Meta"} & set(modifiers) else text
        options = {
            "key": key,
            "code": code,
            "windowsVirtualKeyCode": number,
            "modifiers": sum(MODIFIERS[modifier] for modifier in modifiers),
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **options)
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def mouse(self, x, y, kind):
        """Press the left mouse button, move with it or release it.

        Args:
            x, y: CSS pixels of the window.
            kind: "Pressed", "Moved" or "Released".
        """
        buttons = int(kind != "Released")
        options = {"x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=f"mouse{kind}", force=buttons / 2, **options)

    def drag(self, points):
        """Drag the mouse over points (x, y), in CSS pixels of the window; a finger if `touch`."""
        if self.touch:
            for number, (x, y) in enumerate(points):
                kind = "touchMove" if number else "touchStart"
                self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
            self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        else:
            self.mouse(*points[0], "Pressed")
            for point in points[1:]:
                self.mouse(*point, "Moved")
            self.mouse(*points[-1], "Released")

    def center(self, selector):
        """Scroll to an element and return its center (x, y) in the window."""
        return self.evaluate(
            f"""(element => {{
              element.scrollIntoView({{ block: "center", behavior: "instant" }});
              const box = element.getBoundingClientRect();
              return [box.x + box.width / 2, box.y + box.height / 2];
            }})(document.querySelector({json.dumps(selector)}))"""
        )

    def click(self, selector):
        """Click or tap on the center of an element."""
        self.drag([self.center(selector)])

    def resize(self, width, height):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=self.touch,
        )

    def set_dark(self, dark):
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path, full=True):
        """Write a PNG of the window, or of the full page."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=full)["data"]
        Path(path).write_bytes(base64.b64decode(data))


def text_of(value):
    """Return the text of a remote object as the console shows it."""
    return str(value.get("value", value.get("description", value["type"])))


def error_of(details):
    """Return the text of a JavaScript error."""
    return text_of(details["exception"]) if "exception" in details else details["text"]
