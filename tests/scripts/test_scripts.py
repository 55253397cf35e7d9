"""The scripts: train, export, evaluate, predict and compare; user errors are one line."""

import csv
import dataclasses
import json
import re
import shutil
import zipfile

import keras
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import keras_arch
from keras_arch.reports.html import add_export

DIGIT = ROOT / "examples" / "digit.png"  # a seven of the test split


def artifacts(run):
    return [
        run / "model.keras",
        run / "export/saved_model",
        run / "export/model_float32.tflite",
        run / "export/model_int8.tflite",
    ]


def test_all_files_of_an_export_have_the_accuracy_of_the_keras_model(
    quickstart, script, tmp_path, capfd
):
    assert script("evaluate.py", *artifacts(quickstart), "--output", tmp_path / "evaluation") == 0
    printed = capfd.readouterr().out
    assert "digits, test split, 360 images" in printed
    keras_file, saved_model, float32, int8 = rows = json.loads(
        (tmp_path / "evaluation/metrics.json").read_text()
    )["artifacts"]
    assert all(row["metrics"]["top1"] >= 0.98 for row in rows)
    assert saved_model["agreement"] == float32["agreement"] == 1
    assert abs(int8["metrics"]["top1"] - float32["metrics"]["top1"]) <= 0.005
    assert int8["bytes"] < 0.4 * float32["bytes"]
    assert (
        json.loads((quickstart / "run.json").read_text())["metrics"]["test"]["top1"]
        == keras_file["metrics"]["top1"]
    )


def test_run_directory_has_all_files_and_the_best_checkpoint(quickstart, digits):
    files = {path.name for path in quickstart.iterdir()} - {"export"}
    assert files == {
        "model.keras",
        "run.json",
        "history.csv",
        "labels.txt",
        "curves.png",
        "report.html",
    }
    assert (quickstart / "labels.txt").read_text().split() == list("0123456789")
    run = json.loads((quickstart / "run.json").read_text())
    recipe = dataclasses.asdict(keras_arch.RECIPES["quickstart"])
    assert run["recipe"] == json.loads(json.dumps(recipe))  # tuples become lists
    with (quickstart / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, run["recipe"]["epochs"] + 1))
    best = max(rows, key=lambda row: (float(row["val_accuracy"]), -float(row["val_loss"])))
    assert int(best["epoch"]) == run["metrics"]["best_epoch"]
    # Keras evaluates the checkpoint to the numbers of the best epoch.
    model = keras.models.load_model(quickstart / "model.keras")
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    loss, accuracy = model.evaluate(digits.validation.examples.batch(144), verbose=0)
    assert run["metrics"]["validation"]["top1"] == pytest.approx(accuracy)
    # Validation during training uses the training precision, which may be bfloat16.
    tolerance = 1e-3 if run["precision"] == "float32" else 0.1
    assert loss == pytest.approx(float(best["val_loss"]), rel=tolerance)


def test_report_has_the_results_of_the_run_and_the_latest_export(quickstart, tmp_path):
    page = (quickstart / "report.html").read_text()
    run = json.loads((quickstart / "run.json").read_text())
    for text in (
        f"{run['metrics']['test']['top1']:.2%}",
        "75,002",
        "747,136",
        run["versions"]["keras"],
    ):
        assert text in page
    assert page.count("data:image/png;base64,") in (3, 4)  # 3 if there are no errors to show
    assert not re.findall(r"(?:src|href)=.(?!data:)", page)
    assert page.count("<h2>Exported files</h2>") == 1
    shutil.copy(quickstart / "report.html", tmp_path)
    report = json.loads((quickstart / "export/export.json").read_text())
    report["artifacts"]["float32"]["bytes"] = 10**6
    add_export(tmp_path, report)
    again = (tmp_path / "report.html").read_text()
    assert again.count("<h2>Exported files</h2>") == 1
    assert "<td>1.00 MB</td>" in again


