"""The commands of a fleet without an engine, on a real etcd: documents, words for people, and exit codes."""

import json
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from cli.caches import DISK_BYTES, Cache
from hmret.cli.parsing.command_table import GROUPS
from hmret.fleet.gateway import Gateway
from hmret.fleet.keys import FleetKeys, generation_key
from hmret.fleet.store import Delete, Put, Txn
from support.etcd import Cluster

Call = Callable[..., tuple[int, str, str]]

A, B, C = "a.0000000a", "b.0000000b", "c.0000000c"
REPOSITORY = "docker.io/library/alpine"
SUMMARY = (
    '{"copies":2,"bytes":8192,"due":1,"due_24h":2,"policy":"0123456789abcdef","version":"0.2.0",'
    '"last_sweep":"2026-11-29T09:59:00Z"}'
)


def digest(digit: str) -> str:
    return f"sha256:{digit * 64}"


class Fleet:
    """A fleet in a real etcd, and the command line of a host in it."""

    def __init__(self, cluster: Cluster, name: str, cache: Cache, call: Call) -> None:
        self.cluster, self.name, self.cache, self._call = cluster, name, cache, call
        self.config = cache.root.parent / "fleet.yaml"
        self.configure()

    def configure(self, **settings: object) -> None:
        fleet = {"endpoints": self.cluster.endpoints, "name": self.name, "host": "a", **settings}
        self.config.write_text(json.dumps({"data_dir": str(self.cache.root), "hmret": {"fleet": fleet}}))

    def call(self, *tokens: str) -> tuple[int, str, str]:
        return self._call("fleet", *tokens, "--config", self.config)

    def document(self, *tokens: str) -> Any:
        code, output, complaints = self.call(*tokens, "--json")
        assert complaints == ""
        self.code = code
        return json.loads(output)

    @property
    def keys(self) -> FleetKeys:
        key = generation_key(self.name)
        return FleetKeys(self.name, self.cluster.ctl("get", "--print-value-only", key).strip())

    def put(self, **values: str) -> None:
        self.transact(*(Put(key, value) for key, value in values.items()))

    def transact(self, *operations: Put | Delete) -> None:
        async def transact() -> None:
            store = Gateway(self.cluster.endpoints)
            await store.transact(Txn((), operations))
            await store.aclose()

        anyio.run(transact)

    def host(self, holder: str, *digests: str, live: bool = True) -> None:
        """Put what a host would have put."""
        keys = self.keys
        values = {keys.mark(holder): "m", keys.summary(holder): SUMMARY}
        if live:
            values |= {keys.session(holder): "m", keys.live(holder): "1"}
        for each in digests:
            values[keys.holding(each, holder)] = '{"b":4096,"t":"2026-11-01T00:00:00Z"}'
        self.put(**values)

    def own_id(self) -> None:
        """Have this data directory be the holder A."""
        own = self.cache.root / "system/hmret"
        own.mkdir(parents=True, exist_ok=True)
        (own / "cache-id").write_text("0000000a\n")


@pytest.fixture
def fleet(etcd_cluster: Cluster, fleet_name: str, cache: Cache, call: Call) -> Fleet:
    return Fleet(etcd_cluster, fleet_name, cache, call)


@pytest.fixture
def made(fleet: Fleet) -> Fleet:
    assert fleet.call("init")[0] == 0
    return fleet


# What is needed, and what is refused.

WITH_WORDS = {
    "holdings": ("alpine",),
    "set": ("tokens", "3"),
    "drain": ("a",),
    "undrain": ("a",),
    "forget": ("a",),
}


@pytest.mark.parametrize("command", GROUPS["fleet"])
def test_a_host_without_endpoints_is_told_which_setting_it_needs(
    command: str, call: Call, cache: Cache
) -> None:
    code, output, complaints = call(
        "fleet", command, *WITH_WORDS.get(command, ()), "--data-dir", cache.root, "--json"
    )
    assert (code, output) == (2, "")
    assert json.loads(complaints) == {
        "error": "hmret.fleet.endpoints: expected the URLs of etcd, which each command of the fleet needs, got none",
        "key": "hmret.fleet.endpoints",
    }


