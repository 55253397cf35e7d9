"""Quantize the weights of a .tflite file to int4. It requires the extra `int4`."""

import contextlib
import io


def quantize_int4(content: bytes) -> bytes:
    """Quantize the weights of all convolutions and dense layers to int4.

    Activations stay float32. Each output channel has one scale: the one with the smallest mean
    squared error.

    Args:
        content: a float32 .tflite file.

    Returns:
        A .tflite file with the same input and output.

    Reference:
        Sakr et al. 2022, Optimal Clipping and Magnitude-aware Differentiation for Improved
        Quantization-aware Training (OCTAV).
    """
    from ai_edge_quantizer import Quantizer, recipe

    weights_only = recipe.weight_only_wi4_afp32(recipe.AlgorithmName.OCTAV)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints sizes
        result = Quantizer(bytearray(content), weights_only).quantize()
    assert result.quantized_model is not None
    return bytes(result.quantized_model)