def test_model_file_needs_neither_keras_arch_nor_an_optimizer(quickstart):
    with zipfile.ZipFile(quickstart / "model.keras") as archive:
        config = archive.read("config.json").decode()
    assert "keras_arch" not in config
    assert not json.loads(config)["compile_config"]  # it would hold the optimizer


@pytest.mark.parametrize("which", range(4))
def test_predict_classifies_a_digit(quickstart, script, which, capfd):
    assert script("predict.py", artifacts(quickstart)[which], DIGIT, "--top", "2") == 0
    output = capfd.readouterr()
    name, first, _ = output.out.replace(": ", ", ").strip().split(", ")
    assert name == str(DIGIT)
    label, probability = first.split()
    assert label == "7"
    assert float(probability.removesuffix("%")) > 90
    assert output.err == ""


def test_predict_reads_all_color_modes_and_names(quickstart, script, tmp_path, capfd):
    """The same digit with transparency, a palette or grayscale, and names with spaces."""
    images = [tmp_path / "an image.png", tmp_path / "ziffer ß.gif", tmp_path / "gray.bmp"]
    for path, mode in zip(images, ("RGBA", "P", "L"), strict=True):
        Image.open(DIGIT).convert(mode).save(path)
    assert script("predict.py", quickstart / "export/model_float32.tflite", *images) == 0
    assert [line.split(": ")[1][0] for line in capfd.readouterr().out.splitlines()] == [
        "7",
        "7",
        "7",
    ]


def test_images_are_center_cropped_and_rotated_upright(tmp_path):
    from keras_arch.images.read import read_image

    pixels = np.zeros((20, 60, 3), "uint8")
    pixels[:, 15:45] = 250, 100, 50
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    image = read_image(tmp_path / "wide.png", (10, 10, 3))
    assert image.dtype == np.uint8
    # The crop removes the black ends.
    np.testing.assert_array_equal(image, np.broadcast_to([250, 100, 50], (10, 10, 3)))
    deep = np.full((4, 4), 0xCF12, "uint16")
    Image.fromarray(deep).save(tmp_path / "16 bit.png")
    np.testing.assert_array_equal(read_image(tmp_path / "16 bit.png", (4, 4, 1)), 0xCF)
    rotated = Image.fromarray(pixels)
    exif = rotated.getexif()
    exif[0x0112] = 6  # EXIF orientation: rotate by 90 degrees clockwise
    rotated.save(tmp_path / "rotated.png", exif=exif)
    assert read_image(tmp_path / "rotated.png", (None, None, 1)).shape == (60, 20, 1)


def test_cost_prints_layers_of_one_model_or_totals_of_several(script, capfd):
    assert script("cost.py", "resnet50", "--by-stage") == 0
    printed = capfd.readouterr().out
    assert re.search(r"stage4 .* 7x7x2048 .* 14,964,736 .* 809,238,528", printed)
    assert re.search(r"total .* 4,089,184,256", printed)
    assert script("cost.py", "resnet20", "plain20", "--image-size", "28") == 0
    rows = [line for line in capfd.readouterr().out.splitlines() if "20 " in line]
    assert len(rows) == 2
    assert script("cost.py", "nin", "--sort", "multiply_adds") == 0
    assert re.search(r"(?s)activations.*?mlpconv2_conv .*?mlpconv3_conv", capfd.readouterr().out)


def test_compare_prints_a_table_and_draws_curves(quickstart, script, tmp_path, capfd):
    other = tmp_path / "other"
    shutil.copytree(quickstart, other)
    assert script("compare.py", quickstart, other, "--output", tmp_path / "both.png") == 0
    printed = capfd.readouterr().out
    for title in ("parameters .* 75,002 .* 75,002", "epochs .* 30 .* 30", "test .*%", "size .* MB"):
        assert re.search(title, printed)
    with Image.open(tmp_path / "both.png") as figure:
        assert figure.size == (1080, 420)


# --- user errors: (command, regular expression that the message must match) ---

