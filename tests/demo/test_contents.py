"""What a page contains: only files that passed verification, and Python's predictions."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from demo_files import CONTENT, make_report, write_export

import keras_arch
from keras_arch.artifacts.artifact import Artifact
from keras_arch.demo import contents
from keras_arch.demo.contents import (
    Samples,
    choose_formats,
    find_export,
    find_run,
    open_demo,
    read_export,
    read_file,
)
from keras_arch.published import DEMO

MB = 1_000_000


# --- which files ---


@pytest.mark.parametrize(
    ("sizes", "chosen"),
    [
        ({"int8": MB, "float32": 4 * MB, "dynamic": 3 * MB}, ["float32", "int8", "dynamic"]),
        ({"int16x8": MB, "int8": MB}, ["int16x8", "int8"]),
        ({"float32": 100 * MB}, ["float32"]),
        ({"int8": 9 * MB}, ["int8"]),
    ],
)
def test_files_that_fit_and_a_single_file_are_chosen_without_a_warning(sizes, chosen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_formats(make_report(sizes.items())) == chosen


@pytest.mark.parametrize(
    ("sizes", "chosen", "received"),
    [
        ({"float32": 7 * MB, "int8": MB + 1}, "int8", "8.0 MB in 2 files"),
        ({"float32": 102 * MB, "dynamic": 25 * MB, "int8": 26 * MB}, "int8", "153.0 MB in 3 files"),
        ({"float32": 102 * MB, "float16": 51 * MB}, "float16", "153.0 MB in 2 files"),
    ],
)
def test_of_files_above_the_budget_one_is_chosen_and_named(sizes, chosen, received):
    with pytest.warns(keras_arch.DataWarning) as issued:
        assert choose_formats(make_report(sizes.items())) == [chosen]
    (warning,) = issued
    assert str(warning.message) == (
        f"The page contains model_{chosen}.tflite only. Received: {received}, more than 8 MB. "
        "The page opens the others from disk."
    )


# --- the export directory ---


def test_the_export_of_a_run_and_an_export_directory_are_found(tmp_path):
    write_export(tmp_path / "export")
    assert find_export(tmp_path) == find_export(tmp_path / "export") == tmp_path / "export"
    assert find_run(tmp_path / "export") is None
    (tmp_path / "run.json").touch()
    assert find_run(tmp_path / "export") == tmp_path
    write_export(tmp_path / "model_export")  # of RUN/model.keras
    assert find_run(tmp_path / "model_export") is None


def test_the_run_of_the_current_directory_is_found(tmp_path, monkeypatch):
    write_export(tmp_path / "export")
    (tmp_path / "run.json").touch()
    monkeypatch.chdir(tmp_path / "export")
    assert find_run(find_export(Path())) == tmp_path


@pytest.mark.parametrize(
    ("name", "received"),
    [("missing", "no such directory"), ("file", "a file"), ("empty", "no export.json in it")],
)
def test_a_path_without_an_export_is_refused(name, received, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(keras_arch.InputError, match=f"Received: {received}. Run keras-arch export"):
        find_export(tmp_path / name)


def test_refused_formats_and_other_kinds_of_files_are_ignored(tmp_path):
    report = make_report()
    row = report["artifacts"]["int8"]
    refused = {**row, "file": "model_int16x8.tflite", "bytes": None, "refused": "no kernel"}
    rows = {"saved_model": {**row, "file": "saved_model"}, "int16x8": refused, "int8": row}
    write_export(tmp_path, artifacts=rows)
    assert choose_formats(read_export(tmp_path)) == ["int8"]


ROW = make_report()["artifacts"]["int8"]


def with_row(**changes):
    return {"artifacts": {"int8": {**ROW, **changes}}}


@pytest.mark.parametrize(
    ("fields", "received"),
    [
        (with_row(problems=["accuracy: 10%"]), "model_int8.tflite failed verification"),
        (with_row(bytes=5), "model_int8.tflite is missing or has another size"),
        (with_row(file="model.tflite"), "model.tflite is missing"),
        (with_row(file="saved_model"), "none. Export"),
        (with_row(refused="no kernel", bytes=None), "none. Export"),
        ({"artifacts": {}}, "none. Export"),
    ],
)
def test_files_that_did_not_pass_or_have_changed_are_refused(fields, received, tmp_path):
    write_export(tmp_path, **fields)
    with pytest.raises(keras_arch.InputError, match=r"files that passed verification") as refused:
        read_export(tmp_path)
    assert f"Received: {received}" in str(refused.value)


def test_a_file_that_was_removed_is_refused(tmp_path):
    write_export(tmp_path)
    (tmp_path / "model_int8.tflite").unlink()
    with pytest.raises(keras_arch.InputError, match=r"model_int8\.tflite is missing"):
        read_export(tmp_path)


GOOD = json.dumps(make_report())
DAMAGED = {
    "empty": b"",
    "cut": GOOD[:-20].encode(),
    "no UTF-8": GOOD.encode("utf-16"),
    "nested": b"[" * 100_000,
    "list": b"[]",
    "null": b"null",
    "text": b'"artifacts"',
    **{
        f"{field} is {value}": json.dumps({**make_report(), field: value}).encode()
        for field in make_report()
        for value in (5, [[]], [5], {"int8": 5}, {"int8": {}})
        if (field, value) != ("image_size", [5])  # `load_dataset` refuses it
    },
    **{
        f"no {field}": json.dumps({**make_report(), field: None}).replace("null", "{}").encode()
        for field in ("model", "image_size", "verification")
    },
    **{
        f"{field} of a file is {value}": json.dumps(make_report(**with_row(**{field: value})))
        for field in ROW
        for value in (5.5, {}, [5])
    },
    "another split": json.dumps(make_report(split="__class__")),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_export_json_is_refused(name, tmp_path):
    write_export(tmp_path)
    content = DAMAGED[name]
    (tmp_path / "export.json").write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )
    with pytest.raises(keras_arch.InputError) as refused:
        read_export(tmp_path)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path}/export.json is damaged or from another version. ")
    assert message.endswith("Export the model again.")


# --- Python's predictions ---


def test_the_predictions_of_the_packaged_model_are_those_of_its_file():
    page = open_demo()
    (file,) = page.files
    assert (file.name, file.content) == (DEMO.name, DEMO.read_bytes())
    assert (page.classes, len(page.samples.pixels), page.samples.ground) == (10, 12, None)
    artifact = keras_arch.open_artifact("demo")
    probabilities = artifact.predict(page.samples.pixels)
    assert len(file.answers) == len(probabilities)
    for answers, row in zip(file.answers, probabilities, strict=True):
        assert [probability for _, probability in answers] == sorted(row.tolist())[:-6:-1]
        assert all(row[label] == probability for label, probability in answers)
    right = [
        artifact.class_names[answers[0][0]] == name
        for answers, name in zip(file.answers, page.samples.class_names, strict=True)
    ]
    assert sum(right) >= 10


def fake_artifact(monkeypatch, folder, rows, channels=3):
    """Let contents.py open a file that predicts `rows`. Return the list of images it receives."""
    seen = []
    path = folder / "model_dynamic.tflite"
    path.write_bytes(CONTENT)

    def predict(images):
        seen.append(images)
        return np.array(rows, "float32")

    artifact = Artifact(path, "tflite", (2, 2, channels), len(rows[0]), 1, predict)
    monkeypatch.setattr(contents, "open_artifact", lambda path: artifact)
    return seen


def test_ties_go_to_the_first_class_and_grayscale_images_become_color(tmp_path, monkeypatch):
    row = [0, 0.25, 0, 0.25, 0.5, 0, 0]
    seen = fake_artifact(monkeypatch, tmp_path, [row])
    pixels = np.array([[[[1], [2]], [[3], [4]]]], "uint8")
    file = read_file(tmp_path / "model_dynamic.tflite", Samples(pixels, ["a"]), 0.05)
    assert file.answers == [[(4, 0.5), (1, 0.25), (3, 0.25), (0, 0.0), (2, 0.0)]]
    assert file.limit == 0.05
    np.testing.assert_array_equal(seen[0], np.concatenate([pixels] * 3, axis=3))


def test_a_model_of_two_classes_has_two_answers(tmp_path, monkeypatch):
    fake_artifact(monkeypatch, tmp_path, [[0.25, 0.75]])
    file = read_file(
        tmp_path / "model_dynamic.tflite", Samples(np.zeros((1, 2, 2, 3), "uint8"), ["a"]), 1e-4
    )
    assert (file.answers, file.limit) == ([[(1, 0.75), (0, 0.25)]], 1e-4)


def test_color_images_for_a_grayscale_model_are_left_to_its_own_error(tmp_path, monkeypatch):
    """`open_artifact(...).predict` raises InputError for images of another shape."""
    seen = fake_artifact(monkeypatch, tmp_path, [[1.0, 0.0]], channels=1)
    read_file(
        tmp_path / "model_dynamic.tflite", Samples(np.zeros((1, 2, 2, 3), "uint8"), ["a"]), 1e-4
    )
    assert seen[0].shape == (1, 2, 2, 3)
