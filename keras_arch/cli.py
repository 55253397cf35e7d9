"""Command lines, error messages and screen output of all scripts."""

import contextlib
import dataclasses
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher
from functools import partial
from types import NoneType
from typing import Annotated, Literal, get_args, get_origin

from .errors import (
    DataWarning,
    InputError,
    VerificationError,
    choose,
    explain_surroundings,
    first_line,
    is_disk_full,
    one_line,
    require,
)
from .options import OR_FUNCTION, Metavar, Positional, check_ranges
from .plugins import FORM, is_function
from .text import printable, shorten

MAX_ARGUMENT = 4096  # characters, the limit of a path on Linux
MAX_PARSER_ERROR = 250  # characters


def run(main: Callable[[], object]) -> None:
    """Call `main` and print errors that the user can fix as one line on stderr.

    The exit status is 2 for an `InputError` or an `OSError`, 1 for a `VerificationError` and 130
    for Ctrl-C. Other exceptions are bugs and keep their traceback.
    """
    # TensorFlow reads these at import. Its notices on instruction sets and GPUs do not help users.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Without AVX-512, TensorFlow disables oneDNN by default. Training then has half the speed.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    reopen_closed_streams()
    escape_unencodable()
    try:
        with one_line_warnings(), explain_surroundings():
            main()
            sys.stdout.flush()  # raises here if the disk is full, not when Python exits
    except BrokenPipeError:  # the reader, such as head, has closed the pipe
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, sys.stdout.fileno())  # Python flushes its buffer at exit
        sys.exit(1)
    except (InputError, OSError) as error:
        sys.exit(fail(error))
    except VerificationError as error:
        sys.exit(fail(error, status=1))
    except KeyboardInterrupt as interrupt:
        print(f"\n{printable(interrupt) or 'stopped'}", file=sys.stderr)
        sys.exit(130)  # 128 + SIGINT, the convention of shells
    except Exception as error:
        if not is_disk_full(error):
            raise
        sys.exit(fail(first_line(error)))


def use_tensorflow() -> None:
    """Let Keras run on TensorFlow, whatever its settings are. Call it before Keras is imported."""
    os.environ["KERAS_BACKEND"] = "tensorflow"


def reopen_closed_streams() -> None:
    """Open the null device as each standard stream that is closed, for example by `2>&-`.

    Otherwise the next file that is opened gets the file descriptor of the stream, and native code
    prints into that file.
    """
    for name, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
        if getattr(sys, name) is None:
            # os.open returns the lowest free file descriptor, which is that of the stream.
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115, stays open


def escape_unencodable() -> None:
    """Make stdout and stderr escape characters that their encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def one_line_warnings() -> Iterator[None]:
    """Print each `DataWarning` as one line on stderr and ignore the warnings of Pillow.

    Pillow warns of large images and of damaged metadata. An image that Pillow cannot decode is an
    error. Python prints all other warnings.
    """
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        show_default = warnings.showwarning

        def show(message, category, *location, **options):
            if issubclass(category, DataWarning):
                print("warning: " + printable(" ".join(str(message).split())), file=sys.stderr)
            else:
                show_default(message, category, *location, **options)

        warnings.showwarning = show
        warnings.simplefilter("always", DataWarning)
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def fail(message, status: int = 2) -> int:
    """Print an error message as one line on stderr, then its details, and return `status`."""
    print("error: " + one_line(printable(one_line(message))), file=sys.stderr)
    for detail in getattr(message, "details", ()):
        print(f"  {printable(detail)}", file=sys.stderr)
    return status


def program() -> str:
    """Return the name of the running script or command, such as "train.py"."""
    return os.path.basename(sys.argv[0])


def parse(command, arguments, extra=None, **options):
    """Return an instance of the dataclass `command`, parsed from `arguments`. Errors are one line.

    Args:
        command: dataclass of options, whose docstrings are the help texts.
        arguments: list of str.
        extra: extra of the package that the script needs. It is checked after --help.
        **options: arguments of `tyro.cli`.
    """
    require(extra or "predict", ["tyro"])
    check_command_line(arguments)

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            parsed = parse_with_tyro(command, arguments, **{"prog": program(), **options})
    except SystemExit as stop:
        if stop.code:
            body = errors.getvalue().split("\n", 1)[-1]  # the body repeats the title of the box
            text = " ".join(re.sub(r"[╭╮╰╯│─]+", " ", body).split())
            text = re.split("For full helptext|Got errors|Argument helptext", text)[0].strip()
            text = re.sub(r"^Error parsing \w+: ", "", text)  # the name of a group of options
            text = re.sub("(?<=Perhaps you meant: ).*", partial(closest_options, arguments), text)
            end = "" if text.endswith("?") else "."
            stop = SystemExit(
                fail(
                    f"{shorten(text, MAX_PARSER_ERROR).rstrip('.')}{end} See --help for the options."
                )
            )
        raise stop from None
    check_ranges(parsed)
    if extra:
        require(extra)
    return parsed


def closest_options(arguments, suggestions):
    """Return the names of the options in tyro's suggestions, without their help texts.

    Args:
        arguments: words of the command line. The names are sorted by their likeness to one of them.
        suggestions: match of a regular expression.
    """
    names = dict.fromkeys(re.findall(r"(?:^| )(--[a-z0-9-]+)(?= [A-Z{\[])", suggestions[0]))
    likeness = {
        name: max(SequenceMatcher(None, name, word).ratio() for word in arguments) for name in names
    }
    return ", ".join(sorted(names, key=lambda name: -likeness[name])) or suggestions[0]


def parse_with_tyro(command, arguments, **options):
    """Return what `tyro.cli` parses, with the settings of all scripts."""
    import tyro

    return tyro.cli(
        command,
        args=arguments,
        # --epochs, not --recipe.epochs, and no --no-overwrite
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        registry=help_registry(),
        **options,
    )


def help_registry():
    """Return a tyro registry that reads our notes and omits empty defaults from the help."""
    from tyro.constructors import ConstructorRegistry, StructConstructorSpec

    registry = ConstructorRegistry()
    pending: list = []  # the type whose fields tyro's own rules find

    @registry.struct_rule
    def annotate_fields(info):
        if pending:
            return None
        pending.append(info)
        try:
            struct = ConstructorRegistry.get_struct_spec(info)
        finally:
            pending.pop()
        if not isinstance(struct, StructConstructorSpec) or not dataclasses.is_dataclass(info.type):
            return struct
        fields = [
            dataclasses.replace(field, type=annotate_for_tyro(field.type))
            for field in struct.fields
        ]
        return dataclasses.replace(struct, fields=tuple(fields))

    return registry


def annotate_for_tyro(annotation):
    """Return the annotation of an option, with its notes in tyro's terms."""
    from tyro.conf import Positional as TyroPositional
    from tyro.conf import arg
    from tyro.constructors import (
        ConstructorRegistry,
        PrimitiveConstructorSpec,
        PrimitiveTypeInfo,
    )

    def hint(default):
        return "" if default in ("None", "False", "") else f"(default: {default})"

    is_annotated = get_origin(annotation) is Annotated
    kind, *notes = get_args(annotation) if is_annotated else (annotation,)
    if dataclasses.is_dataclass(kind):  # a group of options
        return annotation
    metavar = next((note.text for note in notes if isinstance(note, Metavar)), None)
    if OR_FUNCTION in notes and get_origin(kind) is Literal:
        return literal_or_function(get_args(kind), hint)
    if metavar is None and NoneType in get_args(kind):  # X | None
        info = PrimitiveTypeInfo.make(get_args(kind)[0], set())
        spec = ConstructorRegistry.get_primitive_spec(info)
        metavar = spec.metavar if isinstance(spec, PrimitiveConstructorSpec) else None
    if any(isinstance(note, Positional) for note in notes):
        notes = [*notes, TyroPositional]
    return Annotated[(kind, arg(metavar=metavar, help_behavior_hint=hint), *notes)]