MISTAKES = [
    ("evaluate.py", "at least one model"),
    ("predict.py RUN/model.keras", "at least one image"),
    ("train.py --epochs 3", "a recipe or a run directory as the first word"),
    ("train.py digits --seed -1", "`seed` must be an integer from 0 to 4294967295"),
    ("train.py digits --output RUN/labels.txt/here", "cannot be written"),
    ("export.py RUN/model.keras", "--calibration is required .* or pass a run directory"),
    ("train.py nothing", "keras-arch train --help lists the recipes"),
    ("train.py quikstart", "Did you mean quickstart"),
    ("train.py quickstart --epoch 3", "--epochs"),
    ("train.py quickstart --epochs three", "three"),
    ("train.py quickstart --epochs 0", "`epochs` must be an integer from 1"),
    ("train.py quickstart --optimizer adam", "adamw"),
    (
        "train.py quickstart --batch-size 1294",
        "at most 1293, the number of training images.* Received: batch_size=1294",
    ),
    ("train.py quickstart --model resnet9", "Did you mean .*resnet8"),
    ("train.py quickstart --model resnet18", "at least 32x32 pixels"),
    ("train.py quickstart --dataset fashion_mnst", "Did you mean fashion_mnist"),
    ("train.py quickstart --output RUN", "--overwrite"),
    (
        "train.py quickstart --output EMPTY --overwrite",
        "broken.* has no run.json, so it is not replaced",
    ),
    (
        "train.py cifar10-resnet20 --data-dir NOWHERE",
        "cannot be downloaded. Received: .*--data-dir",
    ),
    (
        "export.py EMPTY/seven",
        "one name for each class of the model. Received: 10 names for 7 classes",
    ),
    (
        "export.py EMPTY/corrupt",
        "run.json is damaged or from another version: `data_dir` is missing",
    ),
    ("evaluate.py RUN/model.keras --output RUN/run.json", "must be a directory"),
    ("predict.py RUN/model.keras RUN/curves.png --top 0", "`top` must be an integer from 1"),
    ("evaluate.py EMPTY/cut_variables --dataset digits", "is not a valid SavedModel directory"),
    ("export.py", "MODEL"),
    ("export.py RUN --formats int9", "int8"),
    ("export.py EMPTY/renamed", "was trained on other data. .*class 0 is '0' instead of 'zero'"),
    ("export.py EMPTY/unfinished", "is not a finished run"),
    ("export.py RUN --seed -1", "`seed` must be an integer from 0"),
    ("export.py RUN --height 0 --width 0", "`height` must be an integer from 1"),
    ("export.py RUN --height 9", "`height` and `width` must be given together"),
    ("export.py RUN --keep-float stem --formats float32", "`keep_float` requires the format int8"),
    (
        "export.py RUN --formats int8 --keep-float stage1_block1_conv3",
        "Did you mean stage1_block1_conv",
    ),
    ("compare.py RUN", "Pass two or more run directories"),
    ("compare.py RUN EMPTY", "has no run.json"),
    ("compare.py RUN RUN --output here.pdf", "--output must be a .png file"),
    ("compare.py RUN RUN", "Pass different run directories"),
    ("cost.py", "At least one MODEL"),
    ("cost.py resnet51", "Did you mean .*resnet50"),
    ("cost.py resnet50 --image-size 31", "at least 32x32 pixels"),
    ("export.py EMPTY", "has no run.json"),
    (
        "evaluate.py RUN/labels.txt",
        "is not a model.*a .keras file, a SavedModel directory, a .tflite file or an .onnx file",
    ),
    ("evaluate.py RUN/nothing.keras", "does not exist"),
    ("evaluate.py EMPTY/cut.keras --dataset digits", "cut.keras is damaged"),
    ("evaluate.py EMPTY/cut.tflite --dataset digits", "is not a valid .tflite file"),
    ("evaluate.py EMPTY/cut_model --dataset digits", "is not a valid SavedModel directory"),
    (
        "evaluate.py EMPTY/seven.keras --dataset digits",
        "must have 10 classes, as data set 'digits' has. Received: 7 classes",
    ),
    ("evaluate.py EMPTY/seven.keras", "Pass --dataset"),
    ("evaluate.py RUN/model.keras --split every", "validation"),
    ("predict.py RUN/model.keras RUN/labels.txt", "cannot be decoded as an image"),
    ("predict.py RUN/model.keras EMPTY/cut.png", "cannot be decoded as an image"),
    ("predict.py RUN/model.keras nothing.png", "does not exist"),
    ("predict.py RUN/model.keras EMPTY/cut_model", "cut_model has no images"),
    (
        "predict.py RUN/export/model_int8.tflite RUN/curves.png --explain why",
        "--explain needs the gradients of a .keras file",
    ),
]


