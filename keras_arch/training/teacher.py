"""Knowledge distillation: a model learns from the probabilities of a trained one, its teacher.

The loss is `(1 - weight) * hard + weight * soft`. The hard loss is that of the labels. The soft loss
is `T**2 * KL(teacher, student)`, where both distributions are those of logits divided by the
temperature T. With `T**2`, the gradients have about the same size for any T.

Keras has `keras.distillation`. Its loss needs logits and takes no weights of images, so class
weights could not be used.

Reference:
    Hinton et al. 2015, Distilling the knowledge in a neural network (arXiv:1503.02531).
"""

from dataclasses import dataclass
from pathlib import Path

import keras
from keras import ops

from ..class_names import read_packed_labels
from ..errors import InputError
from ..files import hash_of
from ..models import check_probabilities, load_keras, plain_model, strip_auxiliary_heads
from ..published import PACKAGED
from ..recipes import check_no_early_size
from ..text import brief, shorten
from .fast_copy import fast_copy

TEMPERATURE = 4.0
WEIGHT = 0.9
# Smaller probabilities count as this one. Their logarithm has gradients that float16 cannot scale.
SMALLEST = 1e-30


@dataclass(frozen=True)
class Teacher:
    """A trained model in a .keras file."""

    path: Path
    model: keras.Model
    class_names: tuple[str, ...] | None
    """Class names in the file, or None. `class_names.check_class_order` also reads labels.txt."""

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.model.outputs[0].shape[-1]

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights."""
        return hash_of(self.model.get_weights())


def open_teacher(source: str) -> Teacher:
    """Open the `teacher` of a recipe.

    Args:
        source: a run directory, a .keras file, or "cifar10_jpeg", which is in this package.

    Raises:
        InputError (a ValueError): the file does not exist, is damaged or is no Keras model.
    """
    path = PACKAGED.get(source, Path(source))
    is_folder = path.is_dir()
    if is_folder:
        path = path / "model.keras"
    if not path.is_file():
        fault = "has no model.keras" if is_folder else "does not exist"
        raise InputError(
            "`teacher` must be a run directory or a .keras file. Received: "
            f"teacher={brief(source)}, which {fault}. Correct the path."
        )
    return Teacher(path, load_keras(path), read_packed_labels(path))


def check_teacher(teacher, model, recipe, dataset):
    """Return the teacher as a model with one output, or None without a teacher.

    Args:
        teacher: `keras.Model`, or None.
        model: the `keras.Model` to train.
        recipe: a `keras_arch.Recipe`.
        dataset: a `keras_arch.Dataset`.

    Raises:
        InputError (a ValueError): the teacher has other classes or another image shape than the
            data, several outputs, or outputs that are not probabilities, or it shares weights with
            the model, or the recipe needs a teacher.
    """
    if teacher is None:
        check_no_teacher(recipe)
        return None
    check_no_early_size(recipe, "teacher")
    if not isinstance(teacher, keras.Model) or not hasattr(teacher, "outputs"):
        raise InputError(
            "`teacher` must be a functional or Sequential `keras.Model`. Received: "
            f'{brief(teacher)}. Pass keras.models.load_model("RUN/model.keras"), for example.'
        )
    if {id(variable) for variable in teacher.variables} & {id(one) for one in model.variables}:
        raise InputError(
            "`teacher` must not share weights with `model`, which training changes. Received: "
            f"{shorten(teacher.name)}. Pass a copy, keras.models.clone_model, with its weights."
        )
    teacher = plain_model(strip_auxiliary_heads(teacher), teacher.name)
    check_shapes(teacher, dataset)
    images, _ = dataset.train.sample(2, recipe.seed)
    check_probabilities(teacher, images, fix="Append a Softmax layer to the teacher.")
    return teacher


def check_no_teacher(recipe):
    """Raise InputError if a recipe needs a teacher, for `fit` without one."""
    if recipe.teacher is not None:
        raise InputError(
            "`fit` needs the model of the recipe's teacher. Received: the path "
            f"{brief(recipe.teacher)} alone. Pass teacher=keras.models.load_model(...) to `fit`."
        )
    for name in ("temperature", "teacher_weight"):
        if (value := getattr(recipe, name)) is not None:
            raise InputError(
                f"`{name}` needs a teacher. Received: {name}={value:g} alone. Pass a `teacher`."
            )


def check_shapes(teacher, dataset):
    """Raise InputError unless a teacher has the classes and the image shape of the data."""
    classes = teacher.outputs[0].shape[-1]
    if classes != len(dataset.class_names):
        raise InputError(
            f"The teacher must have the {len(dataset.class_names)} classes of {dataset.name}. "
            f"Received: {shorten(teacher.name)} with {classes} classes. Pass another teacher."
        )
    shape, wanted = tuple(teacher.inputs[0].shape[1:]), dataset.image_shape
    if len(shape) != len(wanted) or any(
        side not in (None, size) for side, size in zip(shape, wanted, strict=False)
    ):
        raise InputError(
            f"The teacher must take images of shape {wanted}, because both models get the same "
            f"images. Received: {shorten(teacher.name)} for {shape}. Pass another teacher, or the "
            "teacher's --image-size."
        )


def soften(probabilities, temperature):
    """Return the logarithms of probabilities (images, classes) at a temperature.

    `softmax(log(p) / T)` equals `softmax(logits / T)`, because log(p) and the logits of an image
    differ by a constant.
    """
    return ops.log_softmax(ops.log(ops.maximum(probabilities, SMALLEST)) / temperature, axis=-1)


class SoftLoss(keras.losses.Loss):
    """Divergence of softened probabilities: `T**2 * KL(teacher, student)` of each image."""

    def __init__(self, temperature):
        super().__init__(name="soft_loss")
        self.temperature = temperature

    def call(self, y_true, y_pred):
        """Return the loss of each image.

        Args:
            y_true: tensor (images, classes), probabilities of the teacher.
            y_pred: tensor (images, classes), probabilities of the student.
        """
        teacher, student = (soften(one, self.temperature) for one in (y_true, y_pred))
        return self.temperature**2 * ops.sum(ops.exp(teacher) * (teacher - student), axis=-1)


class FunctionLoss(keras.losses.Loss):
    """The mean of a loss function over the images, as `compile` computes it."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, y_true, y_pred):
        """Return the loss of each image."""
        return self.function(y_true, y_pred)


