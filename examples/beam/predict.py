"""Classify images with Apache Beam: python predict.py MODEL 'images/*.png' --output predictions

Beam runs the same pipeline on one machine (DirectRunner) and on clusters (Dataflow, Flink, Spark).
"""

import argparse
import csv
import io

import apache_beam as beam
import numpy as np
from apache_beam.io import fileio
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from apache_beam.options.pipeline_options import PipelineOptions

import keras_arch
from keras_arch.images.read import read_image
from keras_arch.text import spreadsheet_path, spreadsheet_text


class ArtifactHandler(ModelHandler):
    """Run a model file of any kind that `keras_arch.open_artifact` opens."""

    def __init__(self, path):
        super().__init__(min_batch_size=16, max_batch_size=64)
        self.path = path

    def load_model(self):
        return keras_arch.open_artifact(self.path)

    def run_inference(self, batch, model, inference_args=None):
        return model.predict(np.stack(batch))


class ReadImage(beam.DoFn):
    """Decode the image in a file, or output the path and the error with the tag "errors"."""

    def __init__(self, shape):
        self.shape = shape

    def process(self, file):
        path = file.metadata.path
        try:
            yield path, read_image(io.BytesIO(file.read()), self.shape)
        except keras_arch.InputError:
            yield beam.pvalue.TaggedOutput(
                "errors", (spreadsheet_path(path), "", "", "cannot be decoded")
            )


def best_class(prediction, names):
    """Return the cells of a row."""
    path, probabilities = prediction
    best = probabilities.argmax()
    label = spreadsheet_text(str(names[best]))  # a name such as "=SUM(A1)" is no formula
    return spreadsheet_path(path), label, float(probabilities[best]), ""


def to_line(cells):
    """Return the cells as a line of a CSV file."""
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue().removesuffix("\r\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="model file, at the same path on each machine")
    parser.add_argument("images", help="pattern such as 'images/*.png', or a .txt file of paths")
    parser.add_argument("--output", required=True, help="OUTPUT-00000-of-00001.csv is written")
    options, beam_options = parser.parse_known_args()
    artifact = keras_arch.open_artifact(options.model)
    is_list = options.images.endswith(".txt")
    with beam.Pipeline(options=PipelineOptions(beam_options)) as pipeline:
        images, errors = (
            pipeline
            | (beam.io.ReadFromText(options.images) if is_list else beam.Create([options.images]))
            | fileio.MatchAll()
            | beam.Reshuffle()  # distributes the files
            | fileio.ReadMatches()
            | beam.ParDo(ReadImage(artifact.image_shape)).with_outputs("errors", main="images")
        )
        rows = (
            images
            | RunInference(KeyedModelHandler(ArtifactHandler(options.model)))
            | beam.Map(best_class, artifact.class_names or range(artifact.classes))
        )
        header = "image,label,probability,error"
        (
            (rows, errors)
            | beam.Flatten()
            | beam.Map(to_line)
            | beam.io.WriteToText(options.output, ".csv", header=header)
        )


if __name__ == "__main__":
    main()
