"""LiteRT.js: every way to the runtime ends with the published bytes or leaves no file."""

import base64
import hashlib
import http.server
import io
import os
import select
import shutil
import subprocess
import sys
import tarfile
import time

import pytest
from local_server import serve_folder

import keras_arch
from keras_arch.demo import runtime
from keras_arch.demo.runtime import Runtime, load_runtime

CONTENTS = {
    "dist/index.js": b"export {LiteRT};",
    "wasm/litert_wasm_compat_internal.js": "var Module; // é".encode(),
    "wasm/litert_wasm_compat_internal.wasm": b"\0asm" + bytes(range(256)) * 9,
}
EXPECTED = Runtime(
    *(content.decode() for content in list(CONTENTS.values())[:2]), list(CONTENTS.values())[2]
)


def make_tarball(contents):
    """Return the bytes of a tarball as npm packs them, with one more file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {**contents, "package.json": b"{}"}.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


TARBALL = make_tarball(CONTENTS)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Publish small files, and return the cache directory of the runtime. It does not exist."""
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENTS.items()}
    digest = base64.b64encode(hashlib.sha512(TARBALL).digest()).decode()
    monkeypatch.setattr(runtime, "FILES", hashes)
    monkeypatch.setattr(runtime, "INTEGRITY", f"sha512-{digest}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)  # of an earlier test
    (tmp_path / "scratch").mkdir()
    yield tmp_path / "cache/keras_arch/litertjs-2.5.3"
    assert not list((tmp_path / "scratch").iterdir())


@pytest.fixture
def no_npm(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(runtime, "CDN", "http://127.0.0.1:9/")  # no server listens there


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Return the directory of a server on 127.0.0.1 that has the files."""
    folder = tmp_path / "served"
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    with serve_folder(folder) as server:
        monkeypatch.setattr(runtime, "CDN", f"http://127.0.0.1:{server.server_port}/")
        yield folder


@pytest.fixture
def write_npm(tmp_path, monkeypatch):
    """Return a function that puts a shell script on the PATH as npm."""

    def write(*lines):
        script = tmp_path / "bin/npm"
        script.parent.mkdir()
        script.write_text("\n".join(["#!/bin/sh", *lines]))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    return write


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


CACHED = sorted(name.rpartition("/")[2] for name in CONTENTS)


def test_the_table_names_the_package_of_version_2_5_3():
    assert runtime.PACKAGE == "@litertjs/core@2.5.3"
    assert runtime.CDN == "https://cdn.jsdelivr.net/npm/@litertjs/core@2.5.3/"
    # As `npm view @litertjs/core@2.5.3 dist.integrity` prints it.
    assert runtime.INTEGRITY == (
        "sha512-PlGmbMOq9WitX7FO0jhbdJw9GthatsyuCQXjTt/wJZo0FLaw48q4tz8IwqgqCIkviYGr9OFDL1kCnN4nzWoyJQ=="
    )
    assert list(runtime.FILES) == list(CONTENTS)


def test_files_are_downloaded_once(cache, no_npm, served):
    assert load_runtime() == EXPECTED
    assert files_in(cache.parent) == CACHED
    shutil.rmtree(served)
    assert load_runtime() == EXPECTED


@pytest.mark.parametrize("name", CONTENTS)
def test_a_damaged_cache_is_downloaded_again(name, cache, no_npm, served):
    load_runtime()
    file = cache / name.rpartition("/")[2]
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    assert load_runtime() == EXPECTED
    assert file.read_bytes() == CONTENTS[name]


def test_a_cache_without_one_file_is_downloaded_again(cache, no_npm, served):
    load_runtime()
    (cache / "index.js").unlink()
    assert load_runtime() == EXPECTED
    assert files_in(cache) == CACHED


def refusal():
    with pytest.raises(keras_arch.InputError) as info:
        load_runtime()
    message = str(info.value)
    assert message.startswith("LiteRT.js 2.5.3 cannot be downloaded. Received: ")
    assert "\n" not in message
    return message


def test_another_hash_is_refused(cache, no_npm, served):
    (served / "dist/index.js").write_bytes(b"<html>Log in to this network</html>")
    assert "index.js has a wrong hash" in refusal()
    assert files_in(cache.parent) == []


def test_a_cut_connection_leaves_no_file(cache, no_npm, served, monkeypatch):
    """The server announces more bytes than it sends, in the last file."""
    monkeypatch.setattr(
        http.server.SimpleHTTPRequestHandler,
        "copyfile",
        lambda self, source, out: out.write(source.read(1_000)),
    )
    assert "a damaged download of 1,000 of 2,308 bytes" in refusal()
    assert files_in(cache.parent) == []


def test_a_missing_file_leaves_no_file(cache, no_npm, served):
    (served / "wasm/litert_wasm_compat_internal.wasm").unlink()
    assert "HTTP Error 404" in refusal()
    assert files_in(cache.parent) == []


def test_a_server_that_stops_is_given_up(cache, no_npm, served, monkeypatch):
    monkeypatch.setattr("keras_arch.downloads.TIMEOUT", 0.1)
    monkeypatch.setattr(
        http.server.SimpleHTTPRequestHandler, "copyfile", lambda *_: time.sleep(0.3)
    )
    assert "timed out" in refusal()


def test_no_network_says_what_was_tried_and_what_to_do(cache, no_npm, offline):
    message = refusal()
    assert "no npm on the PATH" in message
    assert "Connection refused" in message
    assert "Connect to the network once" in message
    assert "npm pack @litertjs/core@2.5.3" in message
    assert len(message) < 290 or " ... " in message  # the path is that of the test
    assert message.endswith(f"{str(cache)[-20:]}.")
    assert not cache.parent.exists()


def test_the_message_is_complete_for_a_path_of_usual_length(cache, write_npm, offline, monkeypatch):
    write_npm("echo npm error code ENOTFOUND >&2; echo npm error syscall >&2; exit 1")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/somebody/.cache")
    message = refusal()
    assert "npm error code ENOTFOUND; " in message
    assert " ... " not in message
    assert message.endswith(" to /dev/null/somebody/.cache/keras_arch/litertjs-2.5.3.")


@pytest.mark.parametrize("name", ["litertjs-core-2.5.3.tgz", "core-2.5.3.tgz"])
def test_a_tarball_in_the_cache_needs_no_network(name, cache, no_npm, offline):
    cache.mkdir(parents=True)
    (cache / name).write_bytes(TARBALL)
    assert load_runtime() == EXPECTED
    (cache / name).unlink()
    assert load_runtime() == EXPECTED


def test_a_damaged_tarball_in_the_cache_is_reported(cache, no_npm, offline, monkeypatch):
    cache.mkdir(parents=True)
    (cache / "a.tgz").write_bytes(TARBALL[:-1])
    assert "a.tgz has a wrong hash; no npm on the PATH; " in refusal()


def test_a_damaged_tarball_in_the_cache_is_no_obstacle(cache, no_npm, served):
    cache.mkdir(parents=True)
    (cache / "a.tgz").write_bytes(TARBALL[:-1])
    assert load_runtime() == EXPECTED


def test_an_unwritable_cache_is_a_warning(tmp_path, cache, no_npm, served):
    (tmp_path / "cache").write_text("a file")
    with pytest.warns(keras_arch.DataWarning, match=r"cannot be kept.*Received: .*XDG_CACHE_HOME"):
        assert load_runtime() == EXPECTED


def test_a_directory_in_place_of_a_cached_file_is_a_warning(cache, no_npm, served):
    (cache / "litert_wasm_compat_internal.wasm").mkdir(parents=True)
    with pytest.warns(keras_arch.DataWarning, match="cannot be kept"):
        assert load_runtime() == EXPECTED


def test_no_home_directory_is_a_one_line_error(cache, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", fail)
    with pytest.raises(
        keras_arch.InputError, match=r"Received: Could not determine home.*Set XDG_CACHE_HOME"
    ):
        load_runtime()


def test_a_full_disk_is_a_one_line_error(cache, no_npm, served, monkeypatch):
    usage = shutil.disk_usage(served)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(keras_arch.InputError, match=r"Free some space, or set TMPDIR to another"):
        load_runtime()
    assert not cache.exists()


def test_npm_is_asked_first(tmp_path, cache, write_npm, offline):
    """The network is not used otherwise. The arguments are those of `npm pack`."""
    (tmp_path / "tarball").write_bytes(TARBALL)
    write_npm(f'echo "$@" > {tmp_path}/arguments', f"cp {tmp_path}/tarball litertjs-core-2.5.3.tgz")
    assert load_runtime() == EXPECTED
    assert files_in(cache.parent) == CACHED
    arguments = (tmp_path / "arguments").read_text().split()
    assert (arguments[0], arguments[-1]) == ("pack", "@litertjs/core@2.5.3")
    assert "--ignore-scripts" in arguments


@pytest.mark.parametrize(
    "line",
    [
        "exit 1",
        "exit 0",
        "echo npm error code E404 >&2; exit 1",
        "echo wrong > litertjs-core-2.5.3.tgz",
    ],
)
def test_files_are_downloaded_if_npm_fails(line, cache, write_npm, served):
    write_npm(line)
    assert load_runtime() == EXPECTED


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("exit 3", "npm ended with status 3"),
        ("exit 0", "npm wrote no tarball"),
        ("echo wrong > litertjs-core-2.5.3.tgz", "litertjs-core-2.5.3.tgz has a wrong hash"),
    ],
)
def test_the_reason_of_npm_is_reported(line, reason, cache, write_npm, offline):
    write_npm(line)
    assert reason in refusal()


def test_npm_that_cannot_be_started_is_reported(tmp_path, cache, write_npm, offline):
    write_npm("")
    (tmp_path / "bin/npm").write_text("#!/no/such/interpreter\n")
    assert "No such file" in refusal()


def test_npm_that_hangs_is_ended_with_its_children(tmp_path, cache, write_npm, served, monkeypatch):
    """A child of npm holds the pipe open. The pipe ends with the child."""
    monkeypatch.setattr(runtime, "NPM_TIMEOUT", 1)
    os.mkfifo(tmp_path / "alive")
    write_npm(f"exec 9> {tmp_path}/alive", "sleep 60 &", "echo started >&9", "wait")
    pipe = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    try:
        before = time.monotonic()
        assert load_runtime() == EXPECTED
        assert time.monotonic() - before < 10
        assert os.read(pipe, 100) == b"started\n"
        assert select.select([pipe], [], [], 10)[0], "the child is still running"
        assert os.read(pipe, 100) == b""
    finally:
        os.close(pipe)


def test_an_interrupt_ends_npm(tmp_path, cache, write_npm, monkeypatch):
    write_npm(f"echo $$ > {tmp_path}/process", "exec sleep 60")

    def interrupt(*_, **__):
        while not (tmp_path / "process").exists() or not (tmp_path / "process").read_text():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr("subprocess.Popen.communicate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        load_runtime()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "process").read_text()), 0)
    assert not cache.exists()


def test_the_module_imports_neither_tensorflow_nor_keras_nor_numpy():
    code = (
        "import sys, keras_arch.demo.runtime;"
        "print(*({'keras', 'tensorflow', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""


@pytest.mark.slow
def test_npm_packs_the_published_files(tmp_path, monkeypatch):
    """The hashes of the files are those in the tarball of the published SHA-512."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(runtime, "CDN", "http://127.0.0.1:9/")
    try:
        found = load_runtime()
    except keras_arch.InputError as error:
        if "npm error code" not in str(error):
            raise
        pytest.skip(f"no network: {error}")
    assert found.wasm.startswith(b"\0asm")
    assert "loadLiteRt" in found.api
    assert len(found.glue) > 100_000
    assert load_runtime() == found
