"""Handwritten digits of scikit-learn as a TFDS data set: 1,797 scans, no download."""

import numpy as np
import tensorflow_datasets as tfds


class Digits(tfds.core.GeneratorBasedBuilder):
    """Grayscale scans of handwritten digits, 8x8 pixels.

    There are 1,437 training and 360 test images, a stratified random split. Both are from the same
    13 writers, so the accuracy is for new digits of known writers.

    Reference:
        E. Alpaydin and C. Kaynak 1998, doi:10.24432/C50P49.
    """

    VERSION = tfds.core.Version("1.0.0")
    DOWNLOADS = False  # so `prepare_data` shows no progress

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
        # Pixels in scikit-learn are 0-16.
        images = np.round(digits.images * (255 / 16)).astype("uint8")[..., np.newaxis]
        examples = list(zip(images, digits.target.tolist(), strict=True))
        train, test = train_test_split(
            examples, test_size=360, random_state=0, stratify=digits.target
        )
        return {"train": self._generate_examples(train), "test": self._generate_examples(test)}

    def _generate_examples(self, examples):
        for key, (image, label) in enumerate(examples):
            yield key, {"image": image, "label": label}