@pytest.mark.parametrize("command", sorted({*GROUPS["fleet"]} - {"init", "status"}))
def test_where_etcd_has_no_such_fleet_one_line_says_how_to_make_it(command: str, fleet: Fleet) -> None:
    code, output, complaints = fleet.call(
        command, *(digest("a"),) if command == "holdings" else WITH_WORDS.get(command, ())
    )
    assert (code, output) == (1, "")
    assert complaints == f"hmret: error: etcd has no fleet {fleet.name!r}; to create it: hmret fleet init\n"


@pytest.mark.parametrize("command", sorted({*GROUPS["fleet"]} - {"status"}))
def test_where_etcd_does_not_answer_the_command_fails_in_one_line(command: str, fleet: Fleet) -> None:
    fleet.configure(endpoints=["http://127.0.0.1:1"], timeout="100ms")
    code, output, complaints = fleet.call(
        command, *(digest("a"),) if command == "holdings" else WITH_WORDS.get(command, ())
    )
    assert (code, output, complaints.count("\n")) == (1, "", 1)
    assert "127.0.0.1:1" in complaints


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (("set", "tokens", "0"), "tokens: expected a number from 1 to 100, got '0'"),
        (("set", "min_copies", "41"), "min_copies: expected a number from 0 to 40, got '41'"),
        (("set", "budget", "0%"), "budget: expected more than nothing"),
        (("set", "paused", "true"), "paused: not a setting of a fleet"),
        (("set", "tokens"), "requires an argument"),
        (("drain",), "requires an argument"),
        (("frobnicate",), 'unknown command "fleet frobnicate"'),
        (("statu",), 'unknown command "fleet statu". Did you mean status?'),
        (("status", "extra"), "unexpected: extra"),
    ],
)
def test_misuse_ends_with_2_in_one_line(tokens: tuple[str, ...], told: str, made: Fleet) -> None:
    code, output, complaints = made.call(*tokens)
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    assert told in complaints


# Generations.


def test_a_fleet_is_made_once(fleet: Fleet) -> None:
    document = fleet.document("init")
    assert fleet.code == 0
    assert document == {"fleet": fleet.name, "generation": fleet.keys.generation}
    code, _, complaints = fleet.call("init")
    assert code == 1
    assert f"the fleet {fleet.name!r} exists already" in complaints


def test_a_reset_begins_a_new_generation_with_the_settings_of_the_old_one(made: Fleet) -> None:
    made.call("set", "tokens", "7")
    made.host(A, digest("a"))
    before = made.keys.generation
    document = made.document("reset")
    assert document == {"fleet": made.name, "generation": made.keys.generation}
    assert made.keys.generation != before
    assert made.document("status")["settings"]["tokens"] == 7
    assert made.document("holdings", digest("a"))["holders"] == []


# Looking.


def test_the_status_has_every_field_documented(made: Fleet) -> None:
    made.own_id()
    made.host(A)
    made.host(B, live=False)
    made.call("drain", "b", "--reason", "disk")
    made.put(**{made.keys.token(3): f"{A} m"})
    document = made.document("status")
    assert made.code == 1  # this host has no session
    drained = document["hosts"][1].pop("drained")
    assert (drained["reason"], "@" in drained["by"], drained["at"].endswith("Z")) == ("disk", True, True)
    etcd = document.pop("etcd")
    assert list(etcd) == ["version", "size_bytes", "quota_bytes", "alarms", "warnings"]
    assert (re.match(r"3\.\d", etcd["version"]) is not None, etcd["size_bytes"] > 0) == (True, True)
    told = {
        "last_seen": "2026-11-29T09:59:00Z",
        "copies": 2,
        "bytes": 8192,
        "due": 1,
        "due_24h": 2,
        "policy": "0123456789abcdef",
        "version": "0.2.0",
        "last_sweep": "2026-11-29T09:59:00Z",
    }
    assert document == {
        "fleet": made.name,
        "generation": made.keys.generation,
        "state": "stopped",
        "detail": f"no engine runs on {made.cache.root}: its copies do not count; to start one: hmret run",
        "host": "a",
        "holder": A,
        "last_contact": None,
        "settings": {
            "min_copies": 1,
            "budget": "5%",
            "tokens": 20,
            "canary": "1h",
            "forget_after": "720h",
            "paused": None,
        },
        "tokens_taken": [{"token": "03", "holder": A}],
        "hosts": [
            {"host": "a", "holder": A, "live": True, "drained": None, **told},
            {"host": "b", "holder": B, "live": False, **told},
        ],
    }


