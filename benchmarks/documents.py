"""The files that hypeman writes, as text: metadata of images and guests, manifests, states, snapshots."""

import json
import random
from datetime import datetime

__all__ = [
    "DISK_BYTES",
    "content_text",
    "format_time",
    "guest_text",
    "image_text",
    "manifest_text",
    "snapshot_text",
    "state_text",
]

DISK_BYTES = 64 << 20
"""The apparent size of every disk."""

_CONFIG = {
    "entrypoint": ["/usr/local/bin/docker-entrypoint.sh"],
    "cmd": ["node", "server.js", "--port", "8080"],
    "env": {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "NODE_VERSION": "22.6.0",
        "YARN_VERSION": "1.22.22",
        "LANG": "C.UTF-8",
        "APP_ENV": "production",
    },
    "working_dir": "/app",
}
_IMAGE = json.dumps(
    {
        "name": "%(name)s",
        "digest": "sha256:%(hexadecimal)s",
        "status": "%(status)s",
        "request": {"Name": "%(name)s"},
        "size_bytes": DISK_BYTES,
        **_CONFIG,
        "created_at": "%(created_at)s",
    },
    indent=2,
)
_CONTENT = json.dumps(
    {
        "name": "%(name)s",
        "digest": "sha256:%(hexadecimal)s",
        "platform": "linux/amd64",
        "status": "%(status)s",
        "request": {"Name": "%(name)s", "Tags": None, "Platform": ""},
        "size_bytes": "%(size_bytes)s",
        **_CONFIG,
        "created_at": "%(created_at)s",
        "build_id": "%(build_id)s",
        "requested_tag": "%(requested_tag)s",
        "tag_generation": 1,
    },
    indent=2,
).replace('"%(size_bytes)s"', "%(size_bytes)s")
_LAYERS = 4
_STATE = json.dumps(
    {"repository": "%(repository)s", "digest": "sha256:%(hexadecimal)s", "unused_since": "%(since)s"},
    indent=2,
)
_GUEST = json.dumps(
    {
        "Id": "%(id)s",
        "Name": "vm-%(id)s",
        "Image": "%(image)s",
        "ResolvedImage": "%(resolved)s",
        "Platform": "linux/amd64",
        "Size": 1 << 30,
        "HotplugSize": 0,
        "OverlaySize": 10 << 30,
        "Vcpus": 2,
        "NetworkBandwidthDownload": 125_000_000,
        "NetworkBandwidthUpload": 125_000_000,
        "DiskIOBps": 0,
        "Env": {"APP_ENV": "production", "REGION": "us-east-1", "SESSION_ID": "%(id)s"},
        "Tags": {"team": "infra", "owner": "ci"},
        "NetworkEnabled": True,
        "NetworkEgress": None,
        "Credentials": None,
        "IP": "10.102.0.155",
        "MAC": "02:00:00:92:6b:dc",
        "Volumes": None,
        "CreatedAt": "%(created_at)s",
        "ExpiresAt": None,
        "StartedAt": "%(created_at)s",
        "StoppedAt": None,
        "ProgramStartedAt": "%(created_at)s",
        "GuestAgentReadyAt": "%(created_at)s",
        "KernelVersion": "ch-6.12.8-kernel-1.3-202601152",
        "HypervisorType": "cloud-hypervisor",
        "HypervisorVersion": "v51.1",
        "HypervisorPID": 3_296_711,
        "FirecrackerSnapshotCacheKey": "",
        "FirecrackerUseUFFDOnNextRestore": False,
        "FirecrackerUFFDSessionID": "",
        "FirecrackerUFFDPagerVersion": "",
        "SocketPath": "/var/lib/hypeman/guests/%(id)s/ch.sock",
        "DataDir": "/var/lib/hypeman/guests/%(id)s",
        "VsockCID": 2_491_015_657,
        "VsockSocket": "/var/lib/hypeman/guests/%(id)s/vsock.sock",
        "Devices": None,
        "GPUProfile": "",
        "GPUMdevUUID": "",
        "Entrypoint": None,
        "Cmd": None,
        "SkipKernelHeaders": True,
        "SkipGuestAgent": False,
        "EnableRosetta": False,
        "SnapshotPolicy": None,
        "PendingStandbyCompression": None,
        "AutoStandby": None,
        "HealthCheck": None,
        "RestartPolicy": None,
        "RestartStatus": {},
        "StopTimeout": 0,
        "ExitCode": None,
        "ExitMessage": "",
        "phases": {
            "current": "running",
            "since": "%(created_at)s",
            "cumulative": {"created": 120, "initializing": 830},
        },
    },
    indent=2,
)
_SNAPSHOT = (
    '{"snapshot": {"id": "%(id)s", "name": "nightly", "kind": "full", "source_instance_id": "%(guest)s", '
    '"created_at": "%(created_at)s"}, "stored_metadata": %(stored)s}'
)


