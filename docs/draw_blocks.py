"""Draw the blocks of docs/architectures.md from their models into docs/images/.

Needs Graphviz (apt install graphviz, or brew install graphviz) and `pip install pydot`:

    python docs/draw_blocks.py
"""

from pathlib import Path

import keras
import pydot
from keras import layers

import keras_arch
from keras_arch.keras_private import operation_of

IMAGES = Path(__file__).parent / "images"
FONT = {"fontname": "Helvetica", "fontsize": 11}
COLORS = {
    layers.Conv2D: "#dbe9f6",
    layers.Add: "#f8d7a0",
    layers.Concatenate: "#f8d7a0",
    layers.MaxPooling2D: "#e3f1dc",
}


def label(layer):
    """Return the name of a layer in the papers and its output shape."""
    name = {
        layers.BatchNormalization: "batch norm",
        layers.Concatenate: "concatenate",
        layers.ZeroPadding2D: "zero padding",
        layers.InputLayer: "x",
    }
    text = name.get(type(layer), type(layer).__name__)
    if isinstance(layer, layers.Conv2D):
        text = f"{layer.kernel_size[0]}x{layer.kernel_size[1]} convolution, {layer.filters}"
    elif isinstance(layer, layers.MaxPooling2D):
        text = f"{layer.pool_size[0]}x{layer.pool_size[1]} max pool"
    elif isinstance(layer, layers.Add):
        text = "+"
    if getattr(layer, "strides", (1, 1)) != (1, 1):
        text += f", stride {layer.strides[0]}"
    return f"{text}\n{' x '.join(map(str, layer.output.shape[1:]))}"


def draw(name, shape, block):
    """Draw a block for an input of `shape`."""
    x = keras.Input(shape, name="x")
    model = keras.Model(x, block(x))
    graph = pydot.Dot(bgcolor="white", nodesep=0.2, ranksep=0.25)
    for layer in model.layers:
        fill = COLORS.get(type(layer), "#f4f4f4")
        graph.add_node(
            pydot.Node(
                layer.name,
                label=label(layer),
                shape="box",
                style="rounded,filled",
                fillcolor=fill,
                **FONT,
            )
        )
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        for before in [] if isinstance(layer, layers.InputLayer) else inputs:
            graph.add_edge(pydot.Edge(operation_of(before).name, layer.name, arrowsize=0.6))
    graph.write_svg(str(IMAGES / f"{name}.svg"))
    print(IMAGES / f"{name}.svg")


def main():
    IMAGES.mkdir(exist_ok=True)
    row = keras_arch.Inception("3a", 64, 96, 128, 16, 32, 32)
    plain, parts = (28, 28, 64), keras_arch.Parts()
    draw("plain_block", plain, lambda x: keras_arch.plain_block(x, 64, 1, parts, "block"))
    draw("basic_block", plain, lambda x: keras_arch.basic_block(x, 64, 1, parts, "block"))
    draw(
        "bottleneck_block",
        (28, 28, 256),
        lambda x: keras_arch.bottleneck_block(x, 64, 1, parts, "block"),
    )
    draw(
        "bottleneck_block_stride",
        (28, 28, 256),
        lambda x: keras_arch.bottleneck_block(x, 128, 2, parts, "block"),
    )
    draw(
        "preactivation_block",
        plain,
        lambda x: keras_arch.preactivation_basic_block(x, 64, 1, parts, "block"),
    )
    draw("mlpconv", (32, 32, 3), lambda x: keras_arch.mlpconv(x, (192, 160, 96), 5, "mlpconv1"))
    draw(
        "naive_inception_module", (28, 28, 192), lambda x: keras_arch.naive_inception_module(x, row)
    )
    draw("inception_module", (28, 28, 192), lambda x: keras_arch.inception_module(x, row))


if __name__ == "__main__":
    main()