@pytest.fixture(scope="module")
def broken(quickstart, tmp_path_factory):
    """A directory of damaged files and of runs that do not fit together."""
    folder = tmp_path_factory.mktemp("broken")
    for source, target in [
        (quickstart / "model.keras", "cut.keras"),
        (quickstart / "export/model_float32.tflite", "cut.tflite"),
        (DIGIT, "cut.png"),
    ]:
        content = source.read_bytes()
        (folder / target).write_bytes(content[: len(content) // 2])
    (folder / "cut_model").mkdir()
    (folder / "cut_model" / "saved_model.pb").write_bytes(
        (quickstart / "export/saved_model/saved_model.pb").read_bytes()[:999]
    )
    keras_arch.ResNet8(input_shape=(8, 8, 1), classes=7).save(folder / "seven.keras")
    for name in ("seven", "corrupt"):
        (folder / name).mkdir()
        shutil.copy(folder / "seven.keras", folder / name / "model.keras")
    for name in ("run.json", "labels.txt"):
        shutil.copy(quickstart / name, folder / "seven")
    for name in ("renamed", "unfinished"):
        shutil.copytree(quickstart, folder / name, ignore=shutil.ignore_patterns("export"))
    (folder / "renamed/labels.txt").write_text("\n".join(["zero", *"123456789"]) + "\n")
    run = json.loads((quickstart / "run.json").read_text())
    del run["metrics"]
    (folder / "unfinished/run.json").write_text(json.dumps(run))
    (folder / "corrupt" / "run.json").write_text('{"recipe": {"modle": "resnet8"}}')
    shutil.copytree(quickstart / "export/saved_model", folder / "cut_variables")
    variables = folder / "cut_variables/variables/variables.data-00000-of-00001"
    variables.write_bytes(variables.read_bytes()[:999])
    return folder


def contents(*folders):
    return {
        path: path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(("typed", "message"), MISTAKES, ids=[typed for typed, _ in MISTAKES])
def test_a_user_error_is_one_line_and_changes_no_file(
    typed,
    message,
    quickstart,
    broken,
    script,
    tmp_path,
    tmp_path_factory,
    data_dir,
    capfd,
    monkeypatch,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    before = contents(quickstart, broken)
    places = {"RUN": quickstart, "EMPTY": broken, "NOWHERE": tmp_path_factory.mktemp("nowhere")}
    words = [
        re.sub("RUN|EMPTY|NOWHERE", lambda place: str(places[place[0]]), word)
        for word in typed.split()
    ]
    assert script(*words) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert re.search(message, lines[0]), lines[0]
    assert list(tmp_path.iterdir()) == []
    assert contents(quickstart, broken) == before


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    "name", ["model.keras", "export/model_float32.tflite", "export/model_int8.tflite"]
)
def test_truncated_files_are_refused(quickstart, tmp_path, name, share):
    content = (quickstart / name).read_bytes()
    cut = tmp_path / (quickstart / name).name
    cut.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(keras_arch.InputError, match=r"is not a (valid|complete)|is damaged"):
        keras_arch.open_artifact(cut)


def test_int8_files_take_pixels_and_return_steps_of_1_256(quickstart):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(quickstart / "export/model_int8.tflite"))
    interpreter.allocate_tensors()
    (image,), (probabilities,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert (image["dtype"], image["quantization"]) == (np.uint8, (1.0, 0))
    assert (probabilities["dtype"], probabilities["quantization"]) == (np.uint8, (1 / 256, 0))
