"""`make mine NAME=...`: a renamed project without the template's own files, which works."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

NOT_COPIED = (".git", ".venv", ".*_cache", "__pycache__", "*.egg-info", "site", "build", "dist")
LINK = re.compile(r"\]\(([^)\s#]+)[^)]*\)")


def write_tree(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read_tree(root):
    """Return {path: content} of all files except those of git."""
    paths = (path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in paths
        if ".git" not in path.relative_to(root).parts
    }


@pytest.fixture
def make_mine(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("make_mine")


TREE = {
    ".gitignore": "data/\nsaved_models/*\n!saved_models/README.md\n",
    "saved_models/README.md": "Written by keras_arch.\n",
    "saved_models/run.json": '"keras_arch"',
    "data/notes.txt": "keras_arch",
    "keras_arch/__init__.py": "import keras\n",
    "keras_arch/logo.png": b"\x89PNG keras_arch",
    "docs/griffe_keras_arch.py": "class KerasArch: ...\n",
    "docs/latin.txt": "keras_arch, naïve".encode("latin-1"),
    "pyproject.toml": 'scripts.keras-arch = "keras_arch.command:main"\ndependencies = ["ruff"]\n'
    'urls.source = "https://github.com/keras-arch/keras_arch"\n',
    "tests/test_a.py": 'VARIABLE = "KERAS_ARCH_TEST_DATA"\n',
    "benchmarks/results/a.json": "{}",
    "CHANGELOG.md": "# Changes\n",
    "make_mine.py": "",
    "Makefile": "test:\n\tpytest\nmine: ; make_mine.py\n",
    "README.md": """# keras_arch

