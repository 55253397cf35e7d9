"""The architectures that `make test` tests. It tests a new architecture completely."""

import keras_arch

# They have the blocks of another architecture in other numbers. `make slowtest` tests them.
SAME_BLOCKS = {
    *("resnet34", "resnet101", "resnet152", "resnet101v2", "resnet152v2"),
    *("resnet14", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110"),
    *("resnet56v2", "resnet110v2", "resnet164v2"),
    *("plain18", "plain34", "plain32", "plain44", "plain56"),
}
KINDS = [name for name in keras_arch.available() if name not in SAME_BLOCKS]
# All residual networks have the same input and head.
HEADS = [name for name in KINDS if name == "resnet8" or not name.startswith(("resnet", "plain"))]
