"""Builds the native core with the package; where that cannot be done, the package goes without and says so when asked.

One module for all versions of the interpreter from 3.11 on: it keeps to the limited API.
"""

import os
import platform
import re
import shlex
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "src/hmret/disk/_native.c"
BUILT = "src/hmret/disk/_native.abi3.so"
FLAGS = ("-O2", "-g0", "-Wall", "-Wextra", "-fPIC", "-shared")


def _platform_tag(module: bytes) -> str:
    """Return the platform of a module: with glibc the oldest that has all its symbols, so that others may take the wheel."""
    own = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    needed = [(int(major), int(minor)) for major, minor in re.findall(rb"\bGLIBC_(\d+)\.(\d+)", module)]
    if platform.libc_ver()[0] != "glibc" or not needed:
        return own
    major, minor = max(needed)
    return own.replace("linux", f"manylinux_{major}_{minor}", 1)


class NativeCoreHook(BuildHookInterface[Any]):
    """Compiles the module, which includes its other files, before a wheel is made, or an editable installation."""

    PLUGIN_NAME = "native"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, and label the wheel by what came of it."""
        if self.target_name != "wheel":
            return
        built = Path(self.root, BUILT)
        built.unlink(missing_ok=True)
        if os.name != "posix" or not self._compile(built):
            self.app.display_warning("hmret: built without its native core, which wants a C compiler")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{_platform_tag(built.read_bytes())}"
        build_data["artifacts"].append(f"/{BUILT}")

    def _compile(self, built: Path) -> bool:
        compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
        flags = shlex.split(os.environ.get("CFLAGS", ""))
        include = sysconfig.get_path("include")
        # Under another name until it is whole: an interpreter may have the old one loaded.
        partial = built.with_suffix(f".{os.getpid()}")
        command = [
            *compiler,
            *FLAGS,
            *flags,
            f"-I{include}",
            str(Path(self.root, SOURCE)),
            "-o",
            str(partial),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            self.app.display_warning(f"{compiler[0]}: {error.strerror}")
            return False
        if done.returncode != 0:
            partial.unlink(missing_ok=True)
            self.app.display_warning(done.stderr.strip())
            return False
        partial.replace(built)
        return True
