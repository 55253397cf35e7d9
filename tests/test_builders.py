"""The builder of a recipe: --model FILE.py:function and --model-options."""

import dataclasses
import json

import keras
import pytest

import keras_arch
from keras_arch.builders import builder_of
from keras_arch.recipes import Recipe
from keras_arch.runs.folder import default_folder, model_name, resolve_paths
from keras_arch.runs.record import find_recipe

RECIPE = Recipe("resnet8", "digits", epochs=1, learning_rate=0.1, batch_size=32)
NET = """
import keras

def tiny(input_shape, classes, filters=4, pool=True):
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(filters, 3, activation="relu", name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(classes, "softmax", name="predictions")(x))

def logits(input_shape, classes):
    image = keras.Input(input_shape)
    return keras.Model(image, keras.layers.Dense(classes)(keras.layers.Flatten()(image)))

def five_classes(input_shape, classes):
    return tiny(input_shape, 5)

def other_size(input_shape, classes):
    return tiny((9, 9, 1), classes)

def text(input_shape, classes):
    return "a model"

def fails(input_shape, classes, depth=3):
    return 1 / (depth - 3)

def without_classes(input_shape):
    return None

def needs_depth(input_shape, classes, depth):
    return tiny(input_shape, classes, filters=depth)
"""


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.py"
    path.write_text(NET)
    return path


def recipe_of(model="resnet8", **changes):
    return dataclasses.replace(RECIPE, model=str(model), **changes)


# --- --model-options ---


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("resnet8", ("variant=d",), {"variant": "d"}),
        ("resnet8", ("zero_init_residual=true",), {"zero_init_residual": True}),
        ("resnet8", ("squeeze_excitation_ratio=0.25",), {"squeeze_excitation_ratio": 0.25}),
        (
            "resnet8",
            ("stochastic_depth_rate=0.2", "shortcut=projection"),
            {"stochastic_depth_rate": 0.2, "shortcut": "projection"},
        ),
        ("nin", ("mean=[0.5]", "std=0.25,"), {"mean": [0.5], "std": (0.25,)}),
    ],
)
def test_model_options_are_arguments_of_the_builder(model, options, expected):
    found = builder_of(recipe_of(model, model_options=options))(input_shape=(8, 8, 1), classes=3)
    wanted = keras_arch.build(model, input_shape=(8, 8, 1), classes=3, **expected)
    # Keras numbers the names of unnamed layers, so only the types and settings are compared.
    assert summary_of(found) == summary_of(wanted)
    assert summary_of(found) != summary_of(
        keras_arch.build(model, input_shape=(8, 8, 1), classes=3)
    )


def summary_of(model):
    """Return type, settings and initializers of all layers."""
    return [(type(layer).__name__, {**layer.get_config(), "name": None}) for layer in model.layers]


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ("a=true", True),
        ("a=False", False),
        ("a=none", None),
        ("a=3", 3),
        ("a=-0.5", -0.5),
        ("a=1e-3", 1e-3),
        ("a=0.1,0.2", (0.1, 0.2)),
        ("a='3'", "3"),
        ("a=b=c", "b=c"),
        ("a=__import__('os')", "__import__('os')"),
        ("a=[1", "[1"),
    ],
)
def test_values_of_model_options_are_parsed(options, value):
    found = recipe_of(model_options=(options,)).builder_options["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("variant",), "`model_options` must be pairs of the form NAME=VALUE.*variant"),
        (("=d",), "`model_options` must be pairs"),
        (("variant=",), "`model_options` must be pairs"),
        (("a=1", "a=2"), "`model_options` must have each name once"),
        (("stem=deep",), "must not set `stem`.*Pass --stem"),
        (("kernel_5x5=3",), "must not set `kernel_5x5`.*Pass --kernel-5x5"),
        (("auxiliary_heads=true",), "must not set `auxiliary_heads`.*Pass --auxiliary-heads"),
        (("width=2",), "must not set `width`.*Pass --width"),
        (("weights=imagenet",), "must not set `weights`.*Pass --weights"),
        (("input_shape=8",), "must not set `input_shape`.*--image-size"),
        (("classes=8",), "must not set `classes`"),
        (("classifier_activation=none",), "must not set `classifier_activation`.*probabilities"),
    ],
)
def test_invalid_model_options_raise(options, message):
    with pytest.raises(keras_arch.InputError, match=message) as refused:
        recipe_of(model_options=options)
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model-options varaint=d", "Received: 'varaint'. Did you mean variant?"),
        ("--model googlenet --model-options variant=d", "an option of googlenet"),
        (
            "--model-options nope=1",
            "option of resnet8. Received: 'nope'. Use one of pooling, name, sho",
        ),
        ("--model NET:logits --model-options nope=1", "Received: 'nope'. It has no options."),
        ("--model-options width=2", "Pass --width"),
        ("--model NET:tiny --model-options filter=2", "Did you mean filters?"),
        ("--model NET:tiny --stem cifar", "Expected an option of net.py:tiny. Received: 'stem'"),
        ("--model NET", "Expected FILE.py:function"),
        ("--model NET:no-name", "Expected FILE.py:function"),
        ("--model NET:tinny", "Did you mean tiny"),
        ("--model missing.py:tiny", "missing.py must be a Python file"),
        ("--model NET:without_classes", "unexpected keyword argument 'classes'"),
        ("--model NET:needs_depth", "missing a required argument: 'depth'"),
    ],
)
def test_misuse_is_one_line_before_data_are_read(
    words, message, net, script, tmp_path, monkeypatch, capfd
):
    def read(*arguments, **options):
        raise AssertionError("data were read")

    monkeypatch.setattr(keras_arch, "load_dataset", read, raising=False)
    words = words.replace("NET", str(net)).split()
    assert script("train.py", "quickstart", *words, "--output", tmp_path / "run") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert len(line) < 300
    assert {path.name for path in tmp_path.iterdir()} <= {"net.py"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model NET:logits", "must be class probabilities"),
        ("--model NET:five_classes", "Received: a model with 5 classes"),
        ("--model NET:other_size", "Received: a model for (9, 9, 1)"),
        ("--model NET:text", "net.py:text must return a `keras.Model`. Received: str"),
        ("--model NET:fails", "net.py:fails failed in line 25. Received: ZeroDivisionError"),
        ("--model-options variant=z", "`variant` must be one of b, d"),
        ("--model-options stochastic_depth_rate=2", "from 0 to below 1"),
    ],
)
def test_an_unusable_network_is_one_line_before_training(
    words, message, net, script, tmp_path, data_dir, capfd
):
    words = words.replace("NET", str(net)).split()
    common = ("--data-dir", data_dir, "--precision", "float32")
    assert script("train.py", "quickstart", *words, "--output", tmp_path / "run", *common) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert len(line) < 300
    assert [path.name for path in tmp_path.iterdir() if path.name == "run"] == []
    assert not (tmp_path / "run.partial").exists()


