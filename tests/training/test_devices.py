"""Training on several devices and processes: virtual devices of JAX, and processes on 127.0.0.1."""

import contextlib
import csv
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT

import keras_arch
from keras_arch.data.convert import to_dataset
from keras_arch.training.devices import DeviceOptions, check_batch_size, join
from keras_arch.training.hooks import check_weights
from keras_arch.training.metrics import BalancedAccuracy, LabeledOnly
from keras_arch.training.spread import Spread, check_spread

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason='needs JAX: pip install "keras_arch[jax]"'
)
PATIENCE = 400  # seconds for a command, on a machine with other load
# 40 steps of ResNet-8. With a small learning rate, rounding errors do not grow.
RUN = ["quickstart", "--epochs", "1", "--learning-rate", "0.001", "--precision", "float32"]
TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is about TensorFlow's GPUs")
@pytest.mark.parametrize(
    ("found", "details", "kind"),
    [([], None, ""), (["gpu"], {"device_name": "Big GPU"}, "Big GPU"), (["gpu"], {}, "GPU")],
)
def test_the_kind_of_a_gpu_on_tensorflow(found, details, kind, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda sort: found)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)
    with join(DeviceOptions()) as devices:
        assert devices.record == {"count": 1, "processes": 1, "kind": kind}


# --- options ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": "0"}, "`devices` must be all or an integer above 0. Received: devices='0'."),
        ({"devices": "two"}, "`devices` must be all or an integer above 0"),
        ({"devices": "-1"}, "`devices` must be all or an integer above 0"),
        ({"coordinator": "node1"}, "`coordinator` must be HOST:PORT or auto"),
        ({"coordinator": "node1:99999"}, "`coordinator` must be HOST:PORT or auto"),
        ({"coordinator": ":1"}, "`coordinator` must be HOST:PORT or auto"),
        ({"coordinator": "node1:1"}, "Received: processes=None, process=None. Pass --processes N"),
        ({"coordinator": "node1:1", "processes": 2}, "Received: processes=2, process=None"),
        ({"processes": 2, "process": 0}, "Received: coordinator=None. Pass --coordinator"),
        ({"coordinator": "auto", "process": 0}, "Received: coordinator=auto. Pass --coordinator"),
        (
            {"coordinator": "node1:1", "processes": 2, "process": 2},
            "`process` must be from 0 to 1, because there are 2 processes. Received: process=2.",
        ),
        (
            {"coordinator": "node1:1", "processes": 0, "process": 0},
            "`processes` must be an integer",
        ),
        ({"coordinator": "node1:1", "processes": 2, "process": -1}, "`process` must be an integer"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(keras_arch.InputError) as raised:
        DeviceOptions(**options)
    assert message in str(raised.value)


def test_options_are_checked_before_any_work(script, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert script("train.py", *RUN, "--coordinator", "node1:1234") == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"devices": "2"}, {"devices": "all"}, {"coordinator": "auto"}])
def test_tensorflow_is_refused_with_the_way_of_jax(options):
    with (
        pytest.raises(keras_arch.InputError, match=r"pip install .* and set KERAS_BACKEND=jax"),
        join(DeviceOptions(**options)),
    ):
        pytest.fail("joined")


def test_a_strategy_of_tensorflow_is_refused(tmp_path, small_digits):
    with tf.distribute.OneDeviceStrategy("cpu").scope():
        model = keras_arch.ResNet8(input_shape=(8, 8, 1), classes=10)
        with pytest.raises(keras_arch.InputError, match=r"OneDeviceStrategy.*KERAS_BACKEND=jax"):
            keras_arch.fit(model, small_digits, keras_arch.RECIPES["quickstart"], tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("batch_size", "devices", "near"),
    [(32, 3, "30 or 33"), (2, 4, "4"), (9, 8, "8 or 16"), (32, 1, None), (32, 8, None)],
)
def test_the_devices_must_divide_the_batch(batch_size, devices, near):
    if near is None:
        return check_batch_size(batch_size, devices)
    with pytest.raises(keras_arch.InputError, match=rf"Pass {near} \(--batch-size\)"):
        check_batch_size(batch_size, devices)


