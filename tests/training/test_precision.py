"""Training precision: measured once per machine, cached, and kept by resumed runs."""

import dataclasses
import json
import time

import keras
import pytest
import tensorflow as tf

import keras_arch
from keras_arch.files import cache_folder, warn_without_cache
from keras_arch.training import precision
from keras_arch.training.fit import compile_copy
from keras_arch.training.precision import choose_precision


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Start without cached measurements."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    precision.remembered_speeds.cache_clear()
    yield
    precision.remembered_speeds.cache_clear()


@pytest.fixture
def measured(monkeypatch):
    """Return a function that fakes the speeds of probes and returns the list of unused ones."""

    def let(*speeds):
        left = [dict(zip(("float32", "bfloat16"), pair, strict=True)) for pair in speeds]
        monkeypatch.setattr(precision, "measure_speeds", lambda: left.pop(0))
        return left

    return let


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [
        (262, 164, "float32"),
        (190, 421, "mixed_bfloat16"),
        (100, 114, "float32"),
        (100, 116, "mixed_bfloat16"),
    ],
)
def test_auto_needs_a_margin_for_bfloat16(measured, float32, bfloat16, expected):
    measured((float32, bfloat16))
    assert choose_precision("auto") == precision.Precision(
        expected, {"float32": float32, "bfloat16": bfloat16}
    )


def test_given_or_recorded_precision_is_not_measured(measured):
    measured()
    assert choose_precision("mixed_float16").name == "mixed_float16"
    assert choose_precision("mixed_float16", recorded="float32").name == "mixed_float16"
    assert choose_precision("auto", recorded="mixed_bfloat16").name == "mixed_bfloat16"


def test_a_machine_is_measured_once(measured, monkeypatch):
    left = measured((1, 2), (2, 1), (1, 2))
    for _ in range(2):
        assert choose_precision("auto").name == "mixed_bfloat16"
        precision.remembered_speeds.cache_clear()  # simulates another process
    assert len(left) == 2
    monkeypatch.setattr(
        precision, "available_cores", lambda: 1000
    )  # another machine with the same home directory
    assert choose_precision("auto").name == "float32"
    assert len(json.loads((cache_folder() / "precision.json").read_text())) == 2
    precision.remembered_speeds.cache_clear()
    (cache_folder() / "precision.json").write_text("{")
    assert choose_precision("auto").name == "mixed_bfloat16"


def test_cache_that_is_not_writable_is_a_warning(measured, tmp_path):
    left = measured((1, 2), (2, 1))
    (tmp_path / "cache").write_text("a file where the folder would be")
    warn_without_cache.cache_clear()
    with pytest.warns(keras_arch.DataWarning, match="The cache cannot be written"):
        assert [choose_precision("auto").name for _ in range(2)] == ["mixed_bfloat16"] * 2
    assert len(left) == 1


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(0.01, 0.002, "mixed_bfloat16"), (0.002, 0.01, "float32"), (0.002, None, "float32")],
)
def test_probe_with_slow_or_missing_types(monkeypatch, float32, bfloat16, expected):
    seconds = {tf.float32: float32, tf.bfloat16: bfloat16}

    def step(kind):
        def sleep():
            if seconds[kind] is None:
                raise tf.errors.UnimplementedError(None, None, "no kernel")
            time.sleep(seconds[kind])

        return sleep

    monkeypatch.setattr(precision, "probe_step", step)
    assert choose_precision("auto").name == expected


def test_probe_takes_about_a_second_and_counts_flop():
    started = time.perf_counter()
    speeds = precision.measure_speeds()
    assert time.perf_counter() - started < 30  # on a busy machine with bfloat16 in software
    assert speeds["float32"] > 0.1
    image = keras.Input((precision.SIZE, precision.SIZE, precision.FILTERS))
    network = keras.Model(
        image, keras.layers.Conv2D(precision.FILTERS, 3, padding="same", use_bias=False)(image)
    )
    assert 6 * precision.BATCH * keras_arch.cost(network).multiply_adds == precision.FLOP


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"compute_capability": (7, 5)}, "float32"),
        ({"compute_capability": (8, 0)}, "mixed_bfloat16"),
        ({}, "float32"),
    ],
)
def test_precision_of_a_gpu_depends_on_its_compute_capability(
    monkeypatch, measured, details, expected
):
    measured()
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda card: details)
    assert choose_precision("auto").name == expected


def test_a_resumed_run_keeps_its_precision(measured, monkeypatch, small_digits, tmp_path):
    """New measurements do not change the precision of a started run."""
    recipe = dataclasses.replace(keras_arch.RECIPES["quickstart"], epochs=1, batch_size=160)
    used, copy = [], compile_copy
    monkeypatch.setattr(
        "keras_arch.training.fit.compile_copy",
        lambda *args: used.append(args[1].precision) or copy(*args),
    )
    left = measured((1, 2), (2, 1))
    for epochs in (1, 2):
        model = keras_arch.ResNet8(input_shape=(8, 8, 1))
        keras_arch.fit(
            model,
            small_digits,
            dataclasses.replace(recipe, epochs=epochs),
            tmp_path,
            resume=epochs == 2,
        )
        precision.remembered_speeds.cache_clear()
        (cache_folder() / "precision.json").unlink(missing_ok=True)
    assert used == ["mixed_bfloat16", "mixed_bfloat16"]
    assert len(left) == 1  # the resumed run did not measure


def test_run_json_records_the_speeds(quickstart):
    run = json.loads((quickstart / "run.json").read_text())
    assert run["precision"] == (
        "mixed_bfloat16" if precision.prefers_bfloat16(run["precision_gflops"]) else "float32"
    )
    assert run["recipe"]["precision"] == "auto"
