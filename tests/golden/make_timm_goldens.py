"""Write timm_logits.json: the logits of timm's models with weights that anyone can rebuild.

Run it with a Python that has timm, torch and torchvision. The rules of weights and images are those
of make_torchvision_goldens.py, with (0.3, 0.9) as SCALE.
"""

import json
from pathlib import Path

import numpy as np
import timm
import torch
from make_torchvision_goldens import SIZES, rebuilt

MODELS = (
    *("resnet50", "resnet50c", "resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d"),
    *("seresnet50", "seresnet152d"),
)
SCALE = (0.3, 0.9)


def compute_logits(model, size):
    """Return a summary of a model's logits for two images of `size` pixels."""
    images = np.random.default_rng(0).uniform(-2, 2, (2, 3, size, size)).astype("float32")
    with torch.no_grad():
        logits = model(torch.from_numpy(images)).numpy()
    return {
        "first_ten": logits[:, :10].round(6).tolist(),
        "l2_norm": np.linalg.norm(logits, axis=1).round(6).tolist(),
        "argmax": logits.argmax(1).tolist(),
    }


def make_golden(name):
    """Return the entry of one model."""
    model = timm.create_model(name, pretrained=False).eval()
    state = {
        key: torch.from_numpy(rebuilt(key, tuple(value.shape), SCALE))
        for key, value in model.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    model.load_state_dict(state, strict=False)
    return {
        "batch_norm_scale": SCALE,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "logits": {str(size): compute_logits(model, size) for size in SIZES},
    }


if __name__ == "__main__":
    goldens = {name: make_golden(name) for name in MODELS}
    goldens["versions"] = {"torch": torch.__version__, "timm": timm.__version__}
    Path(__file__).with_name("timm_logits.json").write_text(json.dumps(goldens, indent=1) + "\n")
