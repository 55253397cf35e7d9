"""Recipes: everything that decides how a model is trained, as named rows of one table.

Nothing heavy is imported here, so that `scripts/train.py --help` answers at once.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from .errors import InputError
from .options import PIXELS, SEEDS, Range, check_options

Augment = Literal[
    "none",
    "crop",
    "flip_crop",
    "inception_crop",
    "trivial_augment",
    "random_erasing",
    "mixup",
    "cutmix",
]  # the policies of keras_arch/data/augment.py


@dataclass(frozen=True)
class Recipe:
    """How one model is trained. Every field is an option of scripts/train.py."""

    model: str
    """Architecture, one of keras_arch.available()."""
    dataset: str
    """"digits", the TFDS name of an image classification set, a folder of pictures (FOLDER/CLASS/picture or
    FOLDER/train|validation|test/CLASS/picture), or an .npz file as keras.datasets has them."""
    epochs: Annotated[int, Range(1, 100_000)]
    """Passes over the training images."""
    learning_rate: Annotated[float, Range(1e-12, 1e30)]
    """The highest learning rate, reached after the warm-up."""
    batch_size: Annotated[int, Range(1, 1_000_000)] = 128
    """Images in a step, at most all training images."""
    optimizer: Literal["sgd", "adamw", "lamb"] = "sgd"
    """SGD with Nesterov momentum 0.9, AdamW, or LAMB for large batches."""
    weight_decay: Annotated[float, Range(0, 1000)] = 5e-4
    """Decoupled weight decay, of convolution and dense kernels only: each step shrinks them by this share of the learning
    rate. A penalty in the loss, as papers and PyTorch's SGD have it, is a tenth of it at momentum 0.9."""
    clip_norm: Annotated[float, Range(1e-12, 1e12)] | None = None
    """Longest gradient of all weights together; a longer one is scaled down to it."""
    schedule: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    """After the warm-up: down to zero along a cosine (onecycle: the warm-up begins at a 25th of the peak and is best some
    30% of the epochs); a tenth at half and at three quarters of the steps; or level."""
    warmup_epochs: Annotated[float, Range(0, 100_000)] = 1
    """Epochs over which the learning rate climbs from zero."""
    label_smoothing: Annotated[float, Range(0, 0.999)] = 0
    """Share of the target that is spread over all classes, 0 to 0.999."""
    class_weights: Literal["none", "balanced"] = "none"
    """Balanced: images of rare classes weigh more in the loss, so that all classes count alike. The best epoch is then
    that of the highest balanced accuracy (mean recall) in validation."""
    ema: Annotated[float, Range(1e-6, 0.999999)] | None = None
    """Share that a moving average of the weights keeps at each step, such as 0.999; the average is what is validated and
    saved."""
    patience: Annotated[int, Range(1, 100_000)] | None = None
    """Stop after so many epochs that brought nothing better in validation."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """Precision of the arithmetic in training; weights and the saved model are float32. Auto measures float32 and bfloat16 on
    a CPU and takes the faster one; on a GPU it takes mixed_bfloat16 from Ampere on."""
    augment: Augment = "none"
    """What becomes of training images: see docs/data.md. Only "none" and "crop" do not mirror them, which digits need."""
    image_size: Annotated[int, PIXELS] | None = None
    """Height and width in pixels that images are resized to; None keeps those of the data set."""
    stem: Literal["imagenet", "cifar", "cifar_stride2"] | None = None
    """First layers of the network, if not the architecture's own: "cifar" is for images of 32 pixels or so, "cifar_stride2"
    (GoogLeNet) for a quarter of its cost."""
    auxiliary_heads: bool = False
    """GoogLeNet's two training heads, each with 0.3 of the loss; the exported model does not have them."""
    width: Annotated[float, Range(0.01, 16)] | None = None
    """GoogLeNet's number of filters, as a share of the paper's."""
    kernel_5x5: Literal[3, 5] | None = None
    """GoogLeNet's large kernel: 3 is what torchvision's weights were trained with."""
    weights: str | None = None
    """Where to begin: a run folder, a .keras, .weights.h5, .safetensors or .pth file, or "imagenet" for torchvision's; a head
    of other classes starts anew. Random weights if not given."""
    freeze: Literal["none", "backbone"] = "none"
    """Backbone: train the last layer alone; batch norm then keeps its statistics."""
    skip_unreadable: bool = False
    """Leave out pictures of a folder that cannot be decoded, instead of refusing it."""
    allow_duplicates: bool = False
    """Leave out pictures of a folder that are also in another split, instead of refusing it; copies in test stay."""
    seed: Annotated[int, SEEDS] = 0
    """Of the initial weights, the order of the images, the augmentation and dropout: two runs of one seed on one machine
    end with the same weights."""

    def __post_init__(self):
        check_options(self)
        if self.freeze == "backbone" and self.auxiliary_heads:
            raise InputError(
                "expected no auxiliary_heads with freeze='backbone', got both: the heads are there to train the backbone"
            )

    @property
    def summary(self):
        """One line for a list of recipes."""
        return f"{self.model} on {self.dataset}, {self.epochs} epochs, {self.optimizer} at {self.learning_rate:g}"

    @property
    def builder_options(self):
        """What the builder gets besides shape and classes: the options that the recipe sets."""
        options = {
            name: getattr(self, name) for name in ("stem", "auxiliary_heads", "width", "kernel_5x5")
        }
        return {name: value for name, value in options.items() if value}

    @property
    def data_options(self):
        """What `load_dataset` gets besides name, folder and size."""
        return {"skip_unreadable": self.skip_unreadable, "allow_duplicates": self.allow_duplicates}


