"""A server on 127.0.0.1 for published weights, and a small network that it publishes."""

import hashlib
from contextlib import contextmanager

import numpy as np
from local_server import serve_folder
from safetensors.numpy import save_file

import keras_arch
from keras_arch.published import PUBLISHED, Checkpoint
from keras_arch.weights.checks import count_backbone_parameters
from keras_arch.weights.torchvision import torchvision_name


@contextmanager
def serve(folder, tmp_path, monkeypatch):
    """Serve a directory on 127.0.0.1 for published weights, with an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with serve_folder(folder) as server:
        for name, collection in PUBLISHED.items():
            local = collection._replace(url=f"http://127.0.0.1:{server.server_port}/")
            monkeypatch.setitem(PUBLISHED, name, local)
        yield server


def torch_order(variable):
    value = variable.numpy()
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def small(**options):
    """Build a small network whose tensors PyTorch's names describe."""
    return keras_arch.ResNet8(shortcut="projection", **options)


def small_state():
    """Return a state_dict with PyTorch's names for the small network."""
    model = small()
    state = {
        torchvision_name(*variable.path.rsplit("/", 1)): torch_order(variable)
        for variable in model.variables
    }
    return {name: np.ascontiguousarray(tensor) for name, tensor in state.items()}


def list_as_published(file, monkeypatch):
    """Let weights="imagenet" of ResNet8 be a file of this name."""
    collection = PUBLISHED["imagenet"]
    checkpoint = Checkpoint(file, count_backbone_parameters(small()))
    checkpoints = {**collection.checkpoints, "resnet8": checkpoint}
    monkeypatch.setitem(PUBLISHED, "imagenet", collection._replace(checkpoints=checkpoints))


def publish(folder, state, monkeypatch, write=save_file, suffix="safetensors"):
    """Write a checkpoint to the server's directory, named by its hash."""
    write(state, folder / "file")
    digest = hashlib.sha256((folder / "file").read_bytes()).hexdigest()
    name = f"resnet8-{digest[:8]}.{suffix}"
    (folder / "file").rename(folder / name)
    list_as_published(name, monkeypatch)
    return folder / name
