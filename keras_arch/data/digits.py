"""Scikit-learn's handwritten digits as a TFDS data set: 1,797 real scans that need no network."""

import numpy as np
import tensorflow_datasets as tfds


class Digits(tfds.core.GeneratorBasedBuilder):
    """8x8 grey scans of handwritten digits (E. Alpaydin and C. Kaynak 1998, doi:10.24432/C50P49).

    1,437 images to train and 360 to test, drawn at random and the same number of each digit up to rounding. Both
    come from the same 13 writers: the accuracy is that on new digits of known hands.
    """

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        images = np.round(digits.images * (255 / 16)).astype("uint8")[
            ..., np.newaxis
        ]  # scikit-learn's go to 16
        examples = list(zip(images, digits.target.tolist(), strict=True))
        train, test = train_test_split(
            examples, test_size=360, random_state=0, stratify=digits.target
        )
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(self, examples):
        for key, (image, label) in enumerate(examples):
            yield key, {"image": image, "label": label}