FASHION_MNIST = Recipe(
    model="resnet20",
    dataset="fashion_mnist",
    epochs=22,
    learning_rate=0.1,
    weight_decay=5e-3,
    augment="flip_crop",
)
# A quarter of the paper's filters on a quarter of the pixels, for a CPU's sake: then an epoch takes as long as ResNet-20's.
FASHION_MNIST_GOOGLENET = replace(
    FASHION_MNIST, model="googlenet", stem="cifar_stride2", width=0.25
)
# He et al. 2015, section 4.2, in the customary 164 epochs, with Nesterov momentum.
CIFAR10 = Recipe(
    model="resnet20",
    dataset="cifar10",
    epochs=164,
    learning_rate=0.1,
    weight_decay=1e-3,  # the paper's penalty of 1e-4
    schedule="step",
    warmup_epochs=0,
    augment="flip_crop",
)
# He et al. 2015, section 3.4, with the cosine and the warm-up of He et al. 2018 (arXiv:1812.01187).
IMAGENET = Recipe(
    model="resnet50",
    dataset="imagenet2012",
    epochs=90,
    learning_rate=0.1,
    batch_size=256,
    weight_decay=1e-3,  # the paper's penalty of 1e-4
    warmup_epochs=5,
    augment="inception_crop",
    image_size=224,
)

RECIPES = {
    # Digits are cropped and not mirrored: a 2 in the mirror is no 2.
    "quickstart": Recipe(
        "resnet8", "digits", epochs=30, learning_rate=0.1, batch_size=32, augment="crop"
    ),
    "digits": Recipe(
        "resnet20", "digits", epochs=60, learning_rate=0.1, batch_size=32, augment="crop"
    ),
    "fashion-mnist-resnet20": FASHION_MNIST,
    "fashion-mnist-googlenet": FASHION_MNIST_GOOGLENET,
    "fashion-mnist-nin": replace(
        FASHION_MNIST,
        model="nin",
        epochs=4,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=0.05,
    ),
    "cifar10-resnet20": CIFAR10,
    "cifar10-resnet32": replace(CIFAR10, model="resnet32"),
    "cifar10-resnet44": replace(CIFAR10, model="resnet44"),
    "cifar10-resnet56": replace(CIFAR10, model="resnet56"),
    # The paper, too, starts this one slowly.
    "cifar10-resnet110": replace(CIFAR10, model="resnet110", warmup_epochs=1),
    # What has come since: one cycle, soft labels, pictures that are mixed, averaged weights.
    "cifar10-resnet20-modern": replace(
        CIFAR10,
        epochs=100,
        learning_rate=0.4,
        weight_decay=5e-3,
        schedule="onecycle",
        warmup_epochs=20,
        label_smoothing=0.1,
        augment="cutmix",
        ema=0.999,
    ),
    "imagenet-resnet50": IMAGENET,
    "imagenet-googlenet": replace(IMAGENET, model="googlenet", auxiliary_heads=True),
}
"""The named recipes of scripts/train.py: {name: `Recipe`}."""

# What each takes and reaches: python scripts/train.py NAME. Times are of 2 CPU cores without a GPU; accuracies are of the
# test split. What has not been run yet has the published figure to reach.
EXPECTED = {
    "quickstart": "14 s, 99.2%",
    "digits": "99 s beside other work, 97.2% (350 of 360)",
    "fashion-mnist-resnet20": "41 min, 94.0%",
    "fashion-mnist-googlenet": "54 min beside other work, 93.6%; 93.7% published (the data set's own list)",
    "fashion-mnist-nin": "40 min beside other work, 87.7%: 4 epochs are a small budget",
    "cifar10-resnet20": "not yet run; 91.25% published (He et al. 2015, table 6)",
    "cifar10-resnet32": "not yet run; 92.49% published (the same)",
    "cifar10-resnet44": "not yet run; 92.83% published (the same)",
    "cifar10-resnet56": "not yet run; 93.03% published (the same)",
    "cifar10-resnet110": "not yet run; 93.39% on average published (the same: 6.61 +- 0.16% error)",
    "cifar10-resnet20-modern": "not yet run; to beat cifar10-resnet20 in fewer epochs",
    "imagenet-resnet50": "not yet run; 76.13% published (torchvision's first weights, 90 epochs)",
    "imagenet-googlenet": "not yet run; 69.8% published (torchvision; with its 3x3 in place of the 5x5)",
}
