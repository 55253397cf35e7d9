"""Share values between the processes of a training. All processes call these functions.

With one process, a value is shared by itself, and nothing is compared.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import hash_of
from ..machine import version_of
from ..plugins import find_functions, hash_file

# Fields of a recipe that may be paths, which may differ between machines. Contents are compared.
PATHS = ("dataset", "weights", "teacher")
PACKAGES = ("keras", "jax", "tensorflow", "numpy")  # their versions must be the same


def process_count() -> int:
    """Return the number of processes that train together."""
    import keras

    if keras.backend.backend() != "jax":
        return 1
    import jax

    return jax.process_count()


def is_first() -> bool:
    """Return whether this process writes and prints. It is the only one or process 0."""
    if process_count() == 1:
        return True
    import jax

    return jax.process_index() == 0


def share(value: Any) -> Any:
    """Return the JSON value of process 0. All processes must call this function."""
    if process_count() == 1:
        return value
    return json.loads(share_bytes(json.dumps(value).encode()))


def share_bytes(content: bytes) -> bytes:
    """Return the content of process 0. All processes must call this function."""
    if process_count() == 1:
        return content
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    size = int(broadcast_one_to_all(np.array(len(content), "int32")))
    own = np.zeros(size, "uint8")
    if is_first():
        own[:] = np.frombuffer(content, "uint8")
    return broadcast_one_to_all(own).tobytes()


def check_same(values: dict[str, Any]) -> None:
    """Raise InputError unless all processes have the same JSON values.

    Args:
        values: {what is compared, for the message: value}.
    """
    import numpy as np
    from jax.experimental.multihost_utils import process_allgather

    hashes = [
        hashlib.sha256(json.dumps(value, default=str).encode()).digest()
        for value in values.values()
    ]
    found = process_allgather(np.frombuffer(b"".join(hashes), "uint8").reshape(len(values), -1))
    for process, row in enumerate(found):
        other = [
            name for name, differs in zip(values, row != found[0], strict=True) if differs.any()
        ]
        if other:
            raise InputError(
                f"All processes must have the same {other[0]}. Received: other {other[0]} in "
                f"process {process} than in process 0. Start all processes with the same command, "
                "version and data."
            )


@contextmanager
def first_then_others() -> Iterator[None]:
    """Run the block in process 0, then in the others, which may find what process 0 wrote."""
    if not is_first():
        share(None)
    yield
    if is_first():
        share(None)


def check_same_command(recipe: Any, resume: bool) -> None:
    """Raise InputError unless all processes have the same options and the same code.

    The paths of data, weights and teacher may differ. `check_same_state` compares what they contain.
    """
    if process_count() > 1:
        fields = dataclasses.asdict(recipe)
        options = {f"option {name}": value for name, value in fields.items() if name not in PATHS}
        check_same({**options, "option resume": resume, "code": code_hashes(recipe)})


def check_same_state(dataset: Any, model: Any, teacher_sha256: str | None = None) -> None:
    """Raise InputError unless all processes have the same data, initial weights and teacher."""
    if process_count() > 1:
        data = [dataset.fingerprint, dataset.sizes, dataset.class_names, dataset.image_shape]
        weights = {"initial weights": hash_of(model.get_weights()), "teacher": teacher_sha256}
        check_same({"data": data, **weights})


def code_hashes(recipe: Any) -> list[str]:
    """Return what identifies the code of this process: versions, and hashes of source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        digest.update(path.read_bytes())
    functions = [hash_file(text) for text in find_functions(recipe)]
    versions = [f"{name} {version_of(name)}" for name in PACKAGES]
    return [*versions, digest.hexdigest(), *functions]
