"""Quantize the weights of a .tflite file to int4. It requires the extra `int4`."""

import numpy as np


def quantize_int4(content: bytes) -> bytes:
    """Quantize the weights of all convolutions and dense layers to int4.

    Activations stay float32. Each output channel has one scale, which OCTAV chooses.

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
    quantizer = Quantizer(bytearray(content), weights_only)
    with np.errstate(invalid="ignore"):  # 0 / 0 in a channel of zeros, which stay zeros
        result = quantizer.quantize(enable_progress_report=False)
    return bytes(result.quantized_model or b"")