def test_the_status_of_a_fleet_for_people(made: Fleet) -> None:
    made.host(A)
    made.host(B, live=False)
    made.host(C)
    made.call("drain", "c")
    made.call("pause", "--reason", "the registry is down")
    code, output, complaints = made.call("status")
    assert (code, complaints) == (1, "")
    assert re.search(r"^deletion +paused by \S+@\S* at \S+Z: the registry is down$", output, re.MULTILINE)
    assert re.search(r"^hosts +3: 1 live, 1 dead, 1 drained$", output, re.MULTILINE)
    assert re.search(
        r"^settings +min_copies 1, budget 5%, tokens 20, canary 1h, forget_after 720h$", output, re.MULTILINE
    )
    assert re.search(rf"^{re.escape(B)} +dead +2 +8\.0 KiB +1 +2 +2026-11-29T09:59Z", output, re.MULTILINE)


def test_the_status_is_what_is_known_where_etcd_does_not_answer(made: Fleet) -> None:
    made.configure(endpoints=["http://127.0.0.1:1"], timeout="100ms")
    document = made.document("status")
    assert made.code == 1
    assert (document["state"], document["generation"], document["settings"], document["hosts"]) == (
        "stopped",
        None,
        None,
        [],
    )
    assert document["etcd"] == {
        "version": None,
        "size_bytes": None,
        "quota_bytes": None,
        "alarms": [],
        "warnings": [],
    }
    assert "127.0.0.1:1" in document["detail"]


def test_the_status_says_how_to_make_a_fleet(fleet: Fleet) -> None:
    document = fleet.document("status")
    assert fleet.code == 1
    assert document["detail"] == f"etcd has no fleet {fleet.name!r}; to create it: hmret fleet init"


def test_holdings_by_digest_have_every_field_documented(made: Fleet) -> None:
    made.own_id()
    each = digest("a")
    made.host(A, each)
    made.host(B, each, live=False)
    made.host(C, each)
    made.call("drain", "c")
    made.put(**{made.keys.used(each): "1790000000"})
    expected = {
        "digest": each,
        "min_copies": 1,
        "counted": 1,
        "spare": 0,
        "last_used": "2026-09-21T14:13:20Z",
        "holders": [
            {
                "host": holder[0],
                "holder": holder,
                "here": holder == A,
                "since": "2026-11-01T00:00:00Z",
                "bytes": 4096,
                "counted": why_not is None,
                "not_counted": why_not,
            }
            for holder, why_not in ((A, None), (B, "dead"), (C, "drained"))
        ],
    }
    for name in (each, "a" * 64, f"ghcr.io/o/app@{each}", f"nobody/has:this@{each}"):
        assert made.document("holdings", name) == expected
        assert made.code == 0
    _, output, _ = made.call("holdings", each)
    assert re.search(r"^counted +1 copy, 0 to spare$", output, re.MULTILINE)
    assert re.search(rf"^{re.escape(A)} \(here\) +yes +2026-11-01T00:00Z +4\.0 KiB$", output, re.MULTILINE)
    assert re.search(rf"^{re.escape(C)} +no: drained ", output, re.MULTILINE)


def test_holdings_by_a_tag_that_is_here(made: Fleet) -> None:
    made.cache.image(REPOSITORY, "a", "3.20")
    made.host(B, digest("a"))
    for name in ("alpine:3.20", "a" * 12):
        assert [one["holder"] for one in made.document("holdings", name)["holders"]] == [B]


def test_holdings_by_a_tag_that_is_not_here_ask_for_the_digest(made: Fleet) -> None:
    code, output, complaints = made.call("holdings", "alpine:3.20")
    assert (code, output) == (1, "")
    assert complaints == "hmret: error: alpine:3.20: not in the cache; elsewhere it is found by its digest\n"


