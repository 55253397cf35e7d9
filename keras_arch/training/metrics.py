"""Balanced accuracy as a Keras metric. With class weights it selects the best epoch."""

import keras
from keras import ops


class BalancedAccuracy(keras.metrics.Metric):
    """Mean recall of the classes that have images, as scikit-learn's `balanced_accuracy_score`.

    Counts are accumulated over all batches, so that the result does not depend on the batch size.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes, name="balanced_accuracy"):
        super().__init__(name=name)
        self.classes = classes
        self.images = self.add_variable((classes,), "zeros", name="images")
        self.right = self.add_variable((classes,), "zeros", name="right")

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Count the images and correct predictions of a batch.

        Args:
            y_true: tensor (images, classes), one-hot or soft labels.
            y_pred: tensor (images, classes), probabilities.
            sample_weight: ignored.
        """
        true, predicted = ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1)
        images = ops.one_hot(true, self.classes, dtype="float32")
        right = ops.cast(true == predicted, "float32")[:, None] * images
        self.images.assign_add(ops.sum(images, axis=0))
        self.right.assign_add(ops.sum(right, axis=0))

    def result(self):
        recall = self.right / ops.maximum(self.images, 1)
        present = ops.sum(ops.cast(self.images > 0, "float32"))
        return ops.sum(recall) / ops.maximum(present, 1)
