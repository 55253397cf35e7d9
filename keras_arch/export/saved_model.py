"""A SavedModel for servers: pixels or encoded pictures in, probabilities and class names out."""

import tensorflow as tf

from ..files import plain_path
from ..images.decode import decode_image
from ..images.resize import resize


class Classifier(tf.Module):
    """A trained model with its labels, as TensorFlow saves it: nothing of Keras or of this package is in there.

    Called with images (batch, height, width, channels) of 0-255 as uint8 or float32, it gives a dict of
    `probabilities` (batch, classes) and `classes`, the name of the most probable one (batch,).
    """

    def __init__(self, model, labels_file, class_names):
        super().__init__(name="classifier")  # any other name must be an identifier
        self.weights = [weight.value for weight in model.variables]  # what the saved functions read
        self.labels_file = tf.saved_model.Asset(str(labels_file))
        self._shape = model.input_shape[1:]

        def classify(image):
            probabilities = model(tf.cast(image, tf.float32), training=False)
            best = tf.argmax(probabilities, axis=-1)
            return {
                "probabilities": probabilities,
                "classes": tf.gather(tf.constant(class_names), best),
            }

        self._classify = tf.function(classify)

    @tf.function
    def __call__(self, image):
        return self._classify(image)

    @tf.function
    def serve_bytes(self, image):
        """Encoded JPEG or PNG pictures (batch,) of any size, brought to the model's by the rule of the data stage."""

        def read(content):
            return resize(decode_image(content), self._shape)

        return self._classify(
            tf.map_fn(read, image, fn_output_signature=tf.TensorSpec(self._shape, tf.uint8))
        )


def write_saved_model(model, folder, labels_file, class_names):
    """Write `model` with three signatures, all of one input `image` and the outputs `probabilities` and `classes`.

    Args:
        model: a `keras.Model` from raw images (batch, height, width, channels) to probabilities.
        folder: path to write; it gets the file of labels as an asset.
        labels_file: one class name a line.
        class_names: the same, in the order of the model's outputs.

    A signature has one number type: `serving_default` takes float32 (and whole numbers, where they come as JSON),
    `serve_uint8` uint8, `serve_bytes` encoded pictures. The loaded object itself, called with images, takes both types.
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
