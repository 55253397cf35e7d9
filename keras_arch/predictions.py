"""Pictures classified one by one, and told in a line each."""

import csv
import json
import sys

import numpy as np

from .errors import InputError
from .files import save_whole
from .images.read import read_image
from .text import printable

STEM = 60  # characters of a picture's name that an explained picture keeps: a file name has 255 bytes
SHOWN = 256  # pixels that the longer side of an explained picture has, about


def classify(artifact, paths, labels, top):
    """Give {"image": path, "classes": [{"label", "probability"}, ...]} for each picture, the most probable class first.

    Raises:
        InputError (a ValueError): when all others are done, if there was a picture that cannot be read; at once, if
            pictures have other channels than the artifact takes.
    """
    channels = artifact.image_shape[2]
    if channels not in (1, 3):
        raise InputError(
            f"Pictures are read with 1 or 3 channels. Received: {artifact.path} with {channels} channels. Use "
            "keras_arch.open_artifact and arrays."
        )
    unread = 0
    for path in paths:
        try:
            image = read_image(path, artifact.image_shape)
        except InputError as error:
            if len(paths) == 1:
                raise
            unread += 1
            print(f"left out: {printable(error)}", file=sys.stderr)
            continue
        probabilities = artifact.predict(image[None])[0]
        best = np.argsort(-probabilities, kind="stable")[:top]  # of equal ones the first, as argmax takes it
        classes = [{"label": labels[index], "probability": float(probabilities[index])} for index in best]
        yield {"image": str(path), "classes": classes}
    if unread:
        raise InputError(f"expected {len(paths)} pictures, got {unread} that cannot be read")


def write_table(rows):
    for row in rows:
        shares = ", ".join(f"{one['label']} {one['probability']:.1%}" for one in row["classes"])
        print(printable(f"{row['image']}: {shares}"))


def write_json(rows):
    for row in rows:
        print(json.dumps(row))


def write_csv(rows):
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header: list[str] = []
    for row in rows:
        if not header:  # of as many classes as there are, where there are fewer than asked for
            columns = range(1, len(row["classes"]) + 1)
            header = ["image", *(f"{kind}_{number}" for number in columns for kind in ("label", "probability"))]
            writer.writerow(header)
        writer.writerow([row["image"], *(value for one in row["classes"] for value in one.values())])


WRITERS = {"table": write_table, "json": write_json, "csv": write_csv}


def explain(artifact, paths, folder):
    """Write a picture of where the .keras file `artifact` looked for each of `paths` into `folder`, under its name."""
    from .explain import grad_cam, overlay, with_last_maps
    from .models import load_keras, strip_auxiliary_heads

    model = strip_auxiliary_heads(load_keras(artifact))
    with_last_maps(model)  # a model that cannot be explained is refused before there is a folder
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(paths):
        try:
            image = read_image(path, model.input_shape[1:])
        except InputError:  # `classify` says so
            continue
        heat = grad_cam(model, image[None])[0]
        scale = max(1, SHOWN // max(heat.shape))
        picture = folder / f"{number:04}_{path.stem[:STEM]}.png"  # two folders may hold one name
        save_whole(picture, overlay(image, heat, scale).save)
