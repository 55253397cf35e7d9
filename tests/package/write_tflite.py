"""Write an untrained ResNet-8 for digits: python write_tflite.py FILE."""

import sys
from pathlib import Path

from conftest import write_tflite

import keras_arch
from keras_arch.class_names import pack_labels

if __name__ == "__main__":
    path = Path(sys.argv[1])
    write_tflite(keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10), path)
    pack_labels(path, range(10))
