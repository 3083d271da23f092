"""From the checkout: an operator's first day, upgrade and removal, as README, HOW_TO and INSTALL say."""

from systemd.caches import Images, repository
from systemd.checks import check_of, noticed
from systemd.machine import DATA_DIR, Machine
from systemd.root import CHECKOUT, ROOT, in_root, install

__all__: list[str] = []


@check_of("checkout")
@noticed("a limit that is not the operator's", "Environment=HMRET__MAX_DELETES_PER_SWEEP=0")
def an_operators_first_day_goes_as_the_readme_and_the_guide_say(machine: Machine) -> None:
    guide, install_page = (
        (CHECKOUT / "docs" / name).read_text(encoding="utf-8") for name in ("HOW_TO.md", "INSTALL.md")
    )
    images = Images(DATA_DIR, 0, 40, due_every=10)
    # Before anything is set: nothing would go, and no page has to say why.
    assert "retention is disabled" in machine.run("hmret check-config")
    looked = machine.run("hmret plan")
    assert "no image of 40 would be deleted" in looked, looked
    assert "set hmret.enabled" in looked, looked
    assert "no pattern of images.auto_delete.allowed matches" in machine.run(
        f"hmret explain {repository(10)}:v1"
    )
    # Beside hypeman's own controller, with a limit of one.
    assert "run it with `hmret.max_deletes_per_sweep: 1`" in guide
    machine.write(
        "/etc/hypeman/config.yaml",
        "images: {auto_delete: {enabled: false, allowed: ['ghcr.io/many/*']}}\n",
    )
    machine.write("/etc/hmret/config.yaml", "hmret: {enabled: true, max_deletes_per_sweep: 1}\n")
    checked = machine.run("hmret check-config")
    assert "retention is enabled" in checked, checked
    assert "warning" not in checked, checked
    assert "1 image of 40 would be deleted" in machine.run("hmret plan")
    machine.run("systemctl enable --now hmret")
    machine.wait_line("sweep_ended", deleted=1)
    assert machine.show("StatusText") == "last sweep: success, 40 images, 1 deleted"
    assert "deleted images    1," in machine.run("hmret status")
    # Trusted by now.
    machine.write("/etc/hmret/config.yaml", "hmret: {enabled: true}\n")
    machine.run("systemctl reload hmret")
    machine.wait_line("settings_reloaded")
    machine.run("hmret sweep --yes")
    assert "deleted images    4," in machine.run("hmret status")
    assert images.left() == {*images.numbers} - {*images.due}
    assert "`make install` in the newer checkout, then `systemctl restart hmret`" in install_page
    install()  # from outside: the container has no network
    machine.run("systemctl daemon-reload; systemctl restart hmret")
    assert "deleted images    0" in machine.run("hmret status")
    pages = [page for page in machine.show("Documentation").split() if page.startswith("file://")]
    begin = [machine.run(f"head -c 9 {page.removeprefix('file://')}") for page in pages]
    assert begin == ["<!doctype"] * 2, begin
    assert machine.messages("-p warning") == ""


def _forget_the_unit(_: Machine) -> None:
    """Have the list of what was installed without the unit."""
    installed = ROOT / "opt/hmret/installed-files"
    installed.write_text(installed.read_text().replace("/etc/systemd/system/hmret.service\n", ""))


@check_of("checkout")
@noticed("a list of what was installed without the unit", _forget_the_unit)
def installed_by_make_and_removed_it_leaves_settings_and_data(machine: Machine) -> None:
    images = Images(DATA_DIR, 0, 20)
    machine.configure(enabled=True)
    machine.run("systemctl enable --now hmret")
    machine.wait_line("sweep_ended", deleted=len(images.due))
    machine.run("make -C /src uninstall")
    machine.run("systemctl status hmret", code=4)  # there is none
    assert machine.run("pgrep -f '[h]mret run'", code=1) == ""
    assert not (ROOT / "opt/hmret").exists()
    assert not (ROOT / "usr/local/bin/hmret").is_symlink()
    left = in_root("find", "/etc", "/usr", "-name", "*hmret*", "-not", "-path", "/etc/hmret-systemd-test")
    assert left == "", left
    assert (ROOT / "etc/hypeman/config.yaml").exists()
    assert (DATA_DIR / "system/hmret/journal.jsonl").exists()
    assert images.left() == {*images.numbers} - {*images.due}