@dataclass(frozen=True)
class Lesson:
    """What a student learns from. Keras does not track the layers of such an object."""

    teacher: keras.Model
    weight: float
    soft: keras.losses.Loss
    hard: keras.losses.Loss


class Student(keras.Model):
    """A functional model whose training loss has a teacher. Its validation loss has none.

    `variables` and `get_weights()` are those of the student alone.
    """

    lesson: Lesson

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return the loss of all heads. In training, the main head also learns from the teacher."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        lesson = self.lesson
        labels, outputs, weights = (first(one) for one in (y, y_pred, sample_weight))
        targets = ops.stop_gradient(lesson.teacher(x, training=False))
        soft = lesson.soft(targets, outputs, weights)
        return loss + lesson.weight * (soft - lesson.hard(labels, outputs, weights))

    @property
    def non_trainable_variables(self):
        """Variables that a step reads. JAX passes them to its compiled function."""
        return [*super().non_trainable_variables, *self.lesson.teacher.variables]


def first(structure):
    """Return the tensor of the main head, or None."""
    return structure[0] if isinstance(structure, (list, tuple)) else structure


def with_teacher(trained, teacher, recipe, loss):
    """Return the fast copy of a model as a `Student`. Both share all layers.

    Args:
        trained: a `keras.Model`, from `fast_copy`.
        teacher: a `keras.Model`, from `check_teacher`. It is copied.
        recipe: a `keras_arch.Recipe` whose precision is not "auto".
        loss: loss of the labels, a `keras.losses.Loss` or a function.
    """
    copy = fast_copy(teacher, recipe.precision)
    copy.trainable = False
    outputs = trained.outputs if len(trained.outputs) > 1 else trained.outputs[0]
    student = Student(trained.inputs[0], outputs, name=trained.name)
    if hasattr(trained, "plain_layers"):  # it simulates int8
        student.plain_layers, student.output_names = trained.plain_layers, trained.output_names
    weight = WEIGHT if recipe.teacher_weight is None else recipe.teacher_weight
    hard = loss if isinstance(loss, keras.losses.Loss) else FunctionLoss(loss)
    student.lesson = Lesson(copy, weight, SoftLoss(temperature_of(recipe)), hard)
    return student


def temperature_of(recipe):
    """Return the temperature of a recipe, or the default."""
    return recipe.temperature or TEMPERATURE
