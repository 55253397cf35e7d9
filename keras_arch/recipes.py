"""Training recipes: named rows of one table.

This module imports neither Keras nor TensorFlow, so that `keras-arch train --help` is fast.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from .errors import InputError, choose
from .options import (
    OR_FUNCTION,
    PIXELS,
    SEEDS,
    Function,
    Metavar,
    Range,
    check_options,
    check_value,
    parse_value,
    split_pairs,
)
from .text import brief, shorten

Augment = Annotated[
    Literal[
        "none",
        "flip",
        "flip_shift",
        "crop",
        "flip_crop",
        "inception_crop",
        "trivial_augment",
        "random_erasing",
        "mixup",
        "cutmix",
        "dihedral",
    ],  # the policies of keras_arch/data/augment.py
    OR_FUNCTION,
]

BUILDER_FIELDS = ("stem", "auxiliary_heads", "width", "kernel_5x5")  # arguments of a builder
# Arguments of a builder that `model_options` cannot set: {name: what to do}.
FIXED_ARGUMENTS = {name: f"Pass --{name.replace('_', '-')}." for name in BUILDER_FIELDS} | {
    "weights": "Pass --weights.",
    "input_shape": "It is that of the data. --image-size changes it.",
    "input_tensor": "The input has the shape of the data.",
    "classes": "It is the number of classes in the data.",
    "include_top": "Training needs the classifier.",
    "classifier_activation": "Training needs probabilities.",
}
ClassWeight = Annotated[float, Range(1e-6, 1e6)]


@dataclass(frozen=True)
class Recipe:
    """Options of one training run. Each field is an option of keras-arch train."""

    model: str
    """Architecture name, such as resnet50, or a builder in a file, FILE.py:function."""
    dataset: str
    """"digits", a TFDS name, an image folder, a .csv or .npz file (see docs/data.md)."""
    epochs: Annotated[int, Range(1, 100_000)]
    """Passes over the training images."""
    learning_rate: Annotated[float, Range(1e-12, 1e30)]
    """Peak learning rate, reached after the warm-up."""
    batch_size: Annotated[int, Range(1, 1_000_000)] = 128
    """Images per batch, at most the number of training images."""
    accumulate: Annotated[int, Range(1, 10_000)] = 1
    """Batches per optimizer step. Gradients are averaged over them. For large batches."""
    optimizer: Literal["sgd", "adamw", "lamb"] = "sgd"
    """Optimizer. sgd has Nesterov momentum 0.9. lamb is for large batches."""
    weight_decay: Annotated[float, Range(0, 1000)] = 5e-4
    """Decoupled weight decay of kernels. For sgd, 10 times a paper's L2 penalty."""
    clip_norm: Annotated[float, Range(1e-12, 1e12)] | None = None
    """Maximum global gradient norm. Larger gradients are scaled down. Default: no limit."""
    schedule: Literal["cosine", "onecycle", "step", "constant"] = "cosine"
    """Learning rate schedule after the warm-up (see docs/training.md)."""
    warmup_epochs: Annotated[float, Range(0, 100_000)] = 1
    """Epochs of linear warm-up from zero (onecycle: from 1/25 of the peak)."""
    label_smoothing: Annotated[float, Range(0, 0.999)] = 0
    """Share of the target that is spread over all classes, 0 to 0.999."""
    class_weights: Annotated[
        Literal["none", "balanced"] | tuple[str, ...], Metavar("none|balanced|CLASS=WEIGHT ...")
    ] = "none"
    """Class weights in the loss, by name. balanced: the same total weight for every class."""
    ema: Annotated[float, Range(1e-6, 0.999999)] | None = None
    """Decay of an exponential moving average of the weights, such as 0.999. Default: off."""
    patience: Annotated[int, Range(1, 100_000)] | None = None
    """Epochs without improvement before training stops early. Default: no limit."""
    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """Training precision. auto: bfloat16 where it is 15% faster. The saved model is float32."""
    augment: Augment = "none"
    """Augmentation policy (see docs/data.md), or a function. none and crop do not mirror images."""
    image_size: Annotated[int, PIXELS] | None = None
    """Height and width in pixels to resize images to. Default: no resizing."""
    early_size: Annotated[int, PIXELS] | None = None
    """Image height of the first epochs in pixels, for faster epochs. Default: the data's."""
    early_epochs: Annotated[int, Range(1, 99_999)] | None = None
    """Epochs with --early-size. Default: half of the epochs."""
    stem: Literal["imagenet", "cifar", "cifar_stride2"] | None = None
    """First layers. The cifar stems are for small images. Default: the architecture's."""
    auxiliary_heads: bool = False
    """Add the auxiliary classifiers of GoogLeNet, each with a loss weight of 0.3."""
    width: Annotated[float, Range(0.01, 16)] | None = None
    """Multiplier of the number of filters of a ResNet or GoogLeNet. Default: 1."""
    kernel_5x5: Literal[3, 5] | None = None
    """Kernel size of GoogLeNet's 5x5 branch. torchvision's weights need 3. Default: 5."""
    model_options: Annotated[tuple[str, ...], Metavar("NAME=VALUE ...")] = ()
    """Other options of the builder, such as variant=d zero_init_residual=true."""
    weights: str | None = None
    """Initial weights: a run directory, a file, imagenet, cifar10 or hf://... Default: random."""
    freeze: Literal["none", "backbone"] = "none"
    """Layers to freeze. backbone trains the last layer only."""
    freeze_epochs: Annotated[int, Range(1, 99_999)] | None = None
    """Epochs with frozen layers. Then all layers are trained. Default: all epochs."""
    fine_tuning_rate: Annotated[float, Range(1e-12, 1e30)] | None = None
    """Peak learning rate after --freeze-epochs. Default: a tenth of --learning-rate."""
    quantize_aware: Literal["none", "int8"] = "none"
    """Simulate int8 in the last epochs, so that the int8 file loses less accuracy."""
    quantize_epochs: Annotated[int, Range(1, 100_000)] | None = None
    """Epochs with --quantize-aware, the last ones. Default: a fifth of the epochs."""
    quantize_rate: Annotated[float, Range(1e-12, 1e30)] | None = None
    """Peak learning rate of these epochs. Default: a tenth of the rate before them."""
    teacher: str | None = None
    """Trained model to learn from: a run directory or a .keras file. Default: none."""
    temperature: Annotated[float, Range(0.1, 100)] | None = None
    """Temperature of the probabilities in the teacher's loss. Default: 4."""
    teacher_weight: Annotated[float, Range(0, 1)] | None = None
    """Weight of the teacher's loss. The loss of the labels has the rest. Default: 0.9."""
    skip_unreadable: bool = False
    """Skip images of a folder or manifest that cannot be decoded."""
    allow_duplicates: bool = False
    """Skip images that are also in another split. Copies in the test split stay."""
    callback: Annotated[tuple[Function, ...] | None, Metavar("FILE.py:function ...")] = None
    """Functions that return a Keras callback (see docs/extend.md). Default: none."""
    seed: Annotated[int, SEEDS] = 0
    """Random seed of weights, image order, augmentation and dropout."""

    def __post_init__(self):
        weights = self.class_weights
        if not isinstance(weights, (str, list, tuple)) or "=" in weights:  # a dict, or one text
            raise InputError(
                "`class_weights` must be none, balanced or a tuple of texts CLASS=WEIGHT. "
                f"Received: class_weights={brief(weights)}. Pass ('cat=2', 'dog=0.5'), for example."
            )
        check_options(self)
        for name in ("model", "dataset", "weights", "teacher"):
            if (value := getattr(self, name)) is not None and not value.strip():
                raise InputError(
                    f"`{name}` must be a name or a path. Received: an empty text, {name}={value!r}."
                )
        if self.freeze == "backbone" and self.auxiliary_heads:
            raise InputError(
                "`auxiliary_heads` must be False with freeze='backbone', because they train the "
                "backbone. Received: auxiliary_heads=True. Remove --auxiliary-heads or --freeze."
            )
        check_phases(self)
        check_early_epochs(self)
        for name, value in split_pairs("model_options", self.model_options, "first").items():
            if name in FIXED_ARGUMENTS:
                raise InputError(
                    f"`model_options` must not set `{name}`. "
                    f"Received: {name}={brief(value)}. {FIXED_ARGUMENTS[name]}"
                )
        if len(self.class_weights) == 1 and "=" not in self.class_weights[0]:
            # The command line gives a tuple of one word.
            kind = "none, balanced or CLASS=WEIGHT in --class-weights"
            word = choose(kind, self.class_weights[0], ("none", "balanced"))
            object.__setattr__(self, "class_weights", word)
        if not self.class_weights:
            raise InputError(
                "`class_weights` must be none, balanced or pairs of the form CLASS=WEIGHT. "
                "Received: nothing. Pass none for equal weights."
            )
        _ = self.named_class_weights  # raises for invalid weights

    @property
    def phases(self) -> "tuple[Phase, ...]":
        """The phases of the training: frozen, all layers, int8. A recipe has one to three."""
        frozen, rounded = self.freeze_epochs or 0, self.rounded_epochs
        first = main = replace(
            self,
            early_epochs=self.small_epochs or None,
            freeze_epochs=None,
            fine_tuning_rate=None,
            quantize_aware="none",
            quantize_epochs=None,
            quantize_rate=None,
        )
        if frozen:
            rate = self.fine_tuning_rate or self.learning_rate / 10
            main = replace(first, freeze="none", learning_rate=rate)
        int8 = main
        if rounded:
            int8 = replace(
                main,
                freeze="none",
                learning_rate=self.quantize_rate or main.learning_rate / 10,
                warmup_epochs=0,
                precision="float32",
                early_size=None,
                early_epochs=None,
                quantize_aware="int8",
            )
        phases, done = [], 0
        for epochs, recipe in (
            (frozen, first),
            (self.epochs - frozen - rounded, main),
            (rounded, int8),
        ):
            if epochs:
                phases.append(Phase(done, replace(recipe, epochs=epochs)))
                done += epochs
        return tuple(phases)

    @property
    def rounded_epochs(self) -> int:
        """Number of epochs that simulate int8, 0 without `quantize_aware`."""
        if self.quantize_aware == "none":
            return 0
        return self.quantize_epochs or max(1, self.epochs // 5)

    @property
    def small_epochs(self) -> int:
        """Number of epochs with images of `early_size`, 0 without it."""
        if self.early_size is None:
            return 0
        return self.early_epochs or max(1, self.epochs // 2)

    @property
    def first_candidate(self) -> int:
        """Number of epochs before those whose best model is saved. With int8, only they count."""
        return self.epochs - self.rounded_epochs if self.rounded_epochs else 0

    @property
    def outline(self) -> str:
        """The phases as text: "2 epochs with a frozen backbone at 0.1, then 8 epochs at 0.01"."""
        return ", then ".join(
            f"{recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''}"
            f"{' with a frozen backbone' if recipe.freeze == 'backbone' else ''}"
            f"{' with simulated int8' if recipe.quantize_aware == 'int8' else ''}"
            f" at {recipe.learning_rate:g}"
            for recipe in (phase.recipe for phase in self.phases)
        )

    @property
    def builder_options(self) -> dict[str, Any]:
        """Keyword arguments for the builder, except input_shape and classes."""
        options = {name: getattr(self, name) for name in BUILDER_FIELDS}
        others = split_pairs("model_options", self.model_options, "first")
        return {name: value for name, value in options.items() if value} | {
            name: parse_value(text) for name, text in others.items()
        }

    @property
    def named_class_weights(self) -> dict[str, float]:
        """{class name: weight in the loss} of `class_weights`. Other classes have weight 1."""
        if isinstance(self.class_weights, str):
            return {}
        pairs = split_pairs("class_weights", self.class_weights, "last")
        return {
            name: check_value(f"class_weights[{shorten(name)}]", parse_value(text), ClassWeight)
            for name, text in pairs.items()
        }

    @property
    def data_options(self) -> dict[str, bool]:
        """Keyword arguments for `load_dataset`, except name, data_dir and image_size."""
        return {"skip_unreadable": self.skip_unreadable, "allow_duplicates": self.allow_duplicates}


@dataclass(frozen=True)
class Phase:
    """Consecutive epochs of a training with the same trainable layers and one schedule."""

    first: int
    """Number of epochs before the phase."""
    recipe: Recipe
    """Recipe of the phase alone."""

    @property
    def last(self) -> int:
        """Number of epochs after which the phase ends."""
        return self.first + self.recipe.epochs


def check_phases(recipe: Recipe) -> None:
    """Raise InputError unless `freeze_epochs` and `fine_tuning_rate` fit the other fields."""
    if recipe.freeze_epochs is None:
        if recipe.fine_tuning_rate is not None:
            raise InputError(
                "`fine_tuning_rate` needs `freeze_epochs`, after which it applies. Received: "
                f"fine_tuning_rate={recipe.fine_tuning_rate:g} alone. Pass --freeze-epochs, or "
                "only --learning-rate."
            )
    elif recipe.freeze == "none":
        raise InputError(
            "`freeze_epochs` needs frozen layers, freeze='backbone'. Received: freeze='none'. "
            "Pass --freeze backbone or --freeze-epochs None."
        )
    elif recipe.freeze_epochs >= recipe.epochs:
        raise InputError(
            "`freeze_epochs` must be below `epochs`. Received: "
            f"freeze_epochs={recipe.freeze_epochs} with epochs={recipe.epochs}. Pass fewer "
            "--freeze-epochs, or None to freeze the layers in all epochs."
        )
    check_quantization(recipe)


def check_early_epochs(recipe: Recipe) -> None:
    """Raise InputError unless `early_size` and `early_epochs` fit the other fields."""
    if recipe.early_size is None:
        if recipe.early_epochs is not None:
            raise InputError(
                "`early_epochs` needs `early_size`. Received: "
                f"early_epochs={recipe.early_epochs} alone. Pass --early-size, or "
                "--early-epochs None."
            )
        return
    for name in ("teacher", "freeze_epochs"):
        if getattr(recipe, name) is not None:
            check_no_early_size(recipe, name)
    at_full_size = recipe.epochs - recipe.rounded_epochs
    if recipe.small_epochs >= at_full_size:
        raise InputError(
            "`early_epochs` must be below the number of epochs, without those that simulate int8. "
            f"Received: early_epochs={recipe.small_epochs} with {at_full_size} epochs. Pass fewer "
            "--early-epochs, or --early-size None."
        )


def check_no_early_size(recipe: Recipe, name: str) -> None:
    """Raise InputError if a recipe has `early_size`, which the option `name` excludes."""
    if recipe.early_size is not None:
        raise InputError(
            f"`early_size` must be None with `{name}`. Received: "
            f"early_size={recipe.early_size}. Pass --early-size None --early-epochs None, or remove "
            f"--{name.replace('_', '-')}."
        )


def check_quantization(recipe: Recipe) -> None:
    """Raise InputError unless the fields of the quantization fit the other fields."""
    if recipe.quantize_aware == "none":
        for name in ("quantize_epochs", "quantize_rate"):
            if (value := getattr(recipe, name)) is not None:
                raise InputError(
                    f"`{name}` needs `quantize_aware`. Received: {name}={value:g} alone. Pass "
                    f"--quantize-aware int8, or --{name.replace('_', '-')} None."
                )
        return
    before = recipe.freeze_epochs or 0
    if recipe.freeze == "backbone" and not before:
        raise InputError(
            "`quantize_aware` trains all layers. Received: freeze='backbone' in all epochs. "
            "Pass --freeze-epochs, or --freeze none."
        )
    if recipe.rounded_epochs > recipe.epochs - before:
        raise InputError(
            "`quantize_epochs` must be at most the epochs without `freeze_epochs`. Received: "
            f"quantize_epochs={recipe.rounded_epochs} with epochs={recipe.epochs}, "
            f"freeze_epochs={before}. Pass fewer --quantize-epochs."
        )


def check_start(recipe: Recipe) -> None:
    """Raise InputError if a training from random weights would simulate int8 from the beginning."""
    if recipe.rounded_epochs == recipe.epochs and recipe.weights is None:
        raise InputError(
            "`quantize_aware` begins with a trained model. Received: "
            f"quantize_epochs={recipe.rounded_epochs} of {recipe.epochs} epochs without weights. "
            "Pass fewer --quantize-epochs, or --weights."
        )


FASHION_MNIST = Recipe(
    model="resnet20",
    dataset="fashion_mnist",
    epochs=22,
    learning_rate=0.1,
    weight_decay=5e-3,
    augment="flip_crop",
)
# For CPUs: a shallow, wide network has larger matrix products than ResNet-20, and an epoch at 20
# pixels has half of the multiply-adds of one at 28.
FASHION_MNIST_FAST = replace(
    FASHION_MNIST,
    model="resnet14",
    width=2,
    epochs=8,
    batch_size=256,
    learning_rate=0.4,
    early_size=20,
    early_epochs=5,
    augment="flip",
)
# Zhong et al. 2017 report lower errors with random erasing on this data set.
FASHION_MNIST_RESNET14 = replace(
    FASHION_MNIST_FAST,
    epochs=60,
    learning_rate=0.2,
    early_epochs=36,
    augment="random_erasing",
)
# For a GPU: a deep network at four times the width, as in Zagoruyko and Komodakis 2016.
FASHION_MNIST_BEST = replace(
    FASHION_MNIST, model="resnet32", width=4, epochs=75, augment="random_erasing"
)
# For CPUs: three eighths of the paper's filters on a quarter of the pixels.
FASHION_MNIST_GOOGLENET = replace(
    FASHION_MNIST,
    model="googlenet",
    stem="cifar_stride2",
    width=0.375,
    epochs=40,
    early_size=20,
    augment="random_erasing",
)
# He et al. 2015, section 4.2, with 164 epochs, as is common, and Nesterov momentum.
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
    # Digits are not mirrored: a mirrored 2 is not a 2.
    "quickstart": Recipe(
        "resnet8", "digits", epochs=30, learning_rate=0.1, batch_size=32, augment="crop"
    ),
    "digits": Recipe(
        "resnet20",
        "digits",
        epochs=55,
        learning_rate=0.1,
        batch_size=32,
        weight_decay=5e-3,
        augment="crop",
    ),
    "fashion-mnist-fast": FASHION_MNIST_FAST,
    "fashion-mnist-resnet14": FASHION_MNIST_RESNET14,
    "fashion-mnist-resnet20": FASHION_MNIST,
    "fashion-mnist-best": FASHION_MNIST_BEST,
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
    # The paper also warms up this network.
    "cifar10-resnet110": replace(CIFAR10, model="resnet110", warmup_epochs=1),
    # Later methods: one cycle, label smoothing, CutMix and EMA.
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
    # For CPUs.
    "cifar10-resnet20-fast": replace(
        FASHION_MNIST_FAST,
        model="resnet20",
        width=None,
        dataset="cifar10",
        epochs=120,
        learning_rate=0.2,
        early_size=24,
        early_epochs=None,
        augment="flip_crop",
    ),
    "imagenet-resnet50": IMAGENET,
    "imagenet-googlenet": replace(IMAGENET, model="googlenet", auxiliary_heads=True),
    # For your images: pass --dataset, --model, --weights and --image-size.
    "fine-tune": Recipe(
        "resnet20",
        "fashion_mnist",
        epochs=12,
        learning_rate=0.1,
        batch_size=64,
        augment="flip_crop",
        image_size=32,
        weights="cifar10",
        freeze="backbone",
        freeze_epochs=3,
    ),
}
"""The named recipes of keras-arch train: {name: `Recipe`}."""


NOTES = {
    "fashion-mnist-best": "for a GPU",
    "fashion-mnist-googlenet": "published 93.7% (the data set's own list)",
    "cifar10-resnet20": "published 91.25% (He et al. 2015, table 6)",
    "cifar10-resnet32": "published 92.49% (He et al. 2015, table 6)",
    "cifar10-resnet44": "published 92.83% (He et al. 2015, table 6)",
    "cifar10-resnet56": "published 93.03% (He et al. 2015, table 6)",
    "cifar10-resnet110": "published 93.39%, mean (He et al. 2015, table 6: 6.61 +- 0.16% error)",
    "cifar10-resnet20-modern": "to exceed cifar10-resnet20 in fewer epochs",
    "cifar10-resnet20-fast": "measured on CIFAR-10 recoded as JPEG, --dataset cifar10_jpeg",
    "imagenet-resnet50": "published 76.13% (torchvision's first weights, 90 epochs)",
    "imagenet-googlenet": "published 69.8% (torchvision, with a 3x3 kernel instead of the 5x5)",
    "fine-tune": "for your images: pass --dataset, --model, --weights and --image-size",
}
"""{recipe: purpose, or accuracy that others published}. keras-arch train --help prints them."""
