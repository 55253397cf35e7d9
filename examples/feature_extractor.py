"""Use a network without its head as a feature extractor for scikit-learn.

    python examples/feature_extractor.py
    python examples/feature_extractor.py --weights saved_models/quickstart/model.keras

`include_top=False, pooling="avg"` returns a vector per image, with similar vectors for similar
images. Two classifiers are trained on these vectors, and on the pixels for comparison.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # fast kernels, set before the import

import keras
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import keras_arch

CLASSIFIERS = {
    "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
    "nearest neighbor": KNeighborsClassifier(n_neighbors=1),
}


def train(backbone, dataset, epochs):
    """Train the backbone with a temporary head."""
    head = keras.layers.Dense(len(dataset.class_names), activation="softmax")
    model = keras.Sequential([backbone, head])
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(dataset.train.images, dataset.train.labels, batch_size=32, epochs=epochs, verbose=0)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", help="Weights file of a ResNet-8. Default: train one.")
    parser.add_argument("--epochs", type=int, default=15, help="Epochs. Default: 15.")
    options = parser.parse_args(arguments)
    keras.utils.set_random_seed(0)
    dataset = keras_arch.load_dataset("digits")
    train_split, test_split = dataset.train, dataset.test
    backbone = keras_arch.ResNet8(
        False, options.weights, input_shape=dataset.image_shape, pooling="avg"
    )
    if not options.weights:
        train(backbone, dataset, options.epochs)
    vectors = [backbone.predict(split.images, verbose=0) for split in (train_split, test_split)]
    pixels = [split.images.reshape(split.count, -1) for split in (train_split, test_split)]
    for name, classifier in CLASSIFIERS.items():
        scores = [
            classifier.fit(x, train_split.labels).score(y, test_split.labels)
            for x, y in (vectors, pixels)
        ]
        print(
            f"{name:20} {scores[0]:.1%} from vectors of {vectors[0].shape[1]}, "
            f"{scores[1]:.1%} from pixels"
        )
    return backbone, vectors


if __name__ == "__main__":
    main()
