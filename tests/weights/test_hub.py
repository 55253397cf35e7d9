"""Weights from the Hugging Face Hub, against a server on 127.0.0.1 that replies as the Hub does."""

import hashlib
import http.server
import json
import re
import shutil
import threading
from collections import namedtuple

import numpy as np
import pytest
from safetensors.numpy import save
from serving import torch_order
from test_weights import same_weights

import keras_arch
from keras_arch.published import IMAGENET_NORMALIZATION, is_hub_name
from keras_arch.weights.hub import download_from_hub
from keras_arch.weights.torchvision import torchvision_name

COMMIT = "0123456789" * 4
IMAGENET = IMAGENET_NORMALIZATION._asdict()
SOURCE = "hf://timm/resnet8.a1_in1k"


class Hub:
    """The repositories of the server, and the requests that it received.

    Attributes:
        files: {repository: {file name: content}}.
        gated: Names of repositories whose terms must be accepted.
        requests: Texts such as "GET model.safetensors".
        cut: Whether files arrive in half, and later requests fail.
        cache: The cache of the client.
    """

    def __init__(self, cache):
        self.files, self.gated, self.requests, self.cut = {}, set(), [], False
        self.cache = cache

    def find_error(self, repository, revision, file):
        """Return the status and error code of a request, or None for a file that exists."""
        if repository not in self.files:
            return 401, "RepoNotFound"
        if repository in self.gated:
            return 403, "GatedRepo"
        if revision not in ("main", "v1", COMMIT):
            return 404, "RevisionNotFound"
        if file not in self.files[repository]:
            return 404, "EntryNotFound"
        if self.cut and self.requests.count(f"GET {file}") > 1:
            return 503, None
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        repository, revision, file = re.fullmatch(
            r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path
        ).groups()
        hub = self.server.hub
        hub.requests.append(f"{self.command} {file}")
        if error := hub.find_error(repository, revision, file):
            self.send_response(error[0])
            if error[1]:
                self.send_header("X-Error-Code", error[1])
            if error[1] == "EntryNotFound":
                self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            return
        content = hub.files[repository][file]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[: len(content) // 2] if hub.cut else content)

    def do_GET(self):
        self.do_HEAD()

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Serve a Hub without repositories on 127.0.0.1, with an empty cache."""
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is an optional extra")
    serving = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.hub = Hub(tmp_path / "cache")
    threading.Thread(target=serving.serve_forever, args=[0.01], daemon=True).start()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(
        "keras_arch.weights.hub.ENDPOINT", f"http://127.0.0.1:{serving.server_port}"
    )
    monkeypatch.setattr("keras_arch.weights.hub.CACHE_DIR", serving.hub.cache)
    yield serving.hub
    serving.shutdown()
    serving.server_close()


@pytest.fixture(scope="module")
def model():
    return keras_arch.ResNet8(shortcut="projection", input_shape=(8, 8, 3))


@pytest.fixture(scope="module")
def state(model):
    return {
        torchvision_name(*variable.path.rsplit("/", 1)): np.ascontiguousarray(
            torch_order(variable) + 1
        )
        for variable in model.variables
    }


def publish(hub, state, architecture="resnet8", **training):
    """Publish a checkpoint as timm does. Return its bytes."""
    content = save(state)
    hub.files["timm/resnet8.a1_in1k"] = {
        "model.safetensors": content,
        "config.json": json.dumps(
            {"architecture": architecture, "pretrained_cfg": training}
        ).encode(),
    }
    return content


def disconnect(monkeypatch):
    monkeypatch.setattr("keras_arch.weights.hub.ENDPOINT", "http://127.0.0.1:9")  # no server


def fail(model, source=SOURCE):
    """Return the message of a download that fails."""
    with pytest.raises(keras_arch.InputError) as excinfo:
        download_from_hub(model, source)
    assert len(str(excinfo.value)) < 290
    return str(excinfo.value)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_only_the_prefix_makes_a_name():
    assert is_hub_name(SOURCE)
    assert not any(is_hub_name(value) for value in ("imagenet", "hf/model.safetensors", None, 5))


def test_a_checkpoint_is_downloaded_once(hub, model, state, monkeypatch):
    content = publish(hub, state, **IMAGENET)
    path = download_from_hub(model, SOURCE)
    assert path.read_bytes() == content
    other = keras_arch.ResNet8(shortcut="projection", input_shape=(8, 8, 3))
    assert same_weights(keras_arch.load_torchvision_weights(other, path), state)
    disconnect(monkeypatch)
    assert download_from_hub(model, SOURCE) == path
    assert hub.requests.count("GET model.safetensors") == 1


def test_another_file_and_revision(hub, model):
    hub.files["mine/net"] = {"best/ema.safetensors": b"best"}
    assert download_from_hub(model, "hf://mine/net@v1/best/ema.safetensors").read_bytes() == b"best"
    hub.files["mine/net"] = {"model.safetensors": b"last"}
    assert download_from_hub(model, f"hf://mine/net@{COMMIT}").read_bytes() == b"last"


@pytest.mark.parametrize(
    "source",
    [
        *("hf://", "hf://timm", "hf://timm/", "hf://timm/resnet50/extra", "hf://timm/net@"),
        *("hf://timm/net/pytorch_model.bin", "hf://timm/net ", "hf:///timm/net", "hf://a/b@c@d"),
    ],
)
def test_malformed_names(source, model):
    message = fail(model, source)
    assert message.startswith("A name on the Hugging Face Hub must be hf://OWNER/REPOSITORY")
    assert f"Received: {source!r}" in message


def test_a_name_that_no_repository_can_have(hub, model):
    assert "Received: hf://timm/a..b. " in fail(model, "hf://timm/a..b")
    assert hub.requests == []


def test_the_package_is_missing(hub, model, monkeypatch):
    monkeypatch.setattr("keras_arch.extras.find_spec", lambda name: None)
    assert fail(model) == (
        "Optional packages are not installed. Received: no huggingface_hub. "
        'Run pip install "keras_arch[hub]".'
    )
    assert hub.requests == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf://timm/other", "timm/other does not exist or is private. Received: hf://timm/other. "),
        ("hf://timm/terms", "timm/terms requires that you accept its terms."),
        ("hf://timm/bin", "timm/bin has no model.safetensors. Received: hf://timm/bin. "),
        ("hf://timm/bin", "Only .safetensors files are read."),
        ("hf://timm/bin@v2", "timm/bin has no revision v2. Received: hf://timm/bin@v2. "),
    ],
)
def test_what_the_hub_does_not_give(source, expected, hub, model):
    hub.files = {"timm/bin": {"pytorch_model.bin": b"\x80"}, "timm/terms": {}}
    hub.gated = {"timm/terms"}
    assert expected in fail(model, source)
    assert files_in(hub.cache) == []


def test_no_network(hub, model, monkeypatch):
    disconnect(monkeypatch)
    message = fail(model)
    assert message.startswith(f"{SOURCE} cannot be downloaded. Received: [Errno ")
    assert "Check the network" in message


def test_a_cut_connection_leaves_nothing(hub, model, state):
    content = publish(hub, state)
    hub.cut = True
    hub.files["timm/resnet8.a1_in1k"].pop("config.json")
    assert fail(model).startswith(f"{SOURCE} cannot be downloaded. Received: ")
    assert all(path.stat().st_size < 1000 for path in files_in(hub.cache))
    assert list(hub.cache.rglob("*.safetensors")) == []
    hub.cut = False
    assert download_from_hub(model, SOURCE).read_bytes() == content


def test_no_space(hub, model, state, monkeypatch):
    content = publish(hub, state)
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(len(content) - 1))
    assert fail(model).startswith(f"There is no disk space for {SOURCE}. Received: 0.")
    assert "GET model.safetensors" not in hub.requests


# --- normalization ---


def test_another_normalization_is_rejected_before_the_download(hub, model, state):
    publish(hub, state, mean=[0.5, 0.5, 0.5], std=[0.25, 0.5, 0.125])
    message = fail(model)
    assert "Received: mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]. " in message
    assert message.endswith("Pass mean=[0.5, 0.5, 0.5], std=[0.25, 0.5, 0.125].")
    assert "GET model.safetensors" not in hub.requests
    fitting = keras_arch.ResNet8(
        shortcut="projection", mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 0.125)
    )
    assert download_from_hub(fitting, SOURCE).is_file()


def test_normalization_of_one_channel_is_the_average(hub, state):
    publish(hub, state, **IMAGENET)
    one_channel = {"shortcut": "projection", "input_shape": (8, 8, 1)}
    assert download_from_hub(keras_arch.ResNet8(**one_channel), SOURCE).is_file()
    message = fail(keras_arch.ResNet8(**one_channel, mean=[0.5], std=[0.5]))
    assert message.endswith("Pass mean=[0.449], std=[0.226].")


@pytest.mark.parametrize(
    "config",
    [None, b"{}", b'{"pretrained_cfg": {"mean": [0.5]}}', b'{"mean": [0, 0, 0], "std": [1]}'],
)
def test_without_a_normalization_nothing_is_compared(config, hub, model, monkeypatch):
    hub.files["mine/net"] = {"model.safetensors": b"tensors"}
    if config is not None:
        hub.files["mine/net"]["config.json"] = config
    path = download_from_hub(model, "hf://mine/net")
    assert path.read_bytes() == b"tensors"
    disconnect(monkeypatch)
    assert download_from_hub(model, "hf://mine/net") == path


@pytest.mark.parametrize("config", [b"{", b"[]", b"\xff", b'{"mean": ["a"], "std": [1]}'])
def test_a_damaged_config_is_rejected(config, hub, model):
    hub.files["mine/net"] = {"model.safetensors": b"tensors", "config.json": config}
    assert fail(model, "hf://mine/net").startswith(
        "config.json of hf://mine/net cannot be read. Received: "
    )


@pytest.mark.parametrize(
    ("architecture", "ours"),
    [("resnetblur50", "resnet50"), ("resnetaa50d", "resnet50d"), ("seresnetaa50d", "seresnet50d")],
)
def test_another_network_with_the_same_tensors_is_rejected(architecture, ours, hub, model, state):
    publish(hub, state, architecture, **IMAGENET)
    message = fail(model)
    assert f"Received: {architecture}, which blurs before it subsamples." in message
    assert f"Use a checkpoint of {ours}." in message
    assert "GET model.safetensors" not in hub.requests


def test_shortcuts_of_zeros_are_rejected_before_the_download(hub, state):
    publish(hub, state, **IMAGENET)
    assert "pad channels with zeros" in fail(keras_arch.ResNet8())
    assert hub.requests == []


def test_builders_and_transfer_take_names_on_the_hub(hub, state):
    publish(hub, state)
    options = {"shortcut": "projection", "input_shape": (8, 8, 3)}
    name = "hf://timm/resnet8.a1_in1k"
    loaded = keras_arch.ResNet8(weights=name, **options)
    kernel = state["fc.weight"].T
    np.testing.assert_array_equal(loaded.get_layer("predictions").get_weights()[0], kernel)
    other = keras_arch.ResNet8(classes=3, **options)
    with pytest.warns(keras_arch.DataWarning, match=f"{name}: layers from scratch: predictions"):
        assert keras_arch.transfer_weights(other, name, "resnet8", list("abc")) == {"predictions"}
    np.testing.assert_array_equal(
        other.get_layer("stem_conv").kernel, state["conv1.weight"].transpose(2, 3, 1, 0)
    )
    hub.files["timm/other"] = {"model.safetensors": save({"fc.bias": state["fc.bias"]})}
    with pytest.raises(
        keras_arch.InputError, match=r"hf://timm/other does not fit resnet8.* missi"
    ):
        keras_arch.ResNet8(weights="hf://timm/other", **options)
