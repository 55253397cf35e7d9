"""The watch of the processes, in threads of one process over 127.0.0.1."""

import contextlib
import socket
import threading
import time

import pytest

from keras_arch.training import watch


@pytest.fixture(autouse=True)
def short_lingering(monkeypatch):
    monkeypatch.setattr(watch, "LINGER", 0.0)


@pytest.fixture
def trio():
    """Connect three processes. Return their watches and what each left with."""
    server, door = watch.open_door(["127.0.0.1"])
    watches = {}

    def join(index):
        watches[index] = watch.connect(door, index, 3)

    threads = [threading.Thread(target=join, args=(index,), daemon=True) for index in (2, 1)]
    for thread in threads:
        thread.start()
    watches[0] = watch.welcome(server, door["token"], 3)
    for thread in threads:
        thread.join(10)
    left = {}
    for index, one in watches.items():
        one.leave = lambda message, index=index: left.setdefault(index, message)
    yield [watches[index] for index in range(3)], left
    for one in watches.values():
        one.leave = lambda message: None
        die(one)
        one.close()


def wait_for(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def die(one):
    """Close the connections of a process without a goodbye, as the system does."""
    one.failed.acquire(blocking=False)  # a dead process reports nothing
    for peer in one.peers:
        with contextlib.suppress(OSError):
            peer.connection.shutdown(socket.SHUT_RDWR)


def test_all_learn_which_process_is_gone(trio):
    (first, _, last), left = trio
    die(last)
    wait_for(lambda: set(left) == {0, 1})
    machine = socket.gethostname()
    expected = f"Process 2 of 3 ({machine}) is gone. Start all processes again with --resume."
    assert left[0] == left[1] == expected
    assert not first.report("another error")  # one line for each process


def test_all_learn_that_process_0_is_gone(trio):
    (first, _, _), left = trio
    die(first)
    wait_for(lambda: {1, 2} <= set(left))
    assert left[1] == left[2]
    assert left[1].startswith(f"Process 0 of 3 ({socket.gethostname()}) is gone.")


@pytest.mark.parametrize("origin", [0, 1])
def test_an_error_message_reaches_the_other_processes_once(trio, origin):
    watches, left = trio
    assert watches[origin].report("Process x: no such\ndata set.")
    others = {0, 1, 2} - {origin}
    wait_for(lambda: set(left) == others)
    time.sleep(0.05)
    assert left == dict.fromkeys(others, "Process x: no such data set.")


def test_a_process_ends_when_all_say_goodbye(trio):
    (first, second, third), left = trio
    threads = [threading.Thread(target=one.finish, daemon=True) for one in (second, third)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    assert all(thread.is_alive() for thread in threads)  # process 0 still evaluates
    first.finish()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    die(second)
    time.sleep(0.05)
    assert left == {}


def test_strangers_are_refused():
    server, door = watch.open_door(["127.0.0.1"])
    found = []
    thread = threading.Thread(
        target=lambda: found.append(watch.welcome(server, door["token"], 2)), daemon=True
    )
    with socket.create_connection(("127.0.0.1", door["port"])) as stranger:
        stranger.sendall(b"wrong 1 stranger\n")
        thread.start()
        assert stranger.recv(1) == b""
    joined = watch.connect(door, 1, 2)
    thread.join(10)
    assert [peer.name.split(" (")[0] for peer in found[0].peers] == ["Process 1 of 2"]
    for one in (*found, joined):  # first: the end of one ends the other
        one.leave = lambda message: None
    for one in (*found, joined):
        die(one)
        one.close()


def test_another_service_at_the_address_is_not_process_0():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            accepted, _ = other.accept()
            with accepted:
                accepted.sendall(b"HTTP/1.1 400 Bad Request")

        threading.Thread(target=answer, daemon=True).start()
        door = {"port": other.getsockname()[1], "hosts": ["127.0.0.1"], "token": "x"}
        with pytest.raises(ConnectionError, match="Open the ports"):
            watch.connect(door | {"machine": "node7"}, 1, 2)


def test_a_machine_without_power_is_noticed_within_20_seconds():
    server, _ = watch.open_door([])
    with server:
        for name, value in watch.KEEPALIVE.items():
            assert server.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
        assert server.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        with socket.create_connection(server.getsockname()):
            accepted, _ = server.accept()
            with accepted:  # inherits the options
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 5
    keepalive = watch.KEEPALIVE
    assert keepalive["TCP_KEEPIDLE"] + keepalive["TCP_KEEPINTVL"] * keepalive["TCP_KEEPCNT"] == 20