def test_options_of_a_function_with_any_arguments_are_not_checked(tmp_path):
    (tmp_path / "net.py").write_text("def free(**options):\n    return options['depth']\n")
    builder = builder_of(recipe_of(f"{tmp_path}/net.py:free", model_options=("depth=3",)))
    with pytest.raises(keras_arch.InputError, match="Received: int"):
        builder(input_shape=(8, 8, 1), classes=2)


# --- --model FILE.py:function ---


def test_a_builder_in_a_file_gets_shape_classes_and_options(net, monkeypatch):
    monkeypatch.chdir(net.parent)
    recipe = resolve_paths(recipe_of("net.py:tiny", model_options=("filters=6",)))
    assert recipe.model == f"{net}:tiny"
    monkeypatch.chdir("/")
    model = builder_of(recipe)(input_shape=(8, 8, 1), classes=10)
    assert model.input_shape == (None, 8, 8, 1)
    assert model.output_shape == (None, 10)
    assert (
        model.count_params() == 130
    )  # 9 * 6 + 6 of the convolution, 6 * 10 + 10 of the classifier


@pytest.mark.slow
def test_a_run_of_a_builder_in_a_file_is_like_any_other(
    net, script, tmp_path, data_dir, capfd, monkeypatch
):
    """Train with a relative path, and evaluate the run."""
    monkeypatch.chdir(tmp_path)
    common = ("--data-dir", data_dir, "--epochs", "1", "--precision", "float32")
    words = ("--model", "net.py:tiny", "--model-options", "filters=6")
    assert script("train.py", "quickstart", *words, *common) == 0
    printed = capfd.readouterr().out
    assert "net.py:tiny (130 trainable parameters) on digits" in printed
    run = tmp_path / "saved_models" / "net-tiny-digits"
    recipe = json.loads((run / "run.json").read_text())["recipe"]
    assert recipe["model"] == f"{net}:tiny"
    assert recipe["model_options"] == ["filters=6"]
    model = keras.models.load_model(run / "model.keras")
    assert model.get_layer("conv").filters == 6
    page = (run / "report.html").read_text()
    assert "<h1>net.py:tiny on digits</h1>" in page
    assert "filters=6" in page
    repeated, _ = find_recipe(str(run))
    assert builder_of(repeated)(input_shape=(8, 8, 1), classes=10).count_params() == 130
    net.unlink()  # the saved model needs no code
    assert script("evaluate.py", run, "--data-dir", data_dir, "--output", tmp_path / "ev") == 0


@pytest.mark.parametrize(
    ("model", "name", "folder"),
    [
        ("resnet8", "resnet8", "saved_models/resnet8-digits"),
        ("/a/b/net.py:tiny", "net.py:tiny", "saved_models/net-tiny-digits"),
        ("net.py:tiny", "net.py:tiny", "saved_models/net-tiny-digits"),
    ],
)
def test_display_name_of_a_model(model, name, folder):
    assert model_name(model) == name
    assert str(default_folder(recipe_of(model))) == folder
