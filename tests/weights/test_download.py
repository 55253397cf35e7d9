"""Downloads of published weights: each ends with the published bytes or leaves no file."""

import http.server
import shutil
import sys

import pytest
from serving import list_as_published, publish, serve, small, small_state
from test_weights import same_weights
from torch_files import write_torch_file

import keras_arch
from keras_arch.published import PUBLISHED


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Return the directory of a server on 127.0.0.1 for published weights."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serve(folder, tmp_path, monkeypatch):
        yield folder


@pytest.fixture(scope="module")
def state():
    return small_state()


def test_imagenet_weights_are_downloaded_once(state, server, monkeypatch):
    published = publish(server, state, monkeypatch)
    assert same_weights(small(weights="imagenet"), state)
    published.unlink()
    assert same_weights(
        small(weights="imagenet", name="mine"), state
    )  # from the cache, by any name


def test_broken_download_is_rejected_and_not_kept(state, server, monkeypatch):
    published = publish(server, state, monkeypatch)
    complete = published.read_bytes()
    published.write_bytes(complete[:-1] + bytes([complete[-1] ^ 1]))
    with pytest.raises(keras_arch.InputError, match="damaged download"):
        small(weights="imagenet")
    assert files_in(server.parent / "cache") == []
    published.write_bytes(complete)
    assert same_weights(small(weights="imagenet"), state)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_cut_connection_leaves_no_file(state, server, monkeypatch):
    """The server announces more bytes than it sends."""
    published = publish(server, state, monkeypatch)
    copy = http.server.SimpleHTTPRequestHandler.copyfile
    monkeypatch.setattr(
        http.server.SimpleHTTPRequestHandler,
        "copyfile",
        lambda self, source, out: out.write(source.read(10_000)),
    )
    size = f"{published.stat().st_size:,}"
    with pytest.raises(keras_arch.InputError, match=rf"damaged download of 10,000 of {size} b"):
        small(weights="imagenet")
    assert files_in(server.parent / "cache") == []
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "copyfile", copy)
    assert same_weights(small(weights="imagenet"), state)


def test_disk_space_is_checked_before_the_download(state, server, monkeypatch):
    publish(server, state, monkeypatch)
    usage = shutil.disk_usage(server)._replace(free=5_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(keras_arch.InputError, match=r"needs 0.3 MB .*Received: 0.0 MB free in "):
        small(weights="imagenet")
    assert files_in(server.parent / "cache") == []


def test_an_unwritable_cache_is_a_one_line_error(state, server, monkeypatch):
    publish(server, state, monkeypatch)
    (server.parent / "cache").write_text("a file")
    with pytest.raises(
        keras_arch.InputError, match=r"cannot be downloaded\. Received: .*(exists|directory)"
    ):
        small(weights="imagenet")


def test_imagenet_weights_need_no_torch(state, server, monkeypatch):
    """Torchvision publishes .pth files."""
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would fail
    publish(
        server,
        state,
        monkeypatch,
        lambda state, path: write_torch_file(path, state),
        "pth",
    )
    assert same_weights(small(weights="imagenet"), state)


def test_no_network_and_nothing_published(server, monkeypatch):
    list_as_published("resnet8-00000000.safetensors", monkeypatch)
    with pytest.raises(keras_arch.InputError, match=r"resnet8.* cannot be downloaded\. Received: "):
        small(weights="imagenet")  # the server does not have it
    nobody = PUBLISHED["imagenet"]._replace(url="http://127.0.0.1:9/")  # no server listens there
    monkeypatch.setitem(PUBLISHED, "imagenet", nobody)
    with pytest.raises(keras_arch.InputError, match=r"resnet8.* cannot be downloaded\. Received: "):
        small(weights="imagenet")
    with pytest.raises(keras_arch.InputError, match="resnet18, resnet34"):
        keras_arch.ResNet20(weights="imagenet")
    assert files_in(server.parent / "cache") == []


def test_transfer_downloads(state, server, monkeypatch):
    publish(server, state, monkeypatch)
    model = small()
    keras_arch.transfer_weights(model, "imagenet", "resnet8")
    assert same_weights(model, state)


def test_imagenet_weights_take_their_normalization_in_words(state, server, monkeypatch):
    publish(server, state, monkeypatch)
    own = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    assert same_weights(small(weights="imagenet", **own), state)


class NoNumber(http.server.BaseHTTPRequestHandler):
    """Sends a length that is no number."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "10, 10")
        self.end_headers()

    def log_message(self, *_):
        pass


class NoHttp(NoNumber):
    """Sends a line that is not HTTP."""

    def do_GET(self):
        self.wfile.write(b"hello\r\n\r\n")


@pytest.mark.parametrize("handler", [NoNumber, NoHttp])
def test_a_server_that_does_not_speak_http_is_a_one_line_error(handler, tmp_path, monkeypatch):
    with serve(tmp_path, tmp_path, monkeypatch) as serving:
        serving.RequestHandlerClass = handler
        with pytest.raises(
            keras_arch.InputError, match=r"cannot be downloaded\. Received: "
        ) as info:
            keras_arch.ResNet18(weights="imagenet", input_shape=(32, 32, 3))
    assert "\n" not in str(info.value)
    assert files_in(tmp_path / "cache") == []
