"""Keys that are not read and resemble one that is: warned of with their line, and hypeman's own are not."""

from pathlib import Path

import pytest

from hmret.model.errors import ConfigError
from hmret.settings.load import load_settings
from settings.loading import Load, changed

HYPEMANS = """\
jwt_secret: x
port: 8080
version: "1"
env: dev
hypervisor: {default: qemu, memory: {enabled: false}}
auto_standby: {max_concurrent: 16}
network: {bridge_name: vmbr0}
logging: {level: info}
images:
  auto_delete: {enabled: false}
  oci_cache_gc: {enabled: false, interval: 1h}
  cache: 1
instances: {lifecycle_event_buffer_size: 1}
caddy: {admin_port: 0}
acme: {email: a@b.c}
metrics: {port: 9464}
otel: {enabled: false}
registry: {url: localhost:8080, insecure: true}
build: {builder_image: "", timeout: 600}
limits: {max_image_storage: 0.2}
capacity: {disk: 500GB}
oversubscription: {cpu: 4.0}
server: {port: 8080}
snapshots: {}
volumes: {}
cloudflare: {}
1: number
? [a, list]
: as a key
"""


def slips(load: Load, content: str) -> list[str]:
    """What is said of keys that are not read, without the folder of the file."""
    warnings = [one for one in load(content).warnings if "not read" in one]
    assert all(one.startswith("/") and one.isprintable() for one in warnings)
    return [one.partition("config.yaml:")[2] for one in warnings]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("hmert: {pinned: ['*']}", "1: hmert: not read; did you mean hmret?"),
        ("\nhmrets: {pinned: ['*']}", "2: hmrets: not read; did you mean hmret?"),
        ("hmrt:", "1: hmrt: not read; did you mean hmret?"),
        ("HMRET: {}", "1: HMRET: not read; did you mean hmret?"),
        ("'hmret ': {}", "1: hmret : not read; did you mean hmret?"),
        ("image: {auto_delete: {}}", "1: image: not read; did you mean images?"),
        ("datadir: /srv", "1: datadir: not read; did you mean data_dir?"),
        ("regsitry: {}", "1: regsitry: not read; did you mean registry?"),
        ("images:\n  autodelete: {}", "2: images.autodelete: not read; did you mean images.auto_delete?"),
        ("images:\n  auto_delet: {}", "2: images.auto_delet: not read; did you mean images.auto_delete?"),
        ("images:\n  autoDelete: {}", "2: images.autoDelete: not read; did you mean images.auto_delete?"),
    ],
)
def test_a_section_that_is_misspelt_is_warned_of(load: Load, content: str, told: str) -> None:
    assert slips(load, content) == [told]
    assert not changed(load(content))


def test_each_misspelt_section_is_warned_of_beside_the_right_one(load: Load) -> None:
    content = "hmret: {keep_latest: 1}\nhmert: {}\nimages: {auto_delet: {}, auto_delete: {}}\n"
    assert slips(load, content) == [
        "2: hmert: not read; did you mean hmret?",
        "3: images.auto_delet: not read; did you mean images.auto_delete?",
    ]


@pytest.mark.parametrize(
    "content", [HYPEMANS, "", "images:\n", "images: {}\n", "x: &x {hmert: 1}\n<<: *x\n", "a: 1"]
)
def test_keys_of_hypemans_own_are_not_warned_of(load: Load, content: str) -> None:
    assert slips(load, content) == []


def test_a_long_or_unprintable_key_is_shown_in_one_short_line(load: Load) -> None:
    (told,) = slips(load, '"hmre\\nt": {}')
    assert told == r"1: hmre\nt: not read; did you mean hmret?"
    assert slips(load, f"hmret{'t' * 500}: {{}}") == []


def test_in_a_file_of_hmrets_own_it_is_an_error_as_ever(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("hmert: {}\n")
    with pytest.raises(ConfigError, match="hmert: unknown, did you mean hmret"):
        load_settings(config_file=None, environment={}, flags={}, default_files=(), own_file=str(own))