def test_batches_of_the_caller_are_refused_on_several_devices():
    batches = tf.data.Dataset.from_tensor_slices(
        (np.full((8, 4, 4, 1), 9, "uint8"), np.arange(8) % 2)
    ).batch(4)
    data = to_dataset((batches, batches), 2)
    recipe = keras_arch.RECIPES["quickstart"]
    check_spread(Spread(1), data, recipe)
    with pytest.raises(keras_arch.InputError, match="a pair of tf"):
        check_spread(Spread(2), data, recipe)


# --- metrics of padded batches ---


@pytest.mark.parametrize(
    "metric",
    [
        lambda: keras.metrics.CategoricalAccuracy(name="a"),
        lambda: keras.metrics.TopKCategoricalAccuracy(2, name="a"),
        lambda: keras.metrics.F1Score(average="macro", name="a"),
        lambda: BalancedAccuracy(3, name="a"),
    ],
)
def test_images_without_a_label_do_not_count(metric):
    rng = np.random.default_rng(0)
    labels = np.eye(3, dtype="float32")[rng.integers(0, 3, 40)]
    outputs = rng.dirichlet(np.ones(3), 64).astype("float32")
    expected = metric()
    expected.update_state(labels, outputs[:40])
    padded = LabeledOnly(metric())
    padded.update_state(labels[:30], outputs[:30])
    filled = np.concatenate([labels[30:], np.zeros((24, 3), "float32")])
    padded.update_state(filled, outputs[30:], sample_weight=np.full(34, 7.0))
    assert padded.name == "a"
    assert float(padded.result()) == pytest.approx(float(expected.result()), abs=1e-6)
    padded.reset_state()
    padded.update_state(labels, outputs[:40])
    assert float(padded.result()) == pytest.approx(float(expected.result()), abs=1e-6)


class Unweighted(keras.metrics.CategoricalAccuracy):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true, y_pred)


class WithoutWeights(keras.metrics.CategoricalAccuracy):
    def update_state(self, y_true, y_pred):
        super().update_state(y_true, y_pred)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_a_metric_must_take_weights_on_several_devices(classes):
    check_weights(keras.metrics.CategoricalAccuracy(), classes)
    check_weights(keras.metrics.MeanMetricWrapper(lambda a, b: b[:, 0], name="x"), classes)
    for metric in (Unweighted(name="x"), WithoutWeights(name="x")):
        with pytest.raises(keras_arch.InputError, match="the metric x must take `sample_weight`"):
            check_weights(metric, classes)


# --- training ---


def environment(**variables):
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "training")))
    return os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": paths} | variables


def start(arguments, folder, name="out", code=None, **variables):
    """Start keras-arch train. Its output is in the files NAME.out and NAME.err."""
    command = [ROOT / "scripts" / "train.py"] if code is None else ["-c", code]
    with (folder / f"{name}.out").open("w") as out, (folder / f"{name}.err").open("w") as err:
        return subprocess.Popen(
            [sys.executable, *command, *map(str, arguments)],
            env=environment(**variables),
            stdout=out,
            stderr=err,
            cwd=folder,
        )


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


