"""Ranges of int8 in a .keras file."""

from keras_arch.quantization.ranges import scale_ranges


def test_the_ranges_of_calibrated_layers_are_divided():
    ranges = {
        "relu_range": (0.0, 8.0),
        "predictions_sum_range": (-2.0, 4.0),
        "pool_range": (0.0, 6.0),
        "norm_product_range": (-1.0, 1.0),
    }
    found = scale_ranges(ranges, ["norm", "pool", "predictions"], 2)
    assert found == {
        "relu_range": (0.0, 8.0),
        "predictions_sum_range": (-1.0, 2.0),
        "pool_range": (0.0, 3.0),
        "norm_product_range": (-0.5, 0.5),
    }