def image_text(name: str, hexadecimal: str, status: str, created_at: datetime) -> str:
    """Write an image's metadata as servers of the legacy layout did."""
    return _IMAGE % {
        "name": name,
        "hexadecimal": hexadecimal,
        "status": status,
        "created_at": format_time(created_at),
    }


def content_text(name: str, hexadecimal: str, status: str, created_at: datetime, rng: random.Random) -> str:
    """Write an image's metadata as today's servers do, with a build's identity that is new with each pull."""
    tag = "" if "@" in name else name.rpartition(":")[2]
    bits = f"{rng.getrandbits(128):032x}"
    return _CONTENT % {
        "name": name,
        "hexadecimal": hexadecimal,
        "status": status,
        "size_bytes": DISK_BYTES if status == "ready" else 0,
        "created_at": format_time(created_at),
        "build_id": "-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:])),
        "requested_tag": tag,
    }


def manifest_text(hexadecimal: str, rng: random.Random) -> str:
    """Write the manifest that lies beside today's metadata."""
    digests = [f"{rng.getrandbits(256):064x}" for _ in range(1 + 2 * _LAYERS)]
    layers, diff_ids = digests[1 : 1 + _LAYERS], digests[1 + _LAYERS :]
    return json.dumps(
        {
            "schema_version": 1,
            "digest": f"sha256:{hexadecimal}",
            "media_type": "application/vnd.oci.image.manifest.v1+json",
            "platform": "linux/amd64",
            "config": {
                "digest": f"sha256:{digests[0]}",
                "media_type": "application/vnd.oci.image.config.v1+json",
                "diff_ids": [f"sha256:{diff_id}" for diff_id in diff_ids],
            },
            "rootfs_type": "layers",
            "layers": [
                {
                    "digest": f"sha256:{layer}",
                    "size": 31_357_624,
                    "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "diff_id": f"sha256:{diff_id}",
                }
                for layer, diff_id in zip(layers, diff_ids, strict=True)
            ],
        },
        indent=2,
    )


def state_text(repository: str, hexadecimal: str, unused_since: datetime) -> str:
    """Write the retention state of one digest of one repository."""
    return _STATE % {
        "repository": repository,
        "hexadecimal": hexadecimal,
        "since": format_time(unused_since),
    }


def guest_text(identity: str, image: str, resolved: str, created_at: datetime) -> str:
    """Write a guest's metadata, with some 60 fields."""
    return _GUEST % {
        "id": identity,
        "image": image,
        "resolved": resolved,
        "created_at": format_time(created_at),
    }


def snapshot_text(identity: str, guest: str, stored: str, created_at: datetime) -> str:
    """Write a snapshot of a guest, around that guest's metadata."""
    return _SNAPSHOT % {
        "id": identity,
        "guest": guest,
        "created_at": format_time(created_at),
        "stored": stored,
    }


def format_time(moment: datetime) -> str:
    """Write a time as Go does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000000Z")