def test_an_image_that_nobody_holds_ends_with_1(made: Fleet) -> None:
    document = made.document("holdings", digest("a"))
    assert made.code == 1
    assert (document["holders"], document["counted"], document["spare"], document["last_used"]) == (
        [],
        0,
        0,
        None,
    )
    code, output, _ = made.call("holdings", digest("a"))
    assert code == 1
    assert "no host holds it" in output


def test_the_larger_of_both_settings_says_what_is_to_spare(made: Fleet) -> None:
    for holder in (A, B, C):
        made.host(holder, digest("a"))
    assert made.document("holdings", digest("a"))["spare"] == 2
    made.configure(min_copies=2)
    assert made.document("holdings", digest("a"))["spare"] == 1


def test_the_plan_has_budget_hosts_and_the_images_here_that_have_expired(made: Fleet) -> None:
    made.cache.image(REPOSITORY, "a", "3.20", unused=timedelta(days=31))
    made.cache.image(REPOSITORY, "b", unused=timedelta(days=1))
    made.cache.image("ghcr.io/o/app", "c", unused=timedelta(days=40))
    settings = json.loads(made.config.read_text())
    settings["images"] = {"auto_delete": {"enabled": True, "allowed": ["docker.io/*"]}}
    made.config.write_text(json.dumps(settings))
    made.host(A)
    made.put(**{made.keys.token(number): f"{B} m" for number in range(2)})
    made.call("set", "budget", "40")
    document = made.document("plan")
    assert made.code == 0
    assert list(document) == ["at", "budget", "braked", "hosts", "images"]
    assert (document["budget"], document["braked"]) == ({"releases": 40, "taken": 4}, False)
    assert [host["holder"] for host in document["hosts"]] == [A]
    assert [(image["digest"], image["disk_bytes"]) for image in document["images"]] == [
        (digest("a"), DISK_BYTES)
    ]
    code, output, _ = made.call("plan")
    assert code == 0
    assert "budget: 4 of 40 releases are taken in this token period" in output
    assert "this host: 1 expired" in output


def test_a_host_without_a_free_token_is_braked(made: Fleet) -> None:
    made.own_id()
    made.call("set", "tokens", "2")
    made.put(**{made.keys.token(number): f"{B} m" for number in range(2)})
    assert made.document("plan")["braked"] is True
    assert "no deletion token is free for this host" in made.call("plan")[1]
    made.put(**{made.keys.token(1): f"{A} m"})
    assert made.document("plan")["braked"] is False


# Changing.


def test_a_setting_is_changed_for_the_whole_fleet(made: Fleet) -> None:
    document = made.document("set", "budget", "40")
    assert made.code == 0
    assert document == {"settings": made.document("status")["settings"]}
    assert document["settings"]["budget"] == "40"
    assert made.call("set", "canary", "0s")[:2] == (0, "canary: 0s\n")


def test_a_pause_lasts_until_somebody_resumes(made: Fleet) -> None:
    paused = made.document("pause", "--reason", "because")["settings"]["paused"]
    assert (list(paused), paused["reason"], "@" in paused["by"]) == (["by", "at", "reason"], "because", True)
    assert made.document("pause", "--reason", "again")["settings"]["paused"] == paused
    assert made.document("resume")["settings"]["paused"] is None
    assert made.call("resume") == (0, "not paused\n", "")
    assert made.call("pause")[0] == 0
    assert made.document("status")["settings"]["paused"]["reason"] == ""


def test_a_drained_host_is_listed_with_its_last_copies(made: Fleet) -> None:
    made.host(A, digest("a"), digest("b"))
    made.host(B, digest("b"))
    document = made.document("drain", "a")
    assert made.code == 0
    assert document == {
        "holders": [A],
        "last_copies": [{"holder": A, "digest": digest("a"), "bytes": 4096}],
    }
    code, output, _ = made.call("drain", "a")
    assert code == 0
    assert output.startswith(
        f"drained: {A}\n1 last copy, 4.0 KiB: pull these elsewhere before it is emptied\n"
    )
    assert digest("a") in output
    assert made.document("undrain", "a") == {"holders": [A]}
    assert made.document("status")["hosts"][0]["drained"] is None
    assert made.call("drain", B)[1] == f"drained: {B}\nno last copy is there: it may be emptied\n"


