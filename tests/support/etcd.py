"""Real members of etcd for tests: one, or a cluster of three, with data in memory, ended with the tests."""

import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from support.children import Child, child, lasting, run_program
from support.patience import PATIENCE

__all__ = [
    "Cluster",
    "Member",
    "Tls",
    "etcd",
    "etcd_cluster",
    "fleet_name",
    "make_certificates",
    "missing_etcd",
    "room",
    "start_etcd",
]

_numbers = itertools.count(1)
_SPEED = ("--heartbeat-interval", "100", "--election-timeout", "1000")


def missing_etcd() -> str:
    """Return why no member can be started here; empty: one can."""
    for program in ("etcd", "etcdctl"):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install -y --no-install-recommends etcd-server etcd-client"
    return ""


class Tls:
    """Certificates in a folder, and whether a client needs one."""

    def __init__(self, folder: Path, *, wants_client: bool = False) -> None:
        self.ca = folder / "ca.pem"
        self.certificate = folder / "server.pem"
        self.key = folder / "server.key"
        self.client_certificate = folder / "client.pem"
        self.client_key = folder / "client.key"
        self.wants_client = wants_client


def make_certificates(folder: Path) -> None:
    """Make an authority, and certificates: `server` for a member with TLS, `client`, and `named`, a client's with a CN."""
    names = "subjectAltName=DNS:etcd.test,IP:127.77.0.1\nextendedKeyUsage=serverAuth,clientAuth\n"
    (folder / "server.cnf").write_text(names)
    (folder / "client.cnf").write_text("extendedKeyUsage=clientAuth\n")
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    authority = ["-x509", "-days", "2", "-subj", "/CN=tests", "-keyout", "ca.key", "-out", "ca.pem"]
    run_program([*new, *authority], cwd=folder, check=True)
    for name, subject, use in (
        ("server", "/O=server", "server.cnf"),
        ("client", "/O=client", "client.cnf"),
        ("named", "/CN=client", "client.cnf"),
    ):
        request = ["-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr"]
        run_program([*new, *request], cwd=folder, check=True)
        sign = [
            "openssl",
            "x509",
            "-req",
            "-days",
            "2",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
        ]
        run_program(
            [*sign, "-in", f"{name}.csr", "-extfile", use, "-out", f"{name}.pem"], cwd=folder, check=True
        )


class Member:
    """One member: a process, which can be frozen, killed and started again on its data."""

    def __init__(
        self, name: str, address: str, command: Sequence[str], folder: Path, *, is_lasting: bool
    ) -> None:
        self.name = name
        self.endpoint = address
        self.data = folder / name
        self.command = command
        self._log = folder / f"{name}.log"
        self._start = lasting if is_lasting else child
        self._stack = ExitStack()
        self.process: Child | None = None

    def start(self) -> None:
        """Start its process; does not wait until it answers."""
        assert self.process is None
        log = self._stack.enter_context(self._log.open("ab"))
        self.process = self._stack.enter_context(
            self._start(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        )

    def kill(self) -> None:
        """End its process at once."""
        self.process = None
        self._stack.close()

    def freeze(self) -> None:
        """Have it stand still, with its connections open."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def is_standing_still(self) -> bool:
        """Whether its process is frozen."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    def last_words(self) -> str:
        """Return the end of its log."""
        return self._log.read_text(errors="replace")[-1500:] if self._log.exists() else ""


class Cluster:
    """Members that belong together."""

    def __init__(self, members: Sequence[Member], folder: Path, tls: Tls | None) -> None:
        self.members = members
        self.folder = folder
        self.tls = tls

    @property
    def endpoints(self) -> list[str]:
        """The URLs of all members."""
        return [member.endpoint for member in self.members]

    def ctl(self, *arguments: str, member: Member | None = None, user: str = "") -> str:
        """Run `etcdctl` on a member, else on all; returns what it prints."""
        endpoints = [member.endpoint] if member is not None else self.endpoints
        command = ["etcdctl", "--endpoints", ",".join(endpoints), "--command-timeout", "5s"]
        if user:
            command += ["--user", user]
        if self.tls is not None:
            command += ["--cacert", str(self.tls.ca)]
            command += ["--cert", str(self.tls.client_certificate), "--key", str(self.tls.client_key)]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        return run_program([*command, *arguments], check=True, env=environment).stdout

    def wait(self, members: Sequence[Member] | None = None) -> None:
        """Wait until each of the members, else all, answers linearizable reads."""
        for member in self.members if members is None else members:
            self._wait_for(member)

    def _wait_for(self, member: Member) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            with suppress(subprocess.CalledProcessError, OSError):
                if self.tls is not None:
                    self.ctl("endpoint", "health", member=member)
                    return
                if b'"true"' in _get(f"{member.endpoint}/health", timeout=2):
                    return
            if not member.is_running or time.monotonic() > deadline:
                pytest.fail(f"{member.name} does not answer; its log ends with: {member.last_words()}")
            time.sleep(0.02)

    def leader(self) -> Member:
        """Return the member that leads, as those that run have it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for member in self.members:
                if not member.is_running:
                    continue
                with suppress(OSError):
                    metrics = _get(f"{member.endpoint}/metrics", timeout=1)
                    if re.search(rb"^etcd_server_is_leader 1$", metrics, re.MULTILINE):
                        return member
            time.sleep(0.02)
        pytest.fail("no member leads")

    def restore(self, backup: Path) -> None:
        """Put back what `etcdctl snapshot save` has saved, with the same members, and start them; of one member."""
        (member,) = self.members
        member.kill()
        shutil.rmtree(member.data)
        values = dict(zip(member.command, member.command[1:], strict=False))
        kept = [
            "--name",
            "--data-dir",
            "--initial-cluster",
            "--initial-cluster-token",
            "--initial-advertise-peer-urls",
        ]
        self.ctl("snapshot", "restore", str(backup), *(f"{option}={values[option]}" for option in kept))
        member.start()
        self.wait()

    def kill(self) -> None:
        """End all members."""
        for member in self.members:
            member.kill()


def _get(url: str, *, timeout: float) -> bytes:
    """Read a page, that of an error too.

    Raises:
        OSError: there is no answer.
    """
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            content: bytes = answer.read()
    except urllib.error.HTTPError as error:
        # It holds the connection.
        with error:
            return error.read()
    return content


def _free_address() -> str:
    """Return an address of the loopback network that no other process is likely to use."""
    generator = random.SystemRandom()
    return f"127.{generator.randrange(64, 128)}.{generator.randrange(256)}.{generator.randrange(1, 255)}"


def _free_ports(address: str, count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in sockets]


def room() -> str | None:
    """Return a folder in memory, if it has room: a member sets aside 128 MB for its log."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 2 << 30:
        return None
    # What a session that was killed has left.
    for left in memory.glob("hmret-etcd-*"):
        owner = left.name.split("-")[2]
        if owner.isdigit() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)
    return str(memory)


