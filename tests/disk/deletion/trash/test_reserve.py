"""The reserve: it lies in hmret's own folder, wherever a link leads to that, and is used up by what is written into it."""

import pytest

from disk.hosts import Host
from hmret.disk.deletion.trash.reserve import RESERVE, fill_reserve, write_into_reserve
from hmret.disk.folders import opened_own_folder
from hmret.disk.layout import OWN, TRASH

CONTENT = b"[]"


def write(host: Host) -> bool:
    with opened_own_folder(host.filesystem, host.data_fd, TRASH) as trash_fd:
        return write_into_reserve(host.filesystem, host.data_fd, trash_fd, "intents.json", CONTENT)


@pytest.mark.parametrize("link", ["", "system", OWN])
def test_the_reserve_lies_in_hmrets_own_folder_and_is_used_once(host: Host, link: str) -> None:
    host.folder("elsewhere/hmret")
    if link:
        host.link(link, "elsewhere" if link == "system" else "../elsewhere/hmret")
    fill_reserve(host.filesystem, host.data_fd)
    assert len(host.read(f"{OWN}/{RESERVE}")) == 64 * 1024
    assert host.exists(f"elsewhere/hmret/{RESERVE}") == bool(link)
    assert write(host)
    assert host.read(f"{TRASH}/intents.json").rstrip() == CONTENT
    assert not host.exists(f"{OWN}/{RESERVE}")
    assert not write(host)