@contextlib.contextmanager
def processes(folder, arguments, count=2, each=None, code=None):
    """Start processes that train together. They are killed at the end of the block."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    started = []
    for process in range(count):
        options = ["--coordinator", f"127.0.0.1:{port}", "--processes", count, "--process", process]
        own = (each or {}).get(process, [])
        output = ["--output", folder / ("run" if process == 0 else f"unused{process}")]
        words = [*arguments, *output, *options, *own]
        started.append(start(words, folder, f"process{process}", code))
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()


def wait(started, seconds=PATIENCE):
    """Return the exit statuses."""
    deadline = time.monotonic() + seconds
    return [one.wait(timeout=max(0.1, deadline - time.monotonic())) for one in started]


def errors(folder, count=2):
    return [(folder / f"process{number}.err").read_text() for number in range(count)]


def read_weights(run):
    model = keras.models.load_model(run / "model.keras")
    return [variable.numpy() for variable in model.variables]


def assert_near(run, expected, tolerance=1e-5):
    """Compare weights. Values above 1, such as variances, have a relative error."""
    for found, wanted in zip(read_weights(run), read_weights(expected), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def assert_same_bits(run, expected):
    for found, wanted in zip(read_weights(run), read_weights(expected), strict=True):
        np.testing.assert_array_equal(found, wanted)


def history_of(run):
    with (run / "history.csv").open(newline="") as file:
        return [
            {column: float(value) for column, value in row.items() if column != "seconds"}
            for row in csv.DictReader(file)
        ]


def read_run(run):
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def in_one_process(tmp_path_factory, digits, data_dir):
    """Train on one device and on two virtual devices; return the directory of the two runs."""
    folder = tmp_path_factory.mktemp("devices")
    code = (
        "import sys, conftest; words = sys.argv[1:]\n"
        "for number in ('1', '2'):\n"
        "    run = ['--output', number, '--devices', number]\n"
        "    assert conftest.run_script('train.py', *words, *run) == 0"
    )
    arguments = [*RUN, "--data-dir", data_dir]
    started = start(arguments, folder, code=code, **TWO_DEVICES)
    assert wait([started]) == [0], (folder / "out.err").read_text()
    return folder


@pytest.fixture(scope="module")
def in_two_processes(tmp_path_factory, digits, data_dir):
    """Train in two processes with one device each; return their directory."""
    folder = tmp_path_factory.mktemp("processes")
    with processes(folder, [*RUN, "--data-dir", data_dir]) as started:
        assert wait(started) == [0, 0], errors(folder)
    return folder


@needs_jax
def test_two_devices_train_as_one(in_one_process):
    one, two = in_one_process / "1", in_one_process / "2"
    assert_near(two, one)
    (found,), (expected,) = history_of(two), history_of(one)
    assert found == pytest.approx(expected, rel=1e-4)
    assert read_run(two)["metrics"]["test"]["top1"] == read_run(one)["metrics"]["test"]["top1"]
    assert read_run(two)["devices"] == {"count": 2, "processes": 1, "kind": "cpu"}
    assert read_run(one)["devices"]["count"] == 1
    assert read_run(two)["versions"]["jax"]
    assert " on 2 devices\n" in (in_one_process / "out.out").read_text()


@needs_jax
@pytest.mark.slow
def test_two_processes_train_as_one(in_one_process, in_two_processes):
    run, one = in_two_processes / "run", in_one_process / "1"
    assert_near(run, one)
    (found,), (expected,) = history_of(run), history_of(one)
    assert found == pytest.approx(expected, rel=1e-4)
    assert read_run(run)["metrics"]["test"]["top1"] == read_run(one)["metrics"]["test"]["top1"]
    assert read_run(run)["devices"] == {"count": 2, "processes": 2, "kind": "cpu"}


@needs_jax
@pytest.mark.slow
def test_process_0_alone_prints_and_writes(in_two_processes):
    assert errors(in_two_processes) == ["", ""]
    out = (in_two_processes / "process0.out").read_text()
    assert "Gloo" not in out
    assert "Run saved to" in out
    assert (in_two_processes / "process1.out").read_text() == ""
    assert not (in_two_processes / "unused1").exists()
    assert not list(in_two_processes.glob("*.partial"))


@needs_jax
@pytest.mark.slow
def test_two_processes_twice_are_equal_to_the_bit(in_two_processes, data_dir, tmp_path):
    with processes(tmp_path / "again", [*RUN, "--data-dir", data_dir]) as started:
        assert wait(started) == [0, 0]
    assert_same_bits(tmp_path / "again" / "run", in_two_processes / "run")
    assert history_of(tmp_path / "again" / "run") == history_of(in_two_processes / "run")


# EMA and accumulated gradients are states that a checkpoint must have.
LONG = [
    *("quickstart", "--epochs", "3", "--learning-rate", "0.001", "--precision", "float32"),
    *("--ema", "0.9", "--accumulate", "2", "--clip-norm", "1", "--class-weights", "balanced"),
    *("--augment", "mixup", "--label-smoothing", "0.1"),
]


def wait_for_epoch(folder, epoch, started):
    """Wait until an epoch is printed."""
    deadline = time.monotonic() + PATIENCE
    while f"  {epoch}/" not in (folder / "process0.out").read_text():
        assert time.monotonic() < deadline
        assert [one.poll() for one in started] == [None, None], errors(folder)
        time.sleep(0.1)


def kill_in_the_second_epoch(folder, arguments, victim):
    """Kill a process after an epoch, and assert that the other one ends with one line."""
    with processes(folder, arguments) as started:
        wait_for_epoch(folder, 1, started)
        started[victim].kill()  # SIGKILL
        assert started[1 - victim].wait(timeout=10) == 2
    assert errors(folder)[1 - victim] == (
        f"error: Process {victim} of 2 ({socket.gethostname()}) is gone. Start all processes again "
        "with --resume.\n"
    )
    assert not (folder / "run").exists()


@needs_jax
@pytest.mark.slow
def test_the_end_of_process_1_ends_process_0(tmp_path, digits, data_dir):
    kill_in_the_second_epoch(tmp_path, [*LONG, "--data-dir", data_dir], 1)


@needs_jax
@pytest.mark.slow
def test_a_killed_run_is_resumed_with_any_number_of_processes(tmp_path, digits, data_dir):
    arguments = [*LONG, "--data-dir", data_dir]
    kill_in_the_second_epoch(tmp_path / "killed", arguments, 0)
    (partial,) = (path for path in (tmp_path / "killed").iterdir() if path.is_dir())
    shutil.copytree(partial, tmp_path / partial.name)
    with processes(tmp_path / "unkilled", arguments) as started:
        assert wait(started) == [0, 0], errors(tmp_path / "unkilled")
    with processes(tmp_path / "killed", [*arguments, "--resume"]) as started:
        assert wait(started) == [0, 0], errors(tmp_path / "killed")
    resumed, expected = tmp_path / "killed" / "run", tmp_path / "unkilled" / "run"
    assert_same_bits(resumed, expected)
    assert history_of(resumed) == history_of(expected)
    alone = start([*arguments, "--resume", "--output", tmp_path / "run"], tmp_path)
    assert wait([alone]) == [0], (tmp_path / "out.err").read_text()
    assert_near(tmp_path / "run", expected)


@needs_jax
@pytest.mark.slow
def test_phases_and_early_stopping_in_two_processes(tmp_path, digits, data_dir, in_two_processes):
    arguments = [
        *("quickstart", "--epochs", "4", "--learning-rate", "0.001", "--precision", "float32"),
        *("--freeze", "backbone", "--freeze-epochs", "1", "--patience", "1"),
        *("--weights", in_two_processes / "run", "--data-dir", data_dir),
    ]
    with processes(tmp_path / "two", arguments) as started:
        assert wait(started) == [0, 0], errors(tmp_path / "two")
    alone = start([*arguments, "--output", tmp_path / "one"], tmp_path)
    assert wait([alone]) == [0], (tmp_path / "out.err").read_text()
    assert_near(tmp_path / "two" / "run", tmp_path / "one")
    assert len(history_of(tmp_path / "two" / "run")) == len(history_of(tmp_path / "one"))


# --- bad input ---


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (
            {1: ["--seed", "1"]},
            "All processes must have the same option seed. Received: other option seed",
        ),
        (
            {0: ["--dataset", "a.npz"], 1: ["--dataset", "missing.npz"]},
            "missing.npz",
        ),
        (
            {0: ["--dataset", "a.npz"], 1: ["--dataset", "b.npz"]},
            "All processes must have the same data. Received: other data in process 1",
        ),
        ({0: ["--batch-size", "31"], 1: ["--batch-size", "31"]}, "Pass 30 or 32 (--batch-size)"),
        ({0: ["--devices", "2"], 1: ["--devices", "2"]}, "`devices` must be at most 1"),
    ],
)
def test_bad_input_ends_all_processes_with_one_line(each, expected, tmp_path, digits, data_dir):
    for name, seed in (("a", 0), ("b", 1)):
        rng = np.random.default_rng(seed)
        arrays = {
            f"x_{split}": rng.integers(0, 256, (99, 8, 8, 1)).astype("uint8")
            for split in ("train", "test")
        }
        arrays |= {f"y_{split}": np.arange(99) % 3 for split in ("train", "test")}
        np.savez(tmp_path / f"{name}.npz", **arrays)
    with processes(tmp_path, [*RUN, "--data-dir", data_dir], each=each) as started:
        assert wait(started) == [2, 2], errors(tmp_path)
    for text in errors(tmp_path):
        assert len(text.splitlines()) == 1
        assert text.startswith("error: ")
        assert expected in text
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.glob("*partial*"))


@needs_jax
@pytest.mark.slow
def test_all_learn_that_process_0_cannot_write(tmp_path, digits, data_dir):
    (tmp_path / "run").write_text("not a directory")
    with processes(tmp_path, [*RUN, "--data-dir", data_dir]) as started:
        assert wait(started) == [2, 2]
    first, second = errors(tmp_path)
    assert len(first.splitlines()) == len(second.splitlines()) == 1
    assert second.startswith(f"error: Process 0 of 2 ({socket.gethostname()}): ")


@needs_jax
@pytest.mark.slow
@pytest.mark.parametrize("process", [0, 1])
def test_a_coordinator_that_does_not_answer(process, tmp_path):
    code = (
        "import sys, runpy; from keras_arch.training import processes; processes.START_LIMIT = 3;"
        f"sys.argv[0] = 'train.py'; runpy.run_path({str(ROOT / 'scripts' / 'train.py')!r},"
        "run_name='__main__')"
    )
    address = f"127.0.0.1:{free_port()}"
    options = ["--coordinator", address, "--processes", 2, "--process", process]
    started = start([*RUN, *options], tmp_path, code=code)
    assert wait([started], 120) == [2]
    missing = "Process 0" if process else "Another process"
    text = (tmp_path / "out.err").read_text()
    assert text.startswith(f"error: {missing} did not answer within 3 seconds. Received: ")
    assert address in text
    assert len(text.splitlines()) == 1
    assert len(text) < 300


@needs_jax
@pytest.mark.slow
def test_a_port_in_use_and_no_cluster_are_refused(tmp_path):
    with socket.create_server(("", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        options = ["--coordinator", address, "--processes", 2, "--process", 0]
        assert wait([start([*RUN, *options], tmp_path)], 120) == [2]
    text = (tmp_path / "out.err").read_text()
    assert text == (
        f"error: Process 0 cannot listen on the port of {address}. Received: Address already in "
        "use. Pass another port to all processes.\n"
    )
    assert wait([start([*RUN, "--coordinator", "auto"], tmp_path)], 120) == [2]
    text = (tmp_path / "out.err").read_text()
    assert text.startswith("error: --coordinator auto needs SLURM, Kubernetes, Open MPI or a TPU")
    assert len(text.splitlines()) == 1


@needs_jax
@pytest.mark.slow
def test_slurm_is_detected(tmp_path, digits, data_dir):
    """The variables are those that srun sets. Process 1 is on the same machine."""
    slurm = {
        "SLURM_JOB_ID": str(20_000 + os.getpid() % 4096),  # chooses the port
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
    }
    started = [
        start(
            [*RUN, "--output", tmp_path / "run", "--data-dir", data_dir, "--coordinator", "auto"],
            tmp_path,
            f"process{process}",
            SLURM_PROCID=str(process),
            SLURM_LOCALID="0",
            **slurm,
        )
        for process in range(2)
    ]
    try:
        assert wait(started) == [0, 0], errors(tmp_path)
    finally:
        for one in started:
            one.kill()
    assert read_run(tmp_path / "run")["devices"]["processes"] == 2


@needs_jax
@pytest.mark.slow
def test_more_devices_than_there_are(tmp_path):
    assert wait([start([*RUN, "--devices", "3"], tmp_path, **TWO_DEVICES)], 120) == [2]
    assert (tmp_path / "out.err").read_text() == (
        "error: `devices` must be at most 2, the number of devices that JAX has (cpu). Received: "
        "devices=3. Pass --devices all.\n"
    )
