"""Make a project of your own from this template: `make mine NAME=flower_app`.

Renames the package, the command and the project, and removes what only the template needs. Needs
nothing but Python. All texts are computed before the first file changes.
"""

import json
import keyword
import os
import re
import shutil
import subprocess
import sys
import textwrap
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parent
PACKAGE = "keras_arch"

# {reason: files and directories}. docs/make_it_yours.md has the same table.
REMOVED = {
    "measures the template": ("benchmarks", "tests/test_results.py"),
    "is a lecture about the architectures": (
        "docs/lecture.md",
        "docs/images/inception_cost.svg",
        "docs/images/one_by_one_convolution.svg",
        "docs/images/why_resnets_work.svg",
        "docs/images/why_resnets_work_fashion_mnist.svg",
        "examples/inception_cost.py",
        "examples/one_by_one_convolution.py",
        "examples/timing.py",
        "examples/why_resnets_work.py",
        "tests/scripts/test_lecture.py",
    ),
    "is the history of the template": ("CHANGELOG.md", "CITATION.cff"),
    "releases the template": (".github/workflows/release.yml", "RELEASE.md"),
    "is for contributors to the template": (
        ".github/ISSUE_TEMPLATE",
        ".github/pull_request_template.md",
        "tests/test_community.py",
    ),
    "has no use in a renamed project": (
        "docs/make_it_yours.md",
        "make_mine.py",
        "tests/test_make_mine.py",
    ),
}
# (page, section). These sections have numbers that benchmarks/ measured.
SECTIONS = (
    ("README.md", "Results"),
    ("docs/data.md", "Speed"),
    ("docs/mobile.md", "Accuracy, size and latency"),
    ("docs/training.md", "Speed"),
    ("docs/training.md", "What each method brings"),
    ("docs/training.md", "Results of a teacher"),
    ("docs/scale.md", "Speed"),
)
PATHS = [path for paths in REMOVED.values() for path in paths]
NAMES = [f"{path}/" if "." not in Path(path).name else Path(path).name for path in PATHS]
ADDRESSES = ["github.com/keras-arch/", "google.com/github/keras-arch/", "keras-arch.github.io"]
SOURCE = " @ git+https://github.com/keras-arch/keras_arch"  # of the package in the notebook
CODE = (".py", ".toml", ".yml", "")  # suffixes of files whose words NAME must not be
GONE = "|".join(map(re.escape, [*NAMES, *ADDRESSES, "make mine"]))
REFERENCE = re.compile(rf"(?<![\w-])({GONE})")
BLOCK = re.compile(r"\s*([-*] |\d+\. |\||#|```|$)")  # begins a block of a Markdown page
NEXT = """Edit the start of README.md, and description and [project.urls] in pyproject.toml.
Then run: make format && make test"""


def main(root, arguments):
    name = " ".join(arguments)
    texts = read_texts(root)
    if problem := find_problem(root, name, texts):
        print(f"{problem} Nothing was changed.", file=sys.stderr)
        return 2
    undo = "To undo this: git reset --hard && git clean -df"
    if not (root / ".git").exists():
        undo = "This is not a git clone. To undo this, copy the template again."
    print(f"Renaming {PACKAGE} to {name}. {undo}\n\nRemoving what")
    for reason, paths in REMOVED.items():
        print(textwrap.fill(f"- {reason}: {', '.join(paths)}", 80, subsequent_indent="    "))
    for page, section in SECTIONS:
        print(f'- benchmarks/ measured: the section "{section}" of {page}')
    try:
        change_files(root, {path: rename_package(text, name) for path, text in texts.items()}, name)
    except BaseException:
        print(f"Stopped halfway. The project is incomplete. {undo}", file=sys.stderr)
        raise
    print(f"\nRenamed. {NEXT}")
    return 0


def find_problem(root, name, texts):
    """Return why the project cannot be renamed, or None."""
    received = f"Received: NAME={name[:50]!r}"
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > 40:
        return (
            "NAME must be at most 40 lower-case letters, digits and single underscores, and start "
            f"with a letter. {received}. For example: make mine NAME=flower_app."
        )
    if not (root / PACKAGE).is_dir():
        return f"The project is already renamed: {PACKAGE}/ does not exist."
    if name in sys.stdlib_module_names or keyword.iskeyword(name):
        return f"NAME must not be a keyword or a module of Python. {received}."
    if (root / name).exists():
        return f"NAME must not be a file or directory of the project. {received}."
    for path, text in texts.items():
        word = re.search(rf"(?<![\w-])({name}|{to_dashes(name)})(?![\w-])", text)
        if word and path.suffix in CODE and path.name != "LICENSE":
            line = text.count("\n", 0, word.start()) + 1
            return f"NAME must not be a word of the code. {received}, which is in {path}:{line}."
    return find_change(root) if (root / ".git").exists() else None


def find_change(root):
    """Return why a clone is not clean, or None."""
    status = ["git", "-C", str(root), "status", "--porcelain"]
    try:
        changed = subprocess.check_output(status, text=True).splitlines()
    except (OSError, subprocess.CalledProcessError):
        return "This is a clone, but git cannot run in it. Install git, or remove .git."
    return f"Commit or remove your changes first, such as {changed[0][3:]}." if changed else None


