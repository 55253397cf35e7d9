"""The git commit in run.json."""

import shutil
import subprocess

import pytest

from keras_arch import machine
from keras_arch.machine import git_commit


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a git repository with one commit and a function that runs git in it."""

    def git(*arguments):
        identity = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        return subprocess.check_output(
            ["git", *identity, *arguments], cwd=tmp_path, text=True
        ).strip()

    git("init", "--quiet")
    (tmp_path / "app.py").write_text("print()\n")
    git("add", "app.py")
    git("commit", "--quiet", "-m", "Begin")
    return tmp_path, git


def installed(folder, monkeypatch):
    """Copy the module to `folder` and simulate an import from there."""
    folder.mkdir(parents=True)
    monkeypatch.setattr(machine, "__file__", shutil.copy(machine.__file__, folder))


@pytest.mark.parametrize("ignored", [True, False])
def test_a_package_inside_another_repository_has_no_commit(repository, monkeypatch, ignored):
    folder, _ = repository
    if ignored:
        (folder / ".gitignore").write_text(".venv\n")
    installed(folder / ".venv/lib/python3.11/site-packages/keras_arch", monkeypatch)
    assert git_commit() is None


def test_checkout_has_its_commit_and_a_plus_for_changes(repository, monkeypatch):
    folder, git = repository
    installed(folder / "keras_arch", monkeypatch)
    git("add", ".")
    git("commit", "--quiet", "-m", "Add the package")
    commit = git("rev-parse", "HEAD")
    assert git_commit() == commit
    (folder / "app.py").write_text("print(1)\n")
    assert git_commit() == f"{commit}+"


def test_no_repository_has_no_commit(tmp_path, monkeypatch):
    installed(tmp_path / "keras_arch", monkeypatch)
    assert git_commit() is None
