"""demo.html: one page that runs exported files in a browser. It loads nothing from the network."""

import base64
import gzip
import hashlib
import io
import json
from pathlib import Path
from string import Template

import numpy as np
from PIL import Image

from ..text import escape_html
from .contents import Contents
from .runtime import VERSION, Runtime

FOLDER = Path(__file__).parent
# LiteRT.js is an ES module with one import and one export. A worker takes plain scripts.
IMPORT = 'import { createWasmLib } from "@litertjs/wasm-utils";'
EXPORT = "\nexport {"
# The browser runs the one script of the page, and connects to nothing.
POLICY = (
    "default-src 'none'; script-src '{script}' 'wasm-unsafe-eval'; style-src '{style}'; "
    "worker-src blob:; img-src blob:; media-src blob: mediastream:; "
    "base-uri 'none'; form-action 'none'"
)


def compose_page(contents: Contents, runtime: Runtime) -> str:
    """Return the page as HTML. The same contents give the same page.

    Args:
        contents: exported files, test images and Python's predictions.
        runtime: LiteRT.js.
    """
    style = read("../reports/style.css") + read("style.css")
    script = f'"use strict";\n{read("picture.js")}\n{read("page.js")}'
    policy = POLICY.format(script=hash_source(script), style=hash_source(style))
    blobs = {
        "runtime-script": worker_script(runtime).encode(),
        "runtime-wasm": runtime.wasm,
        **{f"model-{number}": file.content for number, file in enumerate(contents.files)},
    }
    return Template(read("page.html")).substitute(
        policy=policy,
        title=escape_html(contents.title),
        style=style,
        classes=f"{contents.classes:,}",
        calibration=escape_html(describe_calibration(contents.calibration)),
        version=VERSION,
        facts=to_json(describe(contents)),
        blobs="\n".join(embed(name, content) for name, content in blobs.items()),
        script=script,
    )


def describe_calibration(calibration: dict | None) -> str:
    """Return sentences on the field "calibration" of run.json, or "" without one."""
    if calibration is None:
        return ""
    text = f"Probabilities are calibrated with the temperature {calibration['temperature']:.4g}."
    if (row := calibration.get("recommended")) and row["threshold"]:
        correct = f" {row['accuracy']:.2%} of these are correct." if "accuracy" in row else ""
        text += (
            f" Probabilities of at least {row['threshold']:.1%} accept {row['share']:.1%} of the "
            f"test images.{correct}"
        )
    return text


def threshold_of(calibration: dict | None) -> float | None:
    """Return the probability below which the page says "unsure", or None if there is none."""
    return ((calibration or {}).get("recommended") or {}).get("threshold") or None


def read(name: str) -> str:
    """Return the text of a file next to this module."""
    return (FOLDER / name).read_text(encoding="utf-8")


def hash_source(text: str) -> str:
    """Return the name of an inline script or style in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def worker_script(runtime: Runtime) -> str:
    """Return LiteRT.js and our worker as one plain script."""
    lines = runtime.api.rpartition(EXPORT)[0].split("\n")
    imports = [line for line in lines if line.startswith("import ")]
    assert imports == [IMPORT], "another version of LiteRT.js"
    lines.remove(IMPORT)
    module = ["const LiteRT = (() => {", *lines, "return { loadLiteRt, loadAndCompile, Tensor };"]
    return "\n".join([runtime.glue, *module, "})();", read("tflite.js"), read("worker.js")])


def describe(contents: Contents) -> dict:
    """Return what page.js reads."""
    samples = contents.samples
    return {
        "files": [
            {
                "name": file.name,
                "bytes": len(file.content),
                "answers": file.answers,
                "limit": file.limit,
            }
            for file in contents.files
        ],
        "samples": [
            {"png": to_base64(to_png(image)), "className": name}
            for image, name in zip(samples.pixels, samples.class_names, strict=True)
        ],
        "ground": samples.ground,
        "threshold": threshold_of(contents.calibration),
    }


def to_png(image: np.ndarray) -> bytes:
    """Return an image (height, width, 1 or 3) of uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def to_json(value: dict) -> str:
    """Return JSON that cannot end the script element which contains it."""
    return json.dumps(value).replace("<", "\\u003c")


def embed(name: str, content: bytes) -> str:
    """Return compressed bytes as an element that the browser does not run."""
    compressed = to_base64(gzip.compress(content, mtime=0))
    return f'<script type="text/plain" id="{name}">{compressed}</script>'
