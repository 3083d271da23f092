"""Which config files are read, and what becomes of those that keep a reader waiting, are empty, or have gone."""

import os
import pathlib
import threading
from collections.abc import Mapping
from typing import Any

import pytest

from hmret.model.errors import ConfigError
from hmret.model.unavailable import UnavailableError
from hmret.settings.config_files import find_config_files, in_home
from hmret.settings.load import Settings, load_settings
from support.patience import PATIENCE

PINNED = "hmret: {pinned: ['ghcr.io/acme/*']}\n"


def load(*, named: object = None, environment: Mapping[str, str] | None = None, **keywords: Any) -> Settings:
    keywords = {"default_files": (), "own_file": None, **keywords}
    config_file = None if named is None else str(named)
    return load_settings(config_file=config_file, environment=environment or {}, flags={}, **keywords)


def complaint(**keywords: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**keywords)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Which are read.


@pytest.fixture
def files(tmp_path: pathlib.Path) -> dict[str, str]:
    """One file for each place at which one can be, each with a data directory of its own."""
    paths = {}
    for name in ("named", "hmret", "hypeman", "etc", "home"):
        path = tmp_path / name / "hypeman.yaml"
        path.parent.mkdir()
        path.write_text(f"data_dir: /{name}\n")
        paths[name] = str(path)
    return paths


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"named", "hmret", "hypeman"}, "/named"),
        ({"hmret", "hypeman"}, "/hmret"),
        ({"hypeman"}, "/hypeman"),
        (set(), "/etc"),
    ],
)
def test_the_first_that_is_given_or_there_is_read(
    files: dict[str, str], given: set[str], expected: str
) -> None:
    environment = {
        "HMRET_CONFIG": files["hmret"] if "hmret" in given else "",
        "CONFIG_PATH": files["hypeman"] if "hypeman" in given else "",
    }
    named = files["named"] if "named" in given else None
    loaded = load(named=named, environment=environment, default_files=(files["etc"], files["home"]))
    assert loaded.config.data_dir == expected


def test_hypemans_second_place_is_in_the_home_of_the_user(tmp_path: pathlib.Path) -> None:
    path = tmp_path / ".config/hypeman/config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("data_dir: /srv\n")
    loaded = load(
        environment={"HOME": str(tmp_path)}, default_files=("/nowhere.yaml", "~/.config/hypeman/config.yaml")
    )
    assert (loaded.config.data_dir, *loaded.config_files) == ("/srv", str(path))


def test_who_has_no_home_has_no_file_there_and_cannot_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # As it answers where neither the variable nor the user's entry tells.
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    assert load(default_files=("~/.config/hypeman/config.yaml",)).config_files == {}
    assert complaint(named="~/config.yaml").endswith("~/ needs the variable HOME, which is not set")


@pytest.mark.parametrize("variable", ["HMRET_CONFIG", "CONFIG_PATH"])
def test_a_file_that_a_variable_names_is_never_passed_over(files: dict[str, str], variable: str) -> None:
    with pytest.raises(UnavailableError, match="gone: expected a readable file, got no such file"):
        load(environment={variable: "/gone"}, default_files=(files["etc"],))


@pytest.mark.parametrize(
    ("path", "home", "expected"),
    [
        ("~/data", "/home/x", "/home/x/data"),
        ("~/data", "/home/x/", "/home/x/data"),
        ("~", "/home/x", "/home/x"),
        ("~x/data", "/home/x", "~x/data"),
        ("/srv/~/data", "/home/x", "/srv/~/data"),
    ],
)
def test_the_home_of_the_user_is_put_in_the_place_of_the_tilde(path: str, home: str, expected: str) -> None:
    assert in_home(path, {"HOME": home}) == expected


