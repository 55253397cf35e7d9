"""Exceptions and warnings for users, and short messages from exceptions of other libraries."""

import difflib
import errno
import os
import re
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping
from contextlib import contextmanager

from .extras import EXTRAS, explain_missing_module, find_missing, missing_message
from .text import shorten

BOLD = re.compile(r"\x1b\[1m(.+?)\x1b\[0m", re.DOTALL)
TF_FUNCTION_TRACEBACK = "in user code:"  # first words of messages from a tf.function
# Names of graph nodes in TensorFlow's messages. They do not help a user.
TENSORFLOW_NODE = re.compile(r"\{\{\w+_node .*?\}\} ?| \[Op:\w+\]")
KERAS_CAUSE = "Exception encountered: "  # before the cause if Keras cannot deserialize a model
# TensorFlow and ONNX Runtime put a function name, or a file and line, before the cause.
SOURCE_LOCATION = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?"
    r"|/\S+\.cc:\d+ [^)]*\)( const)? "
)
CAUSE_CELLS = 110  # width of another library's message, in terminal columns

# No space left, file too large, quota exceeded.
DISK_FULL_CODES = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
# Messages of TensorFlow, also about a MemoryError in a function that it calls, of JAX and PyTorch,
# and of the system when it loads libraries.
OUT_OF_MEMORY = re.compile(
    "^ResourceExhaustedError|MemoryError: |RESOURCE_EXHAUSTED: |bad_alloc|Cannot allocate memory"
    "|failed to map segment|can't start new thread"
)

MAX_CHOICES = 50  # names that a message lists completely
MAX_COMPARED = 100  # characters of a name that are compared with the choices
MAX_MESSAGE = 290  # characters
NAMES_SHOWN = 5  # names in an error message
UNORDERED = (set, frozenset, Mapping)  # types that are no list of names or numbers in order


class InputError(ValueError):
    """An error that the user can correct.

    The message is one line: what is wrong, the value received, and the fix. Messages of more than
    290 characters are shortened in the middle. Scripts print the message and exit with status 2.

    Args:
        message: the message.
        details: lines that scripts print after the message, such as file names.
    """

    details: list[str]

    def __init__(self, message: str, details: Iterable[str] = ()):
        super().__init__(one_line(message))
        self.details = list(details)


class DataWarning(UserWarning):
    """A warning about data that does not stop the program, such as unused files.

    Issue it with `warnings.warn`. Scripts print it to stderr as one line, `warning: ...`.
    """


def require(extra: str, modules: Iterable[str] = ()) -> None:
    """Raise InputError if a module of an extra of this package is not installed.

    Args:
        extra: a key of `extras.EXTRAS`.
        modules: modules to look for. Defaults to all of the extra.
    """
    if missing := find_missing(modules or EXTRAS[extra]):
        raise InputError(missing_message(missing, extra))


def is_disk_full(error: BaseException) -> bool:
    """Return whether an exception of any library means that a disk is full."""
    return any(os.strerror(code) in str(error) for code in DISK_FULL_CODES)


@contextmanager
def explain_surroundings(extra: str | None = None):
    """Raise InputError if the block fails because of the user's machine or settings.

    Such failures are a lack of memory, an optional package that is not installed, and a Keras
    backend that cannot be imported.

    Args:
        extra: extra of the package that the block needs, for the message about a missing package.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise memory_error(error) from error
        if isinstance(error, ModuleNotFoundError) and (
            message := explain_missing_module(error.name, keras_failed(), extra)
        ):
            raise InputError(message) from error
        if keras_failed():
            raise InputError(
                f"Keras cannot be imported. Received: {first_line(error)}. "
                "Set KERAS_BACKEND to tensorflow, jax or torch, and correct or remove "
                "~/.keras/keras.json."
            ) from error
        raise


def keras_failed() -> bool:
    """Return whether an import of Keras failed after some of its modules were imported."""
    return "keras" not in sys.modules and any(name.startswith("keras.") for name in sys.modules)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of any library means that memory is exhausted."""
    return isinstance(error, MemoryError) or bool(
        OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}")
    )


def memory_error(error: BaseException) -> InputError:
    """Return the InputError for an exception that means exhausted memory."""
    return InputError(
        f"There is not enough memory. Received: {first_line(error)}. "
        "Use a smaller batch or image (--batch-size, --image-size) or a machine with more memory."
    )


@contextmanager
def warn_on_failure(file):
    """Issue a `DataWarning` if the block cannot write `file`, so that the program continues."""
    try:
        yield
    except Exception as error:  # plotting libraries raise exceptions of many types
        if is_disk_full(error):  # no other file can be written, either
            raise
        warnings.warn(
            f"{file} could not be written: {first_line(error)}", DataWarning, stacklevel=3
        )


class VerificationError(Exception):
    """Exported files failed verification. Scripts print the problems and exit with status 1.

    Args:
        folder: export directory, which was not changed.
        problems: messages, one for each problem. They become `details`.
        fix: how to export without the files that fail, as a sentence.
    """

    def __init__(self, folder, problems: list[str], fix: str = ""):
        plural = "" if len(problems) == 1 else "s"
        end = f". {fix} Problems:" if fix else ":"
        super().__init__(f"{len(problems)} problem{plural}, so {folder} was not changed{end}")
        self.details = problems


def one_line(message) -> str:
    """Return `message` as one line of at most 290 characters, shortened in the middle."""
    line = " ".join(str(message).split())
    if len(line) <= MAX_MESSAGE:
        return line
    return f"{line[: MAX_MESSAGE // 2]} ... {line[5 - MAX_MESSAGE // 2 :]}"


def choose(kind: str, name, names: Collection[str], fix: str = "") -> str:
    """Return `name` if it is one of `names`.

    Args:
        kind: name of an option, such as "augment", or a description, such as "a split".
        name: value to check.
        names: valid values.
        fix: what to do if no valid value is similar. Default: the list of all values.

    Raises:
        InputError (a ValueError): `name` is not one of `names`. The message offers similar names.
    """
    if isinstance(name, str) and name in names:
        return name
    # Of hundreds of names, the three closest help more than a list.
    cutoff = 0.6 if len(names) <= MAX_CHOICES else 0.0
    near = difflib.get_close_matches(str(name).lower()[:MAX_COMPARED], [*names], n=3, cutoff=cutoff)
    received = shorten(repr(name), CAUSE_CELLS)
    if kind.isidentifier():
        problem = f"`{kind}` must be one of {', '.join(names)}. Received: {kind}={received}."
    else:
        problem = f"Expected {kind}. Received: {received}."
        fix = fix or f"Use one of {', '.join(names)}."
    if near:
        fix = f"Did you mean {' or '.join(near)}?"
    raise InputError(f"{problem} {fix}".strip())


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's cause, or the exception's type if there is none.

    TensorFlow puts the cause after a traceback. Keras puts it in bold between the layer and its
    arguments. Lines of more than 110 columns are shortened in the middle.
    """
    if isinstance(error, InputError):
        return str(error)
    text = str(error).strip()
    if bold := BOLD.findall(text):
        text = bold[-1]
    elif text.startswith(TF_FUNCTION_TRACEBACK):
        text = text.rpartition("\n\n")[2]
    text = TENSORFLOW_NODE.sub("", text.rpartition(KERAS_CAUSE)[2]).strip() or type(error).__name__
    # Messages continue after the cause, so its period is removed.
    line = SOURCE_LOCATION.sub("", text.splitlines()[0]).strip().rstrip(".")
    return shorten(line, CAUSE_CELLS)
