"""The number of bad inputs that are tested, so that generated tables do not shrink."""

import test_api
import test_paths
import test_words

import keras_arch
from keras_arch.architectures.registry import ARCHITECTURES

# Building blocks, whose errors are those of Keras.
PARTS = {
    *(
        "basic_block",
        "bottleneck_block",
        "plain_block",
        "preactivation_basic_block",
        "preactivation_bottleneck_block",
    ),
    *("inception_module", "naive_inception_module", "mlpconv", "Inception", "Parts"),
}
# Names without arguments, and containers that do not check their fields.
UNCHECKED = {
    *("RECIPES", "available", "DataWarning", "Dataset", "InputError", "VerificationError"),
    *("FileSpec", "FileVerification", "Reference", "TensorSpec"),
}


def test_each_table_has_at_least_400_bad_inputs():
    arguments = sum(len(wrong) for _, _, wrong in test_api.CASES)
    assert len(test_paths.CASES) + len(test_paths.INSIDE) >= 400
    assert len(test_words.CASES) >= 400
    assert arguments >= 4000


def test_every_public_name_is_tested():
    tested = {name for name, _, _ in test_api.CASES}
    assert tested | PARTS | UNCHECKED == set(keras_arch.__all__)
    assert {row.builder for row in ARCHITECTURES.values()} <= tested


def test_every_path_option_is_tested():
    """Each option of a script with a Path annotation is in the table."""
    from conftest import ROOT
    from harness import options_of

    for path in (ROOT / "scripts").glob("*.py"):
        hints = options_of(path).__annotations__
        paths = {name for name, hint in hints.items() if "Path" in str(hint)}
        typed = [line for line, _, _ in test_paths.OPTIONS if line.startswith(path.name)]
        named = {
            word.removeprefix("--").replace("-", "_")
            for line in typed
            for word in line.split()
            if "--" in word
        }
        positional = {name for name in paths if "Positional" in str(hints[name])}
        assert paths - positional <= named, path
        assert not positional or any(
            line.split()[-1] == "BAD" and "--" not in line for line in typed
        ), path