def read_texts(root):
    """Return {relative path: text} of the new project, before names are replaced."""
    lines = (root / ".gitignore").read_text("utf-8").split()
    ignored = [".git", *(line.strip("/") for line in lines if not line.startswith("!"))]
    kept = [line[1:] for line in lines if line.startswith("!")]
    texts = {}
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = [one for one in folders if not matches(here / one, ignored)]
        for path in (here / one for one in sorted(files)):
            listed = matches(path, ignored) and not matches(path, kept)
            text = None if listed or is_removed(path) else read_text(root / path)
            if text is not None:
                texts[path] = remove_references(path, text)
    return texts


def is_removed(path):
    return not {path.as_posix(), *(one.as_posix() for one in path.parents)}.isdisjoint(PATHS)


def matches(path, patterns):
    """Return whether a path or its name is in a list of patterns, as in .gitignore."""
    return any(fnmatch(str(one), pattern) for one in (path, path.name) for pattern in patterns)


def read_text(path):
    """Return the text of a file, or None for a link and for bytes that are not UTF-8 text."""
    if path.is_symlink():
        return None
    content = path.read_bytes()
    try:
        return None if b"\0" in content else content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def to_dashes(name):
    return name.replace("_", "-")


def rename_package(text, name):
    """Replace all spellings of the package's name."""
    for spell in (str, to_dashes, str.upper, lambda word: word.title().replace("_", "")):
        text = text.replace(spell(PACKAGE), spell(name))
    return text


def remove_references(path, text):
    """Remove what a text says about removed files."""
    if path.suffix == ".ipynb":
        return remove_from_notebook(text)
    lines = text.splitlines(keepends=True)
    if path.suffix != ".md":
        return "".join(remove_lines(lines))
    for page, section in SECTIONS:
        if page == path.as_posix():
            lines = remove_section(lines, section)
    return "".join(remove_sentences(lines))


def remove_from_notebook(text):
    """Remove references from the cells of a notebook, which stays valid JSON."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        lines = [line.replace(SOURCE, "") for line in cell["source"]]
        kept = remove_sentences(lines) if cell["cell_type"] == "markdown" else remove_lines(lines)
        cell["source"] = "".join(kept).rstrip("\n").splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def remove_section(lines, title):
    """Remove a section of a Markdown page, with its subsections."""
    kept, fenced, level = [], False, 0  # level: number of # of the section, 0 outside of it
    for line in lines:
        fenced ^= line.lstrip().startswith("```")
        heading = None if fenced else re.match(r"(#+) (.*)", line)
        if heading and (not level or len(heading[1]) <= level):
            level = len(heading[1]) if heading[2] == title else 0
        if not level:
            kept.append(line)
    return kept


def remove_lines(lines):
    """Remove the lines that name a removed file."""
    return [line for line in lines if not REFERENCE.search(line)]


def remove_sentences(lines):
    """Remove the sentences, table rows, badges and lines of code that name a removed file."""
    kept = []
    for block in blocks_of(lines):
        text = "".join(block)
        if not text.strip() and kept and not kept[-1].strip():
            continue  # the blank line after a block that went
        if not REFERENCE.search(text):
            kept += block
        elif re.match(r"\s*(```|\|)", text):
            rest = remove_lines(block)
            kept += rest if len(rest) > 2 else []  # two lines are an empty table or code block
        elif re.match(r"\[?!\[", text):
            kept += remove_lines(block)
        else:
            kept += shorten_paragraph(text)
    return kept


def blocks_of(lines):
    """Split a Markdown page into paragraphs, list items, tables, code blocks and blank lines."""
    block, fenced = [], False
    for line in lines:
        in_table = line.startswith("|") and "".join(block).startswith("|")
        starts = BLOCK.match(line) or (block and not block[-1].strip())
        if block and starts and not fenced and not in_table:
            yield block
            block = []
        block.append(line)
        fenced ^= line.lstrip().startswith("```")
    yield block


def shorten_paragraph(text):
    """Remove the sentences of a paragraph or list item that name a removed file."""
    indent, marker, text = re.fullmatch(r"(\s*)([-*] |\d+\. |)(.*)", text, re.DOTALL).groups()
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z`\[*])", " ".join(text.split()))
    kept = " ".join(one for one in sentences if not REFERENCE.search(one))
    if not kept:
        return []
    wrapped = textwrap.wrap(
        kept,
        80,
        initial_indent=indent + marker,
        subsequent_indent=indent + " " * len(marker),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [f"{line}\n" for line in wrapped]


def change_files(root, texts, name):
    """Write the texts, remove what the new project does not need, and rename files."""
    for path, text in texts.items():
        (root / path).write_bytes(text.encode("utf-8"))
    for path in map(root.joinpath, PATHS):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in texts:
        if PACKAGE in path.name:
            (root / path).rename(root / path.with_name(rename_package(path.name, name)))
    for cache in list((root / PACKAGE).rglob("__pycache__")):
        shutil.rmtree(cache)  # git does not remove it if the user undoes the renaming
    (root / PACKAGE).rename(root / name)


if __name__ == "__main__":
    sys.exit(main(ROOT, sys.argv[1:]))
