"""The git commit and the versions in run.json."""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version

import pytest

from keras_arch import machine
from keras_arch.machine import git_commit, version_of


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


def test_a_module_has_the_version_of_any_package_that_installs_it(tmp_path, monkeypatch):
    """tensorflow-cpu and tf-nightly install the module tensorflow, and no package of this name."""
    info = tmp_path / "some_net_nightly-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-net-nightly\nVersion: 1.2\n")
    (info / "top_level.txt").write_text("some_net\n")
    with pytest.raises(PackageNotFoundError):
        version_of("some-net")
    monkeypatch.syspath_prepend(tmp_path)
    assert version_of("some-net") == version_of("some_net_nightly") == "1.2"
    assert version_of("tensorflow") == version("tensorflow")
