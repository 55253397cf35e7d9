"""Weights from repositories on the Hugging Face Hub, such as timm's."""

import json
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import keras

from ..errors import InputError, first_line, is_disk_full, require
from ..published import HUB_PREFIX, Normalization
from .checks import check_normalization
from .torchvision import refuse_padding

NAME = re.compile(
    HUB_PREFIX + r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w.-]+))?"
    r"(/(?P<file>[\w./-]+\.safetensors))?"
)
DEFAULT_FILE, CONFIG = "model.safetensors", "config.json"

# timm's networks that blur before they subsample, without weights.
SAME_TENSORS = re.compile("resnet(aa|blur)")

ENDPOINT = None  # the default of huggingface_hub: HF_ENDPOINT, or the public Hub
CACHE_DIR: Path | None = None  # the default of huggingface_hub, ~/.cache/huggingface/hub

# {exception of huggingface_hub: (problem of the repository, fix)}, subclasses first.
REFUSALS = {
    "GatedRepoError": (
        "requires that you accept its terms",
        "Accept them on its page, and run hf auth login.",
    ),
    "RepositoryNotFoundError": (
        "does not exist or is private",
        "Correct the name, or run hf auth login.",
    ),
    "RevisionNotFoundError": ("has no revision {revision}", "Correct it, or leave it out."),
    "RemoteEntryNotFoundError": (
        "has no {file}",
        "Only .safetensors files are read. Name another file: hf://OWNER/REPOSITORY/FILE.",
    ),
    "HFValidationError": (
        "cannot be the name of a repository",
        "Use a name such as timm/resnet50.a1_in1k.",
    ),
}


class HubName(NamedTuple):
    """A file in a repository on the Hub."""

    source: str  # such as "hf://timm/resnet50.a1_in1k"
    repository: str  # such as "timm/resnet50.a1_in1k"
    revision: str  # a branch, a tag or a commit
    file: str


class HubConfig(NamedTuple):
    """What config.json in a repository of timm says."""

    architecture: str
    normalization: Normalization | None


def download_from_hub(model: keras.Model, source: str) -> Path:
    """Download a checkpoint from the Hub for a model, after checks that it fits.

    A file in the cache of huggingface_hub is used without a network.

    Args:
        model: A model from a builder of keras_arch. It must normalize images as config.json in the
            repository says. Without `mean` and `std` in that file, nothing is compared.
        source: "hf://OWNER/REPOSITORY" for model.safetensors in a repository. A revision, a file or
            both may follow: "hf://OWNER/REPOSITORY@REVISION/FILE.safetensors".

    Returns:
        The path of the .safetensors file in the cache.

    Raises:
        InputError (a ValueError): The name is malformed, huggingface_hub is not installed, the
            checkpoint does not fit the model, or the download fails.
    """
    name = parse_name(source)
    require("hub")
    refuse_padding(model, source)
    with explain_download(name):
        cached = find_in_cache(name, name.file)
        if not cached:
            check_file(name)
        config = read_config(name)
        check_architecture(config.architecture, name)
        # With other channels, the tensors do not fit, either.
        if config.normalization and model.input_shape[-1] in (1, len(config.normalization.mean)):
            check_normalization(model, config.normalization, source)
        return Path(cached or fetch(name, name.file))


def parse_name(source: str) -> HubName:
    """Return the parts of a name on the Hub."""
    match = NAME.fullmatch(source)
    if match is None:
        raise InputError(
            "A name on the Hugging Face Hub must be hf://OWNER/REPOSITORY, "
            "hf://OWNER/REPOSITORY@REVISION or hf://OWNER/REPOSITORY/FILE.safetensors. "
            f"Received: {source!r}. Use a name such as hf://timm/resnet50.a1_in1k."
        )
    return HubName(
        source, match["repository"], match["revision"] or "main", match["file"] or DEFAULT_FILE
    )


def find_in_cache(name: HubName, file: str) -> str | None:
    """Return the path of a file in the cache, "" if the repository lacks it, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        name.repository, file, cache_dir=CACHE_DIR, revision=name.revision
    )
    return found if isinstance(found, str | None) else ""


def check_file(name: HubName) -> None:
    """Raise an exception if the file does not exist or is too large for the disk.

    Without a network, this fails immediately. A download would try for half a minute.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(name.repository, name.file, revision=name.revision, endpoint=ENDPOINT)
    size = get_hf_file_metadata(url, endpoint=ENDPOINT).size or 0
    folder = Path(CACHE_DIR or constants.HF_HUB_CACHE).absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise InputError(
            f"There is no disk space for {name.source}. Received: {free / 1e6:.1f} MB of "
            f"{size / 1e6:.1f} MB in {existing}. Free some space, or set HF_HOME."
        )


def fetch(name: HubName, file: str) -> str:
    """Download a file of a repository. Return its path in the cache."""
    from huggingface_hub import hf_hub_download

    return hf_hub_download(
        name.repository, file, revision=name.revision, cache_dir=CACHE_DIR, endpoint=ENDPOINT
    )


def read_config(name: HubName) -> HubConfig:
    """Return what config.json in a repository says."""
    from huggingface_hub.errors import RemoteEntryNotFoundError

    path = find_in_cache(name, CONFIG)
    try:
        path = fetch(name, CONFIG) if path is None else path
    except RemoteEntryNotFoundError:
        path = ""
    try:
        return parse_config(Path(path).read_bytes() if path else b"{}")
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"{CONFIG} of {name.source} cannot be read. Received: {first_line(error)}. "
            "Load a copy of the .safetensors file."
        ) from error


def parse_config(content: bytes) -> HubConfig:
    """Return the contents of a config.json in timm's format. Other formats lack its keys."""
    config = json.loads(content)
    training = config.get("pretrained_cfg") or config
    mean, std = ([float(value) for value in training.get(key, ())] for key in ("mean", "std"))
    has_both = len(mean) == len(std) > 0
    return HubConfig(
        str(config.get("architecture")), Normalization(mean, std) if has_both else None
    )


def check_architecture(architecture: str, name: HubName) -> None:
    """Raise InputError if the tensors of another network have the names and shapes of ours."""
    if SAME_TENSORS.search(architecture):
        raise InputError(
            f"{name.source} is another network with the same tensors. Received: {architecture}, "
            "which blurs before it subsamples. "
            f"Use a checkpoint of {SAME_TENSORS.sub('resnet', architecture)}."
        )


@contextmanager
def explain_download(name: HubName):
    """Raise InputError if the block cannot download a file from the Hub."""
    from huggingface_hub import errors

    try:
        yield
    except InputError:
        raise
    except Exception as error:  # also of the HTTP client
        for kind, (problem, fix) in REFUSALS.items():
            if isinstance(error, getattr(errors, kind)):
                problem = problem.format(**name._asdict())
                raise InputError(
                    f"{name.repository} {problem}. Received: {name.source}. {fix}"
                ) from error
        if is_disk_full(error):
            raise InputError(
                f"There is no disk space for {name.source}. Received: {first_line(error)}. "
                "Free some space, or set HF_HOME."
            ) from error
        raise InputError(
            f"{name.source} cannot be downloaded. Received: {first_line(error)}. "
            "Check the network, or pass a copy of the file as `weights`."
        ) from error