def literal_or_function(choices, hint):
    """Return the annotation for tyro of a text that is one of `choices` or FILE.py:function."""
    from tyro.conf import arg
    from tyro.constructors import PrimitiveConstructorSpec

    metavar = f"{{{','.join(choices)}}}|{FORM}"
    spec = PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: (
            words[0] if is_function(words[0]) else choose(f"a choice or {FORM}", words[0], choices)
        ),
        is_instance=lambda value: isinstance(value, str),
        str_from_instance=lambda value: [value],
    )
    return Annotated[str, spec, arg(metavar=metavar, help_behavior_hint=hint)]


def check_command_line(arguments: list[str]) -> None:
    """Raise InputError if an argument is empty or too long.

    As a path, an empty argument would be the current directory.
    """
    for previous, argument in zip(("the script", *arguments), arguments, strict=False):
        if argument == "" or re.fullmatch("--[^=]+=", argument):
            raise InputError(
                f"Arguments must not be empty. Received: {argument!r} after {previous}. Check the "
                "variables of the shell."
            )
        if len(argument) > MAX_ARGUMENT:
            raise InputError(
                f"Arguments must have {MAX_ARGUMENT:,} characters or fewer. Received: "
                f"{len(argument):,} characters after {previous}."
            )


def say(text: str) -> None:
    """Print `text` with its control characters escaped, which names of files may contain."""
    print(printable(text))


def print_table(rows: list[dict[str, str]]) -> None:
    """Print a table. The text is printed unchanged, without rich's markup.

    Args:
        rows: {column: text} of each row. All rows have the same columns.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for column, value in rows[0].items():
        table.add_column(
            Text(shorten(column)),
            overflow="fold",
            justify="right" if value[:1].isdigit() else "left",
        )
    for row in rows:
        table.add_row(*(Text(printable(value)) for value in row.values()))
    Console(highlight=False).print(table)


def progress(batches: Iterable, total: int) -> Iterable:
    """Yield from `batches` and show a progress bar if stderr is a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(
        batches, "", total, console=console, transient=True, disable=not console.is_terminal
    )


def announce(items: Iterable[tuple[str, object]], total: int) -> Iterator[tuple[str, object]]:
    """Yield from (name, value) pairs and print each name before its value is used.

    Inside `quiet`, a progress bar on stderr would not be visible.
    """
    for number, (name, value) in enumerate(items, start=1):
        print(f"  {number}/{total} {name}", flush=True)
        yield name, value


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide what native code writes to stderr, unless the block raises an unexpected exception.

    TensorFlow prints notices before it reads its log level, so no setting stops them. Each
    `DataWarning` is printed at the end of the block.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with repeat_warnings(), tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        try:
            with explain_surroundings():
                yield
        except (InputError, VerificationError, KeyboardInterrupt):
            raise
        except BaseException:
            hidden.seek(0)
            os.write(stderr, hidden.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def repeat_warnings() -> Iterator[None]:
    """Issue each `DataWarning` of the block when the block ends or raises."""
    issued: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as issued:
            yield
    finally:
        for warning in issued:
            if issubclass(warning.category, DataWarning):
                warnings.showwarning(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
