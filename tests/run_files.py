"""Run directories for tests, of models that are not trained with `fit`."""

import dataclasses

import numpy as np


def make_run(folder, digits, model=None):
    """Create a finished run directory of a model, by default of an untrained ResNet-8."""
    import keras_arch
    from keras_arch import files
    from keras_arch.class_names import pack_labels
    from keras_arch.evaluation.evaluate import evaluate_run
    from keras_arch.runs.history import CURVES, write_history
    from keras_arch.runs.record import finish_run, start_run
    from keras_arch.training.precision import Precision

    recipe = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=1)
    folder.mkdir()
    packed = model is not None
    model = model or keras_arch.ResNet8(input_shape=digits.image_shape)
    model.save(folder / "model.keras")
    if packed:
        pack_labels(folder / "model.keras", digits.class_names)
    start_run(folder, recipe, Precision("float32", None), None, digits)
    history = {column: [0.5] for column in (*CURVES, "learning_rate", "seconds")}
    write_history(folder / "history.csv", history)
    metrics, _ = evaluate_run(keras_arch.open_artifact(folder / "model.keras"), digits)
    finish_run(folder, history, metrics, keras_arch.cost(model), files.hash_of(model.get_weights()))


def confident_model(digits):
    """Return softmax regression on digits. Its logits are three times too large."""
    import keras
    from sklearn.linear_model import LogisticRegression

    images = digits.train.images.reshape(-1, 64) / 255
    fitted = LogisticRegression(max_iter=500).fit(images, digits.train.labels)
    image = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(image))
    head = keras.layers.Dense(10, "softmax", name="head")
    model = keras.Model(image, head(x), name="regression")
    head.set_weights([3 * fitted.coef_.T, 3 * np.asarray(fitted.intercept_)])
    return model
