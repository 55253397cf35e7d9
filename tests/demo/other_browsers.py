"""Open a page in Firefox and WebKit, with the standard library alone.

Firefox is driven over its Marionette protocol, WebKitGTK over WebDriver. Both have the
commands of https://www.w3.org/TR/webdriver2/.
"""

import base64
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from browser import PATIENCE, skip_or_fail

NOWHERE = "127.0.0.1:9"  # a proxy that does not exist, so no request leaves this machine
ATTEMPTS = 4
START_SECONDS = 15  # that a browser takes at most
SCREEN = "1280x900x24"
PROXY = {"proxyType": "manual", "httpProxy": NOWHERE, "sslProxy": NOWHERE, "noProxy": ["127.0.0.1"]}


class OtherBrowser:
    """A browser with one window. `with Firefox() as page:` ends it.

    A subclass starts its programs with `start` and defines `command`, which runs a WebDriver
    command: its name in Marionette, its path in WebDriver and its parameters.
    """

    def __init__(self):
        self.profile = Path(tempfile.mkdtemp(prefix="keras_arch-browser-"))
        self.processes = []
        try:
            self.connect()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """End all processes of the browser and remove its profile."""
        for process in reversed(self.processes):
            process.terminate()  # so that Xvfb removes its socket
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        deadline = time.monotonic() + 5
        while self.profile.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.profile, ignore_errors=True)

    def start(self, *arguments, **variables):
        """Start a program in a process group of its own. Return the file of its output."""
        output = self.profile / f"{arguments[0]}.txt"
        with output.open("wb") as stream, output.with_suffix(".log").open("wb") as log:
            process = subprocess.Popen(
                [shutil.which(arguments[0]), *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=log,
                env=os.environ | {"HOME": str(self.profile)} | variables,
                start_new_session=True,
            )
        self.processes.append(process)
        return output

    def start_display(self):
        """Start an X display without a screen and return its name."""
        require("Xvfb")
        output = self.start("Xvfb", "-displayfd", "1", "-nolisten", "tcp", "-screen", "0", SCREEN)
        return f":{wait_until(output.read_text, 'the number of the display').strip()}"

    def open(self, url):
        """Open `url` and wait until it has loaded."""
        self.command("Navigate", "url", url=url)

    def evaluate(self, expression):
        """Return the JSON value of a JavaScript expression, or of its promise."""
        script = f"return (async () => ({expression}))()"
        return self.command("ExecuteScript", "execute/sync", script=script, args=[])

    def wait_for(self, expression, seconds=60):
        """Wait until a JavaScript expression is true and return its value."""
        return wait_until(lambda: self.evaluate(expression), expression, seconds)

    def set_files(self, selector, paths):
        """Choose files in an `<input type=file>`."""
        element = self.command("FindElement", "element", using="css selector", value=selector)
        (number,) = element.values()
        text = "\n".join(str(Path(path).resolve()) for path in paths)
        self.command("ElementSendKeys", f"element/{number}/value", id=number, text=text)

    def screenshot(self, path):
        """Write a PNG of the window."""
        data = self.command("TakeScreenshot", "screenshot", full=False)
        Path(path).write_bytes(base64.b64decode(data))


class Firefox(OtherBrowser):
    """Firefox in a display without a screen. With `--headless`, it would have no WebGL.

    An expression sees the properties of `window`, but no `const` or `let` of a script.
    """

    def connect(self):
        name = require("firefox-esr", "firefox")
        display = self.start_display()
        (self.profile / "user.js").write_text('user_pref("marionette.port", 0);\n')
        self.start(name, "--marionette", "--no-remote", "--profile", self.profile, DISPLAY=display)
        port = self.profile / "MarionetteActivePort"
        port = wait_until(lambda: port.exists() and port.read_text(), "the port of Firefox")
        self.socket = socket.create_connection(("127.0.0.1", int(port)), PATIENCE)
        self.stream = self.socket.makefile("rb")
        self.receive()  # it greets
        self.version = self.command("NewSession", None, proxy=PROXY)["capabilities"]["userAgent"]

    def command(self, name, _path, **parameters):
        message = json.dumps([0, 1, f"WebDriver:{name}", parameters]).encode()
        self.socket.sendall(b"%d:%s" % (len(message), message))
        _, _, error, result = self.receive()
        assert not error, f"{name}: {error['message']}"
        return result.get("value", result)

    def receive(self):
        """Return the next message: LENGTH:JSON."""
        length = b""
        while (digit := self.stream.read(1)) != b":":
            assert digit, "Firefox ended."
            length += digit
        return json.loads(self.stream.read(int(length)))

    def close(self):
        if hasattr(self, "socket"):
            self.stream.close()
            self.socket.close()
        super().close()


class WebKit(OtherBrowser):
    """The browser of WebKitGTK, whose engine is that of Safari, in a display without a screen."""

    def connect(self):
        require("WebKitWebDriver")
        display = self.start_display()
        # At times, WebKitWebDriver starts no browser and does not reply.
        for _ in range(ATTEMPTS):
            with contextlib.suppress(OSError):
                return self.start_session(display)
            os.killpg(self.processes[-1].pid, signal.SIGKILL)
            self.processes.pop().wait()
        raise AssertionError("WebKitWebDriver does not reply.")

    def start_session(self, display):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.start("WebKitWebDriver", f"--port={port}", DISPLAY=display)
        wait_until(lambda: is_listening(port), "WebKitWebDriver")
        self.url = f"http://127.0.0.1:{port}/session"
        capabilities = {"capabilities": {"alwaysMatch": {"proxy": PROXY}}}
        session = self.post("", capabilities, START_SECONDS)
        self.url += f"/{session['sessionId']}"
        self.version = "WebKitGTK {browserVersion}".format(**session["capabilities"])

    def command(self, _name, path, **parameters):
        return self.post(f"/{path}", None if path == "screenshot" else parameters)

    def post(self, path, parameters, seconds=PATIENCE):
        data = None if parameters is None else json.dumps(parameters).encode()
        try:
            with urllib.request.urlopen(self.url + path, data, seconds) as reply:
                return json.load(reply)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {json.load(error)['value']['message']}") from None


def require(*names):
    """Return the first program on the PATH. Skip the test without one."""
    for name in names:
        if shutil.which(name):
            return name
    return skip_or_fail(
        f"no {' or '.join(names)} to open demo.html in; "
        "apt-get install firefox-esr webkit2gtk-driver xvfb would give Firefox and WebKit",
        "all",
    )


def is_listening(port):
    """Return whether a program of this machine accepts connections at a port."""
    with socket.create_connection(("127.0.0.1", port), 1):
        return True


def wait_until(function, what, seconds=PATIENCE):
    """Return the first true value of a function that may also fail until then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if value := function():
                return value
            problem = f"is {value!r}"
        except (AssertionError, OSError) as error:
            problem = f"failed: {error}"
        assert time.monotonic() < deadline, f"After {seconds} s, {what} {problem}"
        time.sleep(0.05)
