"""Keras metrics: balanced accuracy, which selects the best epoch, and metrics of padded batches."""

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
            sample_weight: tensor (images,) of the weight of each image. Default: 1.
        """
        true, predicted = ops.argmax(y_true, axis=-1), ops.argmax(y_pred, axis=-1)
        images = ops.one_hot(true, self.classes, dtype="float32")
        if sample_weight is not None:
            images = images * ops.cast(sample_weight, "float32")[:, None]
        right = ops.cast(true == predicted, "float32")[:, None] * images
        self.images.assign_add(ops.sum(images, axis=0))
        self.right.assign_add(ops.sum(right, axis=0))

    def result(self):
        recall = self.right / ops.maximum(self.images, 1)
        present = ops.sum(ops.cast(self.images > 0, "float32"))
        return ops.sum(recall) / ops.maximum(present, 1)


class LabeledOnly(keras.metrics.Metric):
    """Another metric, computed from the images with a label.

    On several devices, images with zero labels fill the last batch of a validation.

    Args:
        metric: `keras.metrics.Metric` of one-hot labels that takes `sample_weight`.
    """

    def __init__(self, metric):
        super().__init__(name=metric.name)
        self.metric = metric

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Update the metric. `sample_weight` is ignored."""
        labeled = ops.cast(ops.any(y_true != 0, axis=-1), "float32")
        self.metric.update_state(y_true, y_pred, sample_weight=labeled)

    def result(self):
        return self.metric.result()

    def reset_state(self):
        self.metric.reset_state()