def test_paths_in_settings_may_lie_in_the_home_of_the_user(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("data_dir: ~/data\nhmret: {control_socket: ~/hmret.sock}\n")
    loaded = load(named="~/config.yaml", environment={"HOME": str(tmp_path)})
    assert loaded.config.data_dir == f"{tmp_path}/data"
    assert loaded.config.control_socket == f"{tmp_path}/hmret.sock"
    assert loaded.values["data_dir"].value == f"{tmp_path}/data"


# A file of our own beside hypeman's.


def test_our_own_file_is_read_beside_hypemans(files: dict[str, str], tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(PINNED)
    loaded = load(default_files=(files["etc"],), own_file=str(own))
    assert (loaded.config.data_dir, loaded.config.pinned) == ("/etc", ("ghcr.io/acme/*",))
    assert list(loaded.config_files) == [files["etc"], str(own)]
    assert load(own_file=str(own)).config.pinned == ("ghcr.io/acme/*",)
    shared = load(environment={"CONFIG_PATH": files["hypeman"]}, own_file=str(own))
    assert shared.config.pinned == ("ghcr.io/acme/*",)


def test_our_own_file_is_not_read_where_the_one_file_is_named(
    files: dict[str, str], tmp_path: pathlib.Path
) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(PINNED)
    assert load(named=files["named"], own_file=str(own)).config.pinned == ()
    assert load(environment={"HMRET_CONFIG": files["hmret"]}, own_file=str(own)).config.pinned == ()


def test_a_key_in_both_files_is_refused_with_both_places(tmp_path: pathlib.Path) -> None:
    (tmp_path / "one").write_text("x: 1\n" + PINNED)
    (tmp_path / "own").write_text("hmret:\n  journal: true\n  pinned: []\n")
    told = complaint(default_files=(str(tmp_path / "one"),), own_file=str(tmp_path / "own"))
    assert told == (
        f"{tmp_path}/own:3: hmret.pinned: set in two files; also at {tmp_path}/one:2: hmret.pinned"
    )


def test_nothing_but_our_keys_belongs_in_our_own_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "own").write_text("hmrte: {pinned: [x]}\n")
    told = complaint(own_file=str(tmp_path / "own"))
    assert told.startswith(f"{tmp_path}/own:1: hmrte: unknown, did you mean hmret?")


# What is set and empty.


@pytest.mark.parametrize(
    "variable",
    [
        *("DATA_DIR", "REGISTRY__URL", "BUILD__BUILDER_IMAGE", "IMAGES__AUTO_DELETE__ENABLED"),
        *("IMAGES__AUTO_DELETE__UNUSED_FOR", "IMAGES__AUTO_DELETE__ALLOWED", "HMRET__ENABLED"),
        *("HMRET__SWEEP_INTERVAL", "HMRET__PINNED", "HMRET__RULES", "HMRET__KEEP_LATEST", "HMRET__MIN_AGE"),
        *("HMRET__MAX_DELETES_PER_SWEEP", "HMRET__DISK__MAX_USED", "HMRET__DISK__COUNT", "HMRET__DISK"),
        *("HMRET__WINDOW__HOURS", "HMRET__WINDOW__TIME_ZONE", "HMRET__QUARANTINE", "HMRET__JOURNAL"),
        *("HMRET__UNREADABLE_REFERENCES", "HMRET__CONTROL_SOCKET", "HMRET__METRICS_LISTEN"),
    ],
)
def test_a_variable_that_is_empty_is_not_given(tmp_path: pathlib.Path, variable: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        """\
data_dir: /srv
registry: {url: "reg.local:5000"}
build: {builder_image: reg.local/b:1}
images: {auto_delete: {enabled: true, unused_for: 48h, allowed: ["*"]}}
hmret:
  enabled: true
  sweep_interval: 5m
  pinned: ["ghcr.io/acme/*"]
  rules: [{match: ["ghcr.io/*"], unused_for: never}]
  keep_latest: 3
  min_age: 1h
  max_deletes_per_sweep: 7
  disk: {max_used: 18%, count: apparent}
  window: {hours: ["02:00-05:00"], time_zone: Europe/Berlin}
  quarantine: 24h
  unreadable_references: ignore
  control_socket: /run/x.sock
  metrics_listen: 127.0.0.1:9874
  journal: false
"""
    )
    without, given = load(named=path), load(named=path, environment={variable: ""})
    assert (given.config, given.values) == (without.config, without.values)


# What keeps a reader waiting.


def test_a_pipe_is_read_up_to_its_end(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadThat(lambda: (tmp_path / "pipe").write_text(PINNED * 1)):
        assert load(named=tmp_path / "pipe").config.pinned == ("ghcr.io/acme/*",)


class ThreadThat(threading.Thread):
    """A thread that does something while the block lasts."""

    def __init__(self, work: Any) -> None:
        super().__init__(target=work, daemon=True)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.join(PATIENCE)
        assert not self.is_alive()


def test_a_pipe_that_nobody_writes_is_not_waited_for_for_ever(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="pipe: timed out waiting for input"):
        find_config_files(
            str(tmp_path / "pipe"), {}, hypeman_files=(), own_file=None, regular_only=False, pipe_seconds=0
        )


# A reload.


@pytest.mark.parametrize(
    ("kind", "told"), [("pipe", "a pipe"), ("folder", "a folder"), ("device", "a device")]
)
def test_what_is_no_regular_file_is_refused_at_a_reload_without_a_look_into_it(
    tmp_path: pathlib.Path, kind: str, told: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(PINNED)
    earlier = load(named=path)
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert complaint(named=path, earlier=earlier) == f"{path}: expected a regular file, got {told}"


@pytest.mark.parametrize("content", ["", "\n", "# nothing\n", "---\n", "~\n"])
def test_a_file_that_has_become_empty_is_refused_at_a_reload(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(PINNED)
    earlier = load(named=path)
    path.write_text(content)
    assert complaint(named=path, earlier=earlier) == (
        f"{path}: expected settings, got a file that has become empty"
    )
    assert load(named=path).config.pinned == ()


def test_a_file_that_was_empty_before_may_stay_so(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.yaml"
    path.touch()
    earlier = load(named=path)
    assert load(named=path, earlier=earlier).config == earlier.config


@pytest.mark.parametrize("other_comes", [False, True])
def test_a_file_that_has_gone_is_refused_at_a_reload(tmp_path: pathlib.Path, other_comes: bool) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(PINNED)
    earlier = load(default_files=(str(first), str(second)))
    first.unlink()
    if other_comes:
        second.write_text("data_dir: /srv\n")
    told = complaint(default_files=(str(first), str(second)), earlier=earlier)
    assert told == f"{first}: expected the config file that was read before, got none"


def test_our_own_file_must_not_vanish_either(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own"
    own.write_text(PINNED)
    earlier = load(own_file=str(own))
    own.unlink()
    assert "got none" in complaint(own_file=str(own), earlier=earlier)


def test_a_file_that_comes_at_a_reload_is_taken(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "config.yaml"
    earlier = load(default_files=(str(path),))
    path.write_text(PINNED)
    assert load(default_files=(str(path),), earlier=earlier).config.pinned == ("ghcr.io/acme/*",)


# hypeman's own notation.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(
            ("'true'", True),
            ('"t"', True),
            ("1", True),
            ("'1'", True),
            ("2", True),
            ("1.5", True),
            ("T", True),
        ),
        *(("'false'", False), ("0", False), ("'0'", False), ("0.0", False), ("''", False), ("-1", True)),
    ],
)
def test_a_boolean_of_hypemans_may_be_quoted_or_a_number(
    tmp_path: pathlib.Path, text: str, expected: bool
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"images: {{auto_delete: {{enabled: {text}}}}}\n")
    assert load(named=path).config.auto_delete.enabled is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'quay.io/*, ghcr.io/*'", ("quay.io/*", "ghcr.io/*")),
        ("'*'", ("*",)),
        ("ghcr.io/acme/app", ("ghcr.io/acme/app",)),
        ("''", ()),
        ("[]", ()),
    ],
)
def test_a_list_of_hypemans_may_be_a_text_with_commas(
    tmp_path: pathlib.Path, text: str, expected: tuple[str, ...]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"images: {{auto_delete: {{allowed: {text}}}}}\n")
    assert load(named=path).config.auto_delete.allowed == expected
