"""A cluster of etcd whose members have network namespaces of their own, so that they can be cut off from each other.

Each member has a link to each other one, over which members speak, and one to the namespace of the tests, for clients.
"""

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from support.children import run_program
from support.etcd import Cluster, Member, room

__all__ = ["Network", "missing_namespaces", "start_divisible_etcd"]

_SIZE = 3


def missing_namespaces() -> str:
    """Return why there can be no network namespaces here; empty: there can."""
    if os.geteuid() != 0:
        return "network namespaces are for root only"
    if shutil.which("ip") is None:
        return "network namespaces need ip, of iproute2"
    name = f"hmret{os.getpid()}x"
    try:
        with _namespace(name):
            _ip("-n", name, "link", "add", "hmretx0", "type", "veth", "peer", "name", "hmretx1")
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made here: {error.stderr.strip()}"
    return ""


def _ip(*arguments: str) -> None:
    run_program(["ip", *arguments], check=True)


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _ip("netns", "add", name)
    try:
        yield
    finally:
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "del", name)


class Network:
    """The links between members, by their numbers."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        # Of a range that is set aside for measurements, so that no host has it.
        self._subnet = f"198.18.{os.getpid() % 256}"

    def namespace(self, member: int) -> str:
        """Return the name of a member's namespace."""
        return f"{self._prefix}m{member}"

    def client_address(self, member: int) -> str:
        """Return the address at which clients reach a member."""
        return f"{self._subnet}.{4 * member + 2}"

    @staticmethod
    def peer_address(member: int) -> str:
        """Return the address at which the other members reach a member."""
        return f"198.19.0.{member + 1}"

    def make(self) -> None:
        """Make all links."""
        for member in range(_SIZE):
            space, outside = self.namespace(member), f"{self._prefix}c{member}"
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "addr", "add", f"{self.peer_address(member)}/32", "dev", "lo")
            _ip("link", "add", outside, "type", "veth", "peer", "name", "clients", "netns", space)
            _ip("addr", "add", f"{self._subnet}.{4 * member + 1}/30", "dev", outside)
            _ip("link", "set", outside, "up")
            _ip("-n", space, "addr", "add", f"{self.client_address(member)}/30", "dev", "clients")
            _ip("-n", space, "link", "set", "clients", "up")
        for one, other in itertools.combinations(range(_SIZE), 2):
            names = [self.namespace(one), self.namespace(other)]
            _ip(
                "-n",
                names[0],
                "link",
                "add",
                f"to{other}",
                "type",
                "veth",
                "peer",
                "name",
                f"to{one}",
                "netns",
                names[1],
            )
            self.join(one, other)

    def join(self, one: int, other: int) -> None:
        """Have two members reach each other."""
        for here, there in ((one, other), (other, one)):
            space, device = self.namespace(here), f"to{there}"
            _ip("-n", space, "link", "set", device, "up")
            address = self.peer_address(there)
            _ip("-n", space, "route", "replace", address, "dev", device, "src", self.peer_address(here))

    def cut(self, one: int, other: int) -> None:
        """Have two members reach each other no more: what they send is lost."""
        _ip("-n", self.namespace(one), "link", "set", f"to{other}", "down")

    def isolate(self, member: int) -> None:
        """Cut a member off from all others; clients reach it."""
        for other in set(range(_SIZE)) - {member}:
            self.cut(member, other)

    def heal(self) -> None:
        """Have all members reach each other."""
        for one, other in itertools.combinations(range(_SIZE), 2):
            self.join(one, other)

    def cut_clients(self, member: int) -> None:
        """Have clients reach a member no more: what they send is lost."""
        _ip("-n", self.namespace(member), "link", "set", "clients", "down")

    def join_clients(self, member: int) -> None:
        """Have clients reach a member."""
        _ip("-n", self.namespace(member), "link", "set", "clients", "up")


@contextmanager
def start_divisible_etcd() -> Iterator[tuple[Cluster, Network]]:
    """Run three members in namespaces of their own while the block lasts."""
    prefix = f"hm{os.getpid() % 100_000}"
    with ExitStack() as stack:
        root = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=f"hmret-etcd-{os.getpid()}-", dir=room())
        )
        network = Network(prefix)
        for number in range(_SIZE):
            stack.enter_context(_namespace(network.namespace(number)))
        network.make()
        peers = [f"http://{network.peer_address(number)}:2380" for number in range(_SIZE)]
        everybody = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        members = []
        for number, peer in enumerate(peers):
            client = f"http://{network.client_address(number)}:2379"
            command = ["ip", "netns", "exec", network.namespace(number), "etcd", "--name", f"m{number}"]
            command += ["--data-dir", f"{root}/m{number}", "--logger", "zap"]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", everybody, "--initial-cluster-token", prefix]
            command += ["--heartbeat-interval", "100", "--election-timeout", "1000"]
            members.append(Member(f"m{number}", client, command, Path(root), is_lasting=False))
        cluster = Cluster(members, Path(root), None)
        stack.callback(cluster.kill)
        for member in members:
            member.start()
        cluster.wait()
        yield cluster, network
