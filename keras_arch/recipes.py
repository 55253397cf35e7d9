"""Recipes: everything that decides how a model is trained, as named rows of one table.

Nothing heavy is imported here, so that `scripts/train.py --help` answers at once.
"""

from dataclasses import dataclass
from typing import Literal

from .errors import InputError

Augment = Literal[
    "none", "crop", "flip_crop", "inception_crop", "trivial_augment", "random_erasing", "mixup", "cutmix"
]  # the policies of keras_arch/data/augment.py


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. Every field is an option of scripts/train.py."""

    model: str
    """Architecture, one of keras_arch.available()."""
    dataset: str
    """"digits", the TFDS name of an image classification set, a folder of pictures (FOLDER/CLASS/picture or
    FOLDER/train|validation|test/CLASS/picture), or an .npz file as keras.datasets has them."""
    epochs: int
    """Passes over the training images."""
    learning_rate: float
    """The highest learning rate, reached after the warm-up."""
    batch_size: int = 128
    """Images in a step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with Nesterov momentum 0.9, or AdamW."""
    weight_decay: float = 5e-4
    """Decoupled weight decay, of convolution and dense kernels only."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """After the warm-up: down to zero along a cosine; a tenth at half and at three quarters of the steps; or level."""
    warmup_epochs: float = 1
    """Epochs over which the learning rate climbs from zero."""
    label_smoothing: float = 0
    """Share of the target that is spread over all classes, 0 to 1."""
    augment: Augment = "none"
    """What becomes of training images: see docs/data.md. Only "none" and "crop" do not mirror them, which digits need."""
    image_size: int | None = None
    """Height and width in pixels that images are resized to; None keeps those of the data set."""
    stem: Literal["imagenet", "cifar"] | None = None
    """First layers of the network, if not the architecture's own: "cifar" is for small images."""
    skip_unreadable: bool = False
    """Leave out pictures of a folder that cannot be decoded, instead of refusing it."""
    seed: int = 0
    """Of the initial weights, the order of the images and the augmentation."""

    def __post_init__(self):
        for field in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, field) > 0:
                raise InputError(f"expected {field} to be greater than 0, got {getattr(self, field)}")
        for field in ("weight_decay", "warmup_epochs"):
            if not getattr(self, field) >= 0:
                raise InputError(f"expected {field} to be 0 or greater, got {getattr(self, field)}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"expected label_smoothing to be from 0 to below 1, got {self.label_smoothing}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"expected seed to be from 0 to 4294967295, got {self.seed}")
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"expected image_size to be 1 pixel or more, got {self.image_size}")

    @property
    def summary(self):
        """One line for a list of recipes."""
        return f"{self.model} on {self.dataset}, {self.epochs} epochs, {self.optimizer} at {self.learning_rate:g}"

    @property
    def builder_options(self):
        """What the builder gets besides shape and classes: the options that the recipe sets."""
        return {} if self.stem is None else {"stem": self.stem}


RECIPES = {
    # Digits are cropped and not mirrored: a 2 in the mirror is no 2.
    "quickstart": Recipe("resnet8", "digits", epochs=30, learning_rate=0.1, batch_size=32, augment="crop"),
    "digits": Recipe("resnet20", "digits", epochs=60, learning_rate=0.1, batch_size=32, augment="crop"),
    "fashion-mnist-resnet20": Recipe("resnet20", "fashion_mnist", epochs=20, learning_rate=0.1, augment="flip_crop"),
    # He et al. 2015, section 4.2, in the customary 164 epochs, with Nesterov momentum. The paper's 1e-4 is a penalty in
    # the loss, which momentum of 0.9 multiplies by ten; ours is decoupled. Not yet run.
    "cifar10-resnet20": Recipe(
        model="resnet20",
        dataset="cifar10",
        epochs=164,
        learning_rate=0.1,
        weight_decay=1e-3,
        schedule="step",
        warmup_epochs=0,
        augment="flip_crop",
    ),
}