[![CI](https://github.com/keras-arch/keras_arch/ci.svg)](https://keras-arch.github.io)
![Keras 3](https://img.shields.io/badge/Keras-3)

It trains. [CHANGELOG.md](CHANGELOG.md) lists the changes. It exports, too,
`keras-arch` says. Run `make mine` to
rename it.

```
# Results
pytest
python benchmarks/speed.py
```

```
make mine
```

- [Lecture](docs/lecture.md): experiments. [A notebook](a.ipynb)
  covers all steps.
- [Speed](benchmarks/results/a.json)

| a | b |
|---|---|
| kept | 1 |
| lost | [2](benchmarks/results/a.json) |

Before the section.

## Results

Measured.

### Details

More.

## After

Text.
""",
}
RENAMED = {
    **{name: TREE[name] for name in (".gitignore", "saved_models/run.json", "data/notes.txt")},
    "saved_models/README.md": "Written by flower_app.\n",
    "flower_app/__init__.py": "import keras\n",
    "flower_app/logo.png": TREE["keras_arch/logo.png"],
    "docs/griffe_flower_app.py": "class FlowerApp: ...\n",
    "docs/latin.txt": TREE["docs/latin.txt"],
    "pyproject.toml": 'scripts.flower-app = "flower_app.command:main"\ndependencies = ["ruff"]\n',
    "tests/test_a.py": 'VARIABLE = "FLOWER_APP_TEST_DATA"\n',
    "Makefile": "test:\n\tpytest\n",
    "README.md": """# flower_app

![Keras 3](https://img.shields.io/badge/Keras-3)

It trains. It exports, too, `flower-app` says.

```
# Results
pytest
```

- [A notebook](a.ipynb) covers all steps.

| a | b |
|---|---|
| kept | 1 |

Before the section.

## After

Text.
""",
}


def test_texts_names_and_references_change_and_all_other_bytes_stay(make_mine, tmp_path, capsys):
    write_tree(tmp_path, TREE)
    (tmp_path / "Makefile").chmod(0o755)
    assert make_mine.main(tmp_path, ["flower_app"]) == 0
    expected = {
        name: content if isinstance(content, bytes) else content.encode()
        for name, content in RENAMED.items()
    }
    assert read_tree(tmp_path) == expected
    assert (tmp_path / "Makefile").stat().st_mode & 0o777 == 0o755
    printed = capsys.readouterr().out
    for reason, paths in make_mine.REMOVED.items():
        assert reason in printed
        assert all(path in printed for path in paths)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "must be at most 40 lower-case letters"),
        ("flower app", "must be at most 40 lower-case letters"),
        ("flower-app", "must be at most 40 lower-case letters"),
        ("FlowerApp", "must be at most 40 lower-case letters"),
        ("flower__app", "must be at most 40 lower-case letters"),
        ("_flower", "must be at most 40 lower-case letters"),
        ("2flowers", "must be at most 40 lower-case letters"),
        ("../flower", "must be at most 40 lower-case letters"),
        ("blüte", "must be at most 40 lower-case letters"),
        ("two\nlines", "must be at most 40 lower-case letters"),
        ("a" * 41, "must be at most 40 lower-case letters"),
        ("class", "must not be a keyword"),
        ("json", "must not be a keyword or a module of Python"),
        ("tests", "must not be a file or directory"),
        ("keras_arch", "must not be a file or directory"),
        (
            "keras",
            "must not be a word of the code. Received: NAME='keras', which is in keras_arch/",
        ),
        ("ruff", "must not be a word of the code"),
    ],
)
def test_a_refused_name_changes_nothing(make_mine, tmp_path, capsys, name, reason):
    write_tree(tmp_path, TREE)
    before = read_tree(tmp_path)
    assert make_mine.main(tmp_path, [name]) == 2
    printed = capsys.readouterr()
    assert reason in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert read_tree(tmp_path) == before


def git(root, *arguments):
    person = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    subprocess.run(["git", *person, *arguments], cwd=root, check=True, capture_output=True)


def test_a_clone_must_be_clean_and_git_undoes_the_renaming(make_mine, tmp_path, capsys):
    write_tree(tmp_path, TREE)
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "Begin")
    before = read_tree(tmp_path)
    write_tree(tmp_path, {"keras_arch/__pycache__/a.pyc": b"", ".git/info/exclude": "*.pyc"})
    (tmp_path / "new.txt").touch()
    assert make_mine.main(tmp_path, ["flower_app"]) == 2
    assert "Commit or remove your changes first, such as new.txt" in capsys.readouterr().err
    (tmp_path / "new.txt").unlink()
    assert make_mine.main(tmp_path, ["flower_app"]) == 0
    assert "git reset --hard && git clean -df" in capsys.readouterr().out
    git(tmp_path, "reset", "--hard")
    git(tmp_path, "clean", "-df")
    assert read_tree(tmp_path) == before
    assert not (tmp_path / "flower_app").exists()


def test_a_clone_without_git_is_refused(make_mine, tmp_path, monkeypatch, capsys):
    write_tree(tmp_path, TREE)
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert make_mine.main(tmp_path, ["flower_app"]) == 2
    assert "git cannot run in it" in capsys.readouterr().err


def test_a_renamed_project_is_refused(make_mine, tmp_path, capsys):
    write_tree(tmp_path, TREE)
    assert make_mine.main(tmp_path, ["flower_app"]) == 0
    before = read_tree(tmp_path)
    assert make_mine.main(tmp_path, ["tree_app"]) == 2
    assert "already renamed: keras_arch/ does not exist" in capsys.readouterr().err
    assert read_tree(tmp_path) == before


def test_an_interruption_says_how_to_go_back(make_mine, tmp_path, monkeypatch, capsys):
    write_tree(tmp_path, TREE)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_mine.main(tmp_path, ["flower_app"])
    assert "The project is incomplete. This is not a git clone." in capsys.readouterr().err


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of this project, without git."""
    root = tmp_path_factory.mktemp("mine") / "project"
    ignore = shutil.ignore_patterns(*NOT_COPIED, "saved_models")
    shutil.copytree(ROOT, root, ignore=ignore)
    (root / "saved_models").mkdir()
    shutil.copy(ROOT / "saved_models/README.md", root / "saved_models")
    return root


@pytest.fixture(scope="module")
def mine(copy):
    """The project that `make mine` makes of it."""
    make = ["make", "mine", f"PYTHON={sys.executable}"]
    refused = subprocess.run(make, cwd=copy, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("NAME must be at most 40 lower-case letters")
    subprocess.run([*make, "NAME=flower_app"], cwd=copy, check=True, capture_output=True)
    return copy


def run(root, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(root), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_row_of_the_tables_exists_and_is_documented(make_mine):
    documented = (ROOT / "docs/make_it_yours.md").read_text()
    for path in make_mine.PATHS:
        assert (ROOT / path).exists(), path
        assert f"`{path}`" in documented, path
    for page, section in make_mine.SECTIONS:
        assert f"\n## {section}\n" in (ROOT / page).read_text(), page
        assert f'"{section}"' in documented, section
    for reason in make_mine.REMOVED:
        assert reason in documented


def test_lines_of_code_that_go_are_sentences_or_entries(make_mine):
    """Otherwise `make mine` would leave half of a sentence or of a statement."""
    texts = {path: make_mine.read_text(path) for path in ROOT.glob("[!.]*/**/*.py")}
    for path, text in texts.items():
        if make_mine.is_removed(path.relative_to(ROOT)):
            continue
        for line in filter(make_mine.REFERENCE.search, text.splitlines()):
            assert re.fullmatch(r"\s*(# )?[A-Z].*\.(\"\"\")?", line), f"{path}: {line}"


def test_nothing_of_the_template_is_left(make_mine, mine):
    gone = "|".join(
        map(
            re.escape, [*make_mine.NAMES, "flower-app.github", "github/flower", "github.com/flower"]
        )
    )
    left = re.compile(rf"keras[_-]arch|kerasarch|make mine|(?<![\w-])({gone})", re.IGNORECASE)
    for name, content in read_tree(mine).items():
        assert not re.search("keras[_-]arch", name)
        assert not (found := left.search(content.decode("latin-1"))), (name, found)
    for path in make_mine.PATHS:
        assert not (mine / path).exists()


def test_notebooks_and_settings_stay_valid(mine):
    cells = json.loads((mine / "examples/quickstart.ipynb").read_text())["cells"]
    assert len(cells) > 10
    assert all(cell["source"] for cell in cells)
    assert '"flower_app[all]"' in "".join(cells[1]["source"])
    settings = tomllib.loads((mine / "pyproject.toml").read_text())
    assert settings["project"]["scripts"] == {"flower-app": "flower_app.command:main"}
    for path in mine.rglob("*.json"):
        json.loads(path.read_text())


def test_no_section_or_code_block_is_empty(mine):
    for page in mine.rglob("*.md"):
        text = page.read_text()
        assert "```\n```" not in text, page
        text = re.sub("(?s)```.*?```", "code", text)
        titles = re.findall(r"^(#+) (.+)\n+(?=(#+) |\Z)", text, re.MULTILINE)
        assert [title for level, title, next_level in titles if level >= next_level] == [], page


def test_every_relative_link_resolves(mine):
    pages = list(mine.rglob("*.md"))
    assert len(pages) > 10
    for page in pages:
        for target in LINK.findall(page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), (page, target)


@pytest.mark.slow
def test_the_renamed_project_passes_its_tests(mine):
    chosen = ["tests/test_structure.py", "tests/architectures/test_contract.py"]
    outcome = run(mine, "pytest", "-n0", "-q", *chosen, "-k", "(structure or resnet8) and not help")
    assert int(re.search(r"(\d+) passed", outcome)[1]) > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "ruff check .",
        "ruff format .",
        "ruff format --check .",
        "mypy",
        "mkdocs build --strict",
        "pytest -n0 --collect-only -q",
    ],
)
def test_the_renamed_project_passes_the_checks(mine, command):
    run(mine, *command.split())
