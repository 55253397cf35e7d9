"""Files for tests of pages in a browser: a small runtime, and an export that needs no converter."""

import json

from keras_arch.demo.runtime import Runtime

RUNTIME = Runtime(
    api="""// LiteRT.js in a few lines
import { createWasmLib } from "@litertjs/wasm-utils";
var Tensor = class {};
async function loadLiteRt(path) {}
async function loadAndCompile(model) {}
export {
  Tensor,
  loadAndCompile,
  loadLiteRt
};
//# sourceMappingURL=index.js.map""",
    glue="var Module;",
    wasm=b"\0asm\1\0\0\0",
)
CONTENT = b"TFL3, but no model"
SIZES = (("int8", len(CONTENT)),)


def make_report(sizes=SIZES, data=None, split="test", **fields):
    """Return the content of an export.json.

    Args:
        sizes: (format, bytes) of each .tflite file.
        data, split: images that verified the export.
        **fields: fields of export.json.
    """
    rows = {
        name: {"file": f"model_{name}.tflite", "bytes": size, "problems": [], "refused": None}
        for name, size in sizes
    }
    verification = {"data": data and str(data), "split": split}
    report = {"model": "net", "dataset": None, "image_size": [8, 8], "verification": verification}
    return {**report, "artifacts": rows, **fields}


def write_export(folder, **options):
    """Write an export.json, see `make_report`, and its int8 file. Return the content."""
    folder.mkdir(exist_ok=True)
    report = make_report(**options)
    (folder / "model_int8.tflite").write_bytes(CONTENT)
    (folder / "export.json").write_text(json.dumps(report))
    return report
