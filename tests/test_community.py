"""Files for contributors and releases: valid YAML, the fields that their readers require."""

import re

import pytest
import yaml
from conftest import ROOT

FORMS = sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def version():
    """Return the version from the package, or from pyproject.toml, without importing either."""
    texts = [(ROOT / name).read_text() for name in ("keras_arch/__init__.py", "pyproject.toml")]
    found = re.findall(r'^(?:__version__|version) = "(.+)"', "\n".join(texts), re.MULTILINE)
    assert len(found) == 1
    return found[0]


def test_the_citation_has_the_required_fields_and_the_version():
    citation = load(ROOT / "CITATION.cff")
    # https://github.com/citation-file-format/citation-file-format/blob/1.2.0/schema-guide.md
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["authors"] == [{"name": "keras_arch contributors"}]
    assert citation["license"] == "Apache-2.0"
    assert citation["version"] == version()


def test_the_notebook_opens_in_colab():
    link = "https://colab.research.google.com/github/keras-arch/keras_arch/blob/main/"
    for name in ("README.md", "examples/quickstart.ipynb"):
        assert f"({link}examples/quickstart.ipynb)" in (ROOT / name).read_text()


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_an_issue_form_has_the_required_fields(path):
    """Fields: docs.github.com, "Syntax for issue forms"."""
    form = load(path)
    assert {"name", "description", "body"} <= set(form)
    identifiers = [field["id"] for field in form["body"]]
    assert len(set(identifiers)) == len(identifiers)
    for field in form["body"]:
        assert field["type"] in {"checkboxes", "dropdown", "input", "markdown", "textarea"}
        assert field["attributes"]["label"]


def test_there_are_forms_for_bugs_and_features():
    assert [path.name for path in FORMS] == ["bug_report.yml", "feature_request.yml"]
    labels = {field["attributes"]["label"] for field in load(FORMS[0])["body"]}
    assert labels >= {"What happened?", "Command or code", "Complete output", "run.json"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_steps_and_time_limits(path):
    workflow = load(path)
    assert True in workflow  # the key `on`, which is a boolean in YAML 1.1
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])


def test_only_the_job_that_publishes_can_identify_itself():
    workflow = load(ROOT / ".github/workflows/release.yml")
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    assert workflow["permissions"] == {}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert build["permissions"] == {"contents": "read"}
    assert publish["permissions"] == {"id-token": "write"}
    assert publish["environment"] == "pypi"
    assert publish["needs"] == "build"
    assert all("run" not in step for step in publish["steps"])
