"""Watch the processes of a training. If one ends early, all end, with one line each.

JAX notices the end of a process late and without a name. Here, each process keeps a TCP connection
to process 0. A connection that closes without a goodbye means that the process is gone. A line is
an error message, which process 0 passes on to all. The operating system probes silent connections,
so that a machine without power is also noticed.
"""

import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

GOODBYE, WELCOME = "goodbye", b"welcome\n"
# The system closes a connection whose machine does not answer for 5 + 3 * 5 seconds.
KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
LINGER = 1.0  # seconds in which the others read a message before process 0 and its service end
MAX_INTRODUCTION = 400  # characters
PATIENCE = 10.0  # seconds to connect to one address, or to introduce oneself


def leave(message: str) -> NoReturn:
    """Print an error message as one line and end this process, which may wait for others."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.write(f"error: {' '.join(message.split())}\n")
        sys.stderr.flush()
    os._exit(2)


@dataclass
class Peer:
    """A process at the other end of a connection."""

    name: str
    """Its number and machine, such as "Process 1 of 2 (node7)"."""
    connection: socket.socket
    finished: threading.Event = field(default_factory=threading.Event)


class Watch:
    """The connections of a process: of process 0 to all others, of others to process 0.

    Args:
        peers: the processes at the other ends.
        passes_on: whether this is process 0, which passes on messages.
        leave: function that ends this process with a message.
    """

    def __init__(
        self, peers: list[Peer], passes_on: bool, leave: Callable[[str], object] = leave
    ) -> None:
        self.peers, self.passes_on, self.leave = peers, passes_on, leave
        self.failed = threading.Lock()
        for peer in peers:
            threading.Thread(target=self.follow, args=(peer,), daemon=True).start()

    def follow(self, peer: Peer) -> None:
        """Wait for the only line of a peer: its goodbye or an error message."""
        try:
            with peer.connection.makefile() as lines:
                line = lines.readline().strip()
        except OSError:
            line = ""
        if line == GOODBYE:
            peer.finished.set()
        elif self.report(
            message := line or f"{peer.name} is gone. Start all processes again with --resume."
        ):
            self.leave(message)

    def report(self, message: str) -> bool:
        """Send an error message to the peers. Return False if one was sent or received before."""
        if not self.failed.acquire(blocking=False):
            return False
        self.send(message)
        if self.passes_on:
            time.sleep(LINGER)
        return True

    def finish(self) -> None:
        """Say goodbye, and wait until each peer does."""
        self.send(GOODBYE)
        for peer in self.peers:
            peer.finished.wait()
        self.close()

    def close(self) -> None:
        for peer in self.peers:
            peer.connection.close()

    def send(self, line: str) -> None:
        for peer in self.peers:
            with suppress(OSError):
                peer.connection.sendall(f"{' '.join(line.split())}\n".encode())


def process_name(index: int, count: int, machine: str) -> str:
    return f"Process {index} of {count} ({machine})"


def open_door(hosts: list[str]) -> tuple[socket.socket, dict]:
    """Listen on a free port. Return the socket and what the other processes need to connect."""
    server = socket.create_server(("", 0))
    keep_alive(server)
    return server, {
        "hosts": hosts,
        "port": server.getsockname()[1],
        "token": secrets.token_hex(16),
        "machine": socket.gethostname(),
    }


def welcome(server: socket.socket, token: str, count: int) -> Watch:
    """Return the `Watch` of process 0 when all other processes are connected."""
    peers: dict[int, Peer] = {}
    with server:
        while len(peers) < count - 1:
            connection, _ = server.accept()
            try:
                index, machine = read_introduction(connection, token)
            except (OSError, ValueError):  # a stranger, such as a port scanner
                connection.close()
                continue
            peers[index] = Peer(process_name(index, count, machine), connection)
    return Watch(list(peers.values()), passes_on=True)


def read_introduction(connection: socket.socket, token: str) -> tuple[int, str]:
    """Return the number and the machine of a process, and welcome it."""
    connection.settimeout(PATIENCE)
    with connection.makefile() as lines:
        given, index, machine = lines.readline(MAX_INTRODUCTION).split()
    if not secrets.compare_digest(given.encode(), token.encode()):
        raise ValueError("another token")
    connection.sendall(WELCOME)
    connection.settimeout(None)
    return int(index), machine


def connect(door: dict, index: int, count: int) -> Watch:
    """Return the `Watch` of another process, connected to the first host that answers."""
    for host in door["hosts"]:
        with suppress(OSError):
            connection = socket.create_connection((host, door["port"]), PATIENCE)
            connection.sendall(f"{door['token']} {index} {socket.gethostname()}\n".encode())
            if connection.recv(len(WELCOME), socket.MSG_WAITALL) != WELCOME:
                connection.close()  # another service at this address of another machine
                continue
            connection.settimeout(None)
            keep_alive(connection)
            return Watch([Peer(process_name(0, count, door["machine"]), connection)], False)
    raise ConnectionError(
        f"Process 0 cannot be reached at {', '.join(door['hosts'])}, port {door['port']}. "
        "Open the ports between the machines."
    )


def keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