@contextmanager
def start_etcd(
    size: int = 1, *, options: Sequence[str] = (), tls: Tls | None = None, is_lasting: bool = False
) -> Iterator[Cluster]:
    """Run a cluster while the block lasts, and wait until it answers.

    Args:
        size: how many members.
        options: further options of each.
        tls: certificates for its clients; between the members there is no TLS.
        is_lasting: whether it may run on when a module's tests are over.
    """
    with tempfile.TemporaryDirectory(
        prefix=f"hmret-etcd-{os.getpid()}-", dir=room(), ignore_cleanup_errors=True
    ) as root:
        folder = Path(root)
        cluster = make_cluster(folder, size, options=options, tls=tls, is_lasting=is_lasting)
        try:
            for member in cluster.members:
                member.start()
            cluster.wait()
            yield cluster
        finally:
            cluster.kill()


def make_cluster(
    folder: Path,
    size: int,
    *,
    options: Sequence[str] = (),
    tls: Tls | None = None,
    is_lasting: bool = False,
) -> Cluster:
    """Make a cluster whose members are not started yet."""
    address = "127.77.0.1" if tls is not None else _free_address()
    ports = _free_ports(address, 2 * size)
    peers = [f"http://{address}:{port}" for port in ports[:size]]
    scheme = "https" if tls is not None else "http"
    clients = [f"{scheme}://{address}:{port}" for port in ports[size:]]
    everybody = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
    members = []
    for number, (peer, client) in enumerate(zip(peers, clients, strict=True)):
        command = [
            "etcd",
            "--name",
            f"m{number}",
            "--data-dir",
            str(folder / f"m{number}"),
            "--logger",
            "zap",
        ]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", everybody, "--initial-cluster-token", folder.name, *_SPEED]
        if tls is not None:
            command += ["--cert-file", str(tls.certificate), "--key-file", str(tls.key)]
            command += ["--trusted-ca-file", str(tls.ca)] if tls.wants_client else []
            command += ["--client-cert-auth"] if tls.wants_client else []
        members.append(Member(f"m{number}", client, [*command, *options], folder, is_lasting=is_lasting))
    return Cluster(members, folder, tls)


@pytest.fixture(scope="session")
def etcd_cluster() -> Iterator[Cluster]:
    """Three members for all tests of a session; a test leaves them as it found them, and has a fleet of its own."""
    reason = missing_etcd()
    if reason:
        pytest.skip(reason)
    with start_etcd(3, is_lasting=True) as cluster:
        yield cluster


@pytest.fixture
def etcd() -> Iterator[Cluster]:
    """One member for one test, which may do with it what it likes."""
    reason = missing_etcd()
    if reason:
        pytest.skip(reason)
    with start_etcd() as cluster:
        yield cluster


@pytest.fixture
def fleet_name() -> str:
    """A fleet that no other test has."""
    return f"t{os.getpid()}-{next(_numbers)}"