def test_a_drain_waits_until_the_last_copy_is_elsewhere(made: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    made.host(A, digest("a"))
    waits: list[float] = []
    really_sleep = time.sleep

    def sleep(seconds: float) -> None:
        if seconds < 1:
            # Whoever waits for a process looks again and again.
            really_sleep(seconds)
            return
        waits.append(seconds)
        if len(waits) == 2:
            made.host(B, digest("a"))

    monkeypatch.setattr("time.sleep", sleep)
    code, output, complaints = made.call("drain", "a", "--wait")
    assert (code, output) == (0, f"drained: {A}\nno last copy is there: it may be emptied\n")
    assert complaints == "hmret: 1 last copy left: waiting\n"
    assert len(waits) == 2
    assert all(5 <= seconds <= 60 for seconds in waits)


def test_a_host_that_is_forgotten_is_gone(made: Fleet) -> None:
    made.host(A, digest("a"))
    made.host(B, digest("a"))
    assert made.document("forget", "b") == {"holders": [B]}
    assert [host["holder"] for host in made.document("status")["hosts"]] == [A]
    assert [one["holder"] for one in made.document("holdings", digest("a"))["holders"]] == [A]
    assert not [
        key for key in made.cluster.ctl("get", "--prefix", "--keys-only", made.keys.root).split() if B in key
    ]


@pytest.mark.parametrize("command", ["drain", "undrain", "forget"])
def test_a_host_that_there_is_not_ends_with_1(command: str, made: Fleet) -> None:
    code, output, complaints = made.call(command, "z")
    assert (code, output) == (1, "")
    assert complaints == (
        f"hmret: error: z: the fleet {made.name!r} has no such host; hmret fleet status lists them\n"
    )


def test_a_fleet_is_looked_at_on_trio_too(made: Fleet) -> None:
    made.host(A)
    assert [host["holder"] for host in made.document("status", "--backend", "trio")["hosts"]] == [A]


def test_options_may_stand_anywhere(made: Fleet, call: Call) -> None:
    config = ("--config", str(made.config))
    outputs = {
        call(*config, "--json", "fleet", "set", "tokens", "9"),
        call("fleet", *config, "--json", "set", "tokens", "9"),
        call("fleet", "set", *config, "tokens", "--json", "9"),
    }
    assert len(outputs) == 1
    assert outputs.pop()[0] == 0


def test_nothing_in_the_data_directory_is_changed(made: Fleet) -> None:
    made.host(A, digest("a"))
    for tokens in (
        ("status",),
        ("plan",),
        ("holdings", digest("a")),
        ("pause",),
        ("resume",),
        ("drain", "a"),
    ):
        made.call(*tokens)
    assert [path.name for path in Path(made.cache.root).rglob("*")] == ["images"]


# Help.


@pytest.mark.parametrize("command", GROUPS["fleet"])
def test_each_command_of_the_group_has_its_help(command: str, call: Call) -> None:
    code, output, complaints = call("fleet", command, "--help")
    assert (code, complaints) == (0, "")
    assert output.startswith(f"Usage: hmret fleet {command} ")
    _, text = GROUPS["fleet"][command]
    assert " ".join(text.split()) in " ".join(output.split())
    assert max(map(len, output.splitlines())) <= 80
    named = re.findall(r"^  (--[a-z-]+|[A-Z]{2,})([^:\n]*: \w)?", output, re.MULTILINE)
    assert [name for name, meaning in named if not meaning] == []
    assert call("help", "fleet", command) == call("fleet", command, "-h") == (0, output, "")


def test_the_help_of_the_group_lists_its_commands(call: Call) -> None:
    code, output, _ = call("fleet", "--help")
    assert code == 0
    assert re.findall(r"^  ([a-z]+): ", output, re.MULTILINE) == sorted(GROUPS["fleet"])
    assert call("fleet") == call("help", "fleet") == call("--json", "fleet") == (0, output, "")
