"""What tests with a real etcd stand on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.gateways import PASSWORDS
from support.etcd import Cluster, Tls, make_certificates, missing_etcd, start_etcd


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority of their own."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(scope="module")
def secured(certificates: Path) -> Iterator[Cluster]:
    """One member for a module, that wants client certificates and has users: `hmret` may use `/hmret/`."""
    reason = missing_etcd()
    if reason:
        pytest.skip(reason)
    with start_etcd(tls=Tls(certificates, wants_client=True)) as cluster:
        for command in (
            ("user", "add", f"root:{PASSWORDS['root']}"),
            ("user", "grant-role", "root", "root"),
            ("role", "add", "hmret"),
            ("role", "grant-permission", "hmret", "--prefix=true", "readwrite", "/hmret/"),
            ("user", "add", f"hmret:{PASSWORDS['hmret']}"),
            ("user", "grant-role", "hmret", "hmret"),
            ("auth", "enable"),
        ):
            cluster.ctl(*command)
        yield cluster
