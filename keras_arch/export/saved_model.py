"""Write a SavedModel that takes pixels or encoded images and outputs class names as well."""

from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from ..files import plain_path
from ..images.decode import decode_image
from ..images.resize import resize


class Classifier(tf.Module):
    """A trained model and its class names as a TensorFlow module, without Keras.

    It takes images (batch, height, width, channels) of 0-255, uint8 or float32. It returns a dict
    of `probabilities` (batch, classes) and `classes` (batch,), the name of the top class.
    """

    def __init__(self, model, labels_file, class_names):
        super().__init__(name="classifier")  # the model's name may not be an identifier
        self.weights = [weight.value for weight in model.variables]  # the saved functions read them
        self.labels_file = tf.saved_model.Asset(str(labels_file))
        self._shape = model.input_shape[1:]

        def classify(image):
            probabilities = model(image, training=False)
            best = tf.argmax(probabilities, axis=-1)
            return {
                "probabilities": probabilities,
                "classes": tf.gather(tf.constant(class_names), best),
            }

        self._classify = tf.function(classify)

    @tf.function
    def __call__(self, image):
        return self._classify(tf.cast(image, tf.float32))

    @tf.function
    def serve_bytes(self, image):
        """Classify JPEG or PNG files (batch,) of any size, cropped and resized as for training."""

        def read(content):
            return resize(decode_image(content), self._shape)

        images = tf.map_fn(read, image, fn_output_signature=tf.TensorSpec(self._shape, tf.uint8))
        return self(images)


def write_saved_model(
    model: keras.Model, folder: Path, labels_file: Path, class_names: Sequence[str]
) -> None:
    """Write a SavedModel with three signatures.

    Each has the input `image` and the outputs `probabilities` and `classes`:

    - `serving_default` takes float32 pixels. JSON requests may have integers.
    - `serve_uint8` takes uint8 pixels.
    - `serve_bytes` takes encoded images.

    The loaded object can be called with float32 or uint8 images.

    Args:
        model: `keras.Model` from raw images (batch, height, width, channels) to probabilities.
        folder: SavedModel directory to write. labels.txt becomes an asset.
        labels_file: path of labels.txt.
        class_names: names of the classes, in the order of the outputs.
    """
    images = {
        dtype: tf.TensorSpec((None, *model.input_shape[1:]), dtype, name="image")
        for dtype in (tf.float32, tf.uint8)
    }
    encoded = tf.TensorSpec((None,), tf.string, name="image")
    folder.mkdir(exist_ok=True)
    with plain_path(labels_file) as plain_labels, plain_path(folder) as plain:
        classifier = Classifier(model, plain_labels, class_names)
        signatures = {
            "serving_default": classifier.__call__.get_concrete_function(images[tf.float32]),
            "serve_uint8": classifier.__call__.get_concrete_function(images[tf.uint8]),
            "serve_bytes": classifier.serve_bytes.get_concrete_function(encoded),
        }
        tf.saved_model.save(classifier, str(plain), signatures=signatures)
