"""A .keras file with code is refused. A SavedModel can run code, as documented."""

import json
import re
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_arch
from keras_arch.models import load_keras


def classifier(layer):
    image = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(layer(image))
    return keras.Model(image, keras.layers.Dense(2, activation="softmax")(x))


def write_lambda(path, mark):
    """Write a Lambda layer, Python code in the file."""
    name = str(mark)
    classifier(keras.layers.Lambda(lambda x: (open(name, "w").close(), x)[1])).save(path)
    mark.unlink(missing_ok=True)  # Keras calls it when it builds the model


def write_activation(path, mark):
    """Write a function of another module as activation."""
    change_layer(
        path,
        activation={
            "module": "os",
            "class_name": "function",
            "config": "mkdir",
            "registered_name": "mkdir",
        },
    )


def write_class(path, mark):
    """Write a class of another module as layer."""
    change_layer(
        path,
        module="subprocess",
        class_name="Popen",
        registered_name="Popen",
        config={"args": ["touch", str(mark)]},
    )


def write_graph(path, mark):
    """Write a SavedModel in another directory as layer."""
    config = {
        "filepath": str(mark),
        "call_endpoint": "serve",
        "name": "other",
        "trainable": True,
        "dtype": "float32",
    }
    change_layer(
        path, module="keras.layers", class_name="TFSMLayer", registered_name=None, config=config
    )


def change_layer(path, activation=None, **changes):
    """Write a model, then change its Activation layer in config.json."""
    classifier(keras.layers.Activation("relu")).save(path)
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(contents["config.json"])
    (layer,) = (
        layer for layer in config["config"]["layers"] if layer["class_name"] == "Activation"
    )
    layer.update(changes)
    if activation:
        layer["config"]["activation"] = activation
    contents["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)


HOSTILE = {
    write_lambda: "can run arbitrary code.*Received: a `Lambda` layer",
    write_activation: "needs the function 'mkdir', which Keras does not know",
    write_class: "needs the class 'Popen', which Keras does not know",
    write_graph: "can run arbitrary code.*Received: a `TFSMLayer` layer",
}


@pytest.mark.parametrize("write", HOSTILE)
def test_a_keras_file_with_code_is_refused(write, tmp_path):
    path, mark = tmp_path / "model.keras", tmp_path / "mark"
    write(path, mark)
    ours = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=2)
    for use in (
        keras_arch.open_artifact,
        load_keras,
        lambda path: keras_arch.transfer_weights(ours, path, "resnet8"),
    ):
        with pytest.raises(keras_arch.InputError, match=HOSTILE[write]) as refused:
            use(path)
        assert len(str(refused.value)) - len(str(path)) < 300
        assert "\n" not in str(refused.value)
    assert not mark.exists()


def test_scripts_refuse_code_with_one_line(tmp_path, script, capfd):
    write_lambda(tmp_path / "model.keras", tmp_path / "mark")
    assert script("predict.py", tmp_path / "model.keras", "examples/digit.png") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert re.match("error: .*`Lambda` layer", line)
    assert not (tmp_path / "mark").exists()


def test_a_saved_model_runs_what_it_holds_as_documented(tmp_path):
    """A graph writes a file when the model runs."""

    class Writer(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 1), name="image")])
        def serve(self, image):
            tf.io.write_file(str(tmp_path / "mark"), "written by the graph")
            return {"probabilities": tf.ones((tf.shape(image)[0], 2)) / 2}

    module = Writer()
    tf.saved_model.save(
        module, str(tmp_path / "model"), signatures={"serving_default": module.serve}
    )
    keras_arch.open_artifact(tmp_path / "model").predict(np.zeros((1, 8, 8, 1)))
    assert (tmp_path / "mark").read_text() == "written by the graph"
    assert "people whom you trust" in " ".join(keras_arch.open_artifact.__doc__.split())
