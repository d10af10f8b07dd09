"""Volumes: emptyDir on disk and in memory, hostPath of every type, read-only mounts, subPath."""

from __future__ import annotations

import os
import shutil
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cli, eventually
from tests.e2e.observe import (
    answers,
    box,
    in_root,
    init_of,
    manifest,
    mounts_of,
    probe,
    run_pod,
    wait_for_output,
)

pytestmark = pytest.mark.requires("pods", "busybox", "nftables")

DISK: dict[str, Any] = {"name": "v", "emptyDir": {}}
MEMORY: dict[str, Any] = {"name": "v", "emptyDir": {"medium": "Memory"}}


def at(path: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the volumeMounts of a container that has the volume `v` at one path."""
    return [{"name": "v", "mountPath": path, **fields}]


# emptyDir


@pytest.mark.parametrize("volume", [DISK, MEMORY], ids=["disk", "memory"])
def test_an_empty_dir_is_shared_by_the_containers(cli: Cli, volume: dict[str, Any]) -> None:
    uid = run_pod(
        cli,
        box("ls -A /a; stat -c %a /a; echo shared > /a/note; exec sleep 1000", volumeMounts=at("/a")),
        box(
            "until [ -s /b/note ]; do sleep 0.02; done; cat /b/note; mknod /b/z c 1 5; cat /b/z",
            "c1",
            volumeMounts=at("/b"),
        ),
        volumes=[volume],
    )
    assert "shared\n" in wait_for_output(cli, uid, "Permission denied", "c1")
    assert wait_for_output(cli, uid, "777") == "777\n"
    kind = mounts_of(init_of(cli, uid))["/a"][0]
    assert (kind == "tmpfs") == (volume is MEMORY)


def test_an_empty_dir_on_disk_lies_below_the_root_of_the_instance(cli: Cli) -> None:
    uid = run_pod(cli, box("echo x > /a/file; exec sleep 1000", volumeMounts=at("/a")), volumes=[DISK])
    eventually(lambda: Path(cli.layout.volume(uid, "v"), "file").exists())


def test_a_volume_without_a_source_is_an_empty_dir(cli: Cli) -> None:
    uid = run_pod(
        cli, box("echo x > /a/file && echo written", volumeMounts=at("/a")), volumes=[{"name": "v"}]
    )
    assert wait_for_output(cli, uid, "written")


def test_an_empty_dir_in_memory_ends_at_its_size_limit(cli: Cli) -> None:
    volume = {"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
    look = probe(
        fits="dd if=/dev/zero of=/a/file bs=1000 count=1000 2>/dev/null && echo fits; rm /a/file",
        beyond="dd if=/dev/zero of=/a/file bs=1000 count=1100",
    )
    seen = answers(cli, run_pod(cli, box(look, volumeMounts=at("/a")), volumes=[volume]))
    assert seen["fits"] == "fits"
    assert "No space left on device" in seen["beyond"]


def test_an_empty_dir_is_gone_with_the_pod_and_new_in_the_next(cli: Cli) -> None:
    for _ in range(2):
        uid = run_pod(
            cli,
            box("ls -A /a | wc -l; touch /a/file; echo end", volumeMounts=at("/a")),
            volumes=[DISK],
        )
        assert wait_for_output(cli, uid, "end") == "0\nend\n"
        cli.ok("pod", "rm", "-f", "test")
        assert not Path(cli.layout.volume(uid, "v")).exists()


@pytest.mark.parametrize("volume", [DISK, MEMORY], ids=["disk", "memory"])
def test_read_only_is_a_matter_of_the_mount(cli: Cli, volume: dict[str, Any]) -> None:
    uid = run_pod(
        cli,
        box("touch /a/file; exec sleep 1000", volumeMounts=at("/a")),
        box(
            "until [ -e /b/file ]; do sleep 0.02; done; touch /b/other; rm /b/file; echo end",
            "c1",
            volumeMounts=at("/b", readOnly=True),
        ),
        volumes=[volume],
    )
    assert wait_for_output(cli, uid, "end", "c1").count("Read-only file system") == 2


def test_a_volume_may_lie_inside_another(cli: Cli) -> None:
    """Parents are mounted before what lies below them, whatever the order in the manifest."""
    mounts = [{"name": "v", "mountPath": "/a/deep/inner"}, {"name": "outer", "mountPath": "/a"}]
    uid = run_pod(
        cli,
        box("touch /a/deep/inner/file && touch /a/top && ls /a/deep/inner /a; echo end", volumeMounts=mounts),
        volumes=[MEMORY, {"name": "outer", "emptyDir": {}}],
    )
    assert wait_for_output(cli, uid, "end").split() == ["/a:", "deep", "top", "/a/deep/inner:", "file", "end"]
    assert os.listdir(Path(cli.layout.volume(uid, "outer"), "deep/inner")) == []


def test_a_volume_replaces_what_pyrun_mounts_by_itself(cli: Cli) -> None:
    """/dev/shm and /etc/hosts of a container may be volumes."""
    mounts = [{"name": "v", "mountPath": "/dev/shm"}, {"name": "hosts", "mountPath": "/etc/hosts"}]
    uid = run_pod(
        cli,
        box("touch /dev/shm/x && cat /etc/hosts", volumeMounts=mounts),
        volumes=[DISK, {"name": "hosts", "hostPath": {"path": "/etc/services", "type": "File"}}],
    )
    assert wait_for_output(cli, uid, "ssh")
    assert Path(cli.layout.volume(uid, "v"), "x").exists()


def image_with(cli: Cli, tmp_path: Path, link: str, target: str) -> None:
    """Let the containers of a test have a root with a symbolic link."""
    image = tmp_path / "image"
    shutil.copytree(cli.rootfs, image, symlinks=True)
    (image / link).parent.mkdir(parents=True, exist_ok=True)
    (image / link).symlink_to(target)
    cli.rootfs = image


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_the_image_does_not_lead_a_mount_out(cli: Cli, tmp_path: Path, exists: bool) -> None:
    """The image has a symbolic link where a volume goes; it is followed inside the container's root."""
    victim = tmp_path / "victim"
    if exists:
        victim.mkdir()
    image_with(cli, tmp_path, "data", f"../../../../../..{victim}")
    uid = run_pod(cli, box("touch /data/file && echo done", volumeMounts=at("/data")), volumes=[DISK])
    wait_for_output(cli, uid, "done")
    assert not victim.exists() or list(victim.iterdir()) == []
    assert os.listdir(cli.layout.volume(uid, "v")) == ["file"]


@pytest.mark.parametrize("target", ["../run/systemd/stub.conf", "/run/stub.conf", "resolv.link"])
def test_a_dangling_link_of_the_image_is_no_obstacle(cli: Cli, tmp_path: Path, target: str) -> None:
    """/etc/resolv.conf of many images points to what a running system would have made."""
    image_with(cli, tmp_path, "etc/resolv.conf", target)
    if target == "resolv.link":
        (cli.rootfs / "etc/resolv.link").symlink_to("/run/a/b/c")
    uid = run_pod(cli, box("readlink /etc/resolv.conf; cat /etc/resolv.conf && echo end"))
    seen = wait_for_output(cli, uid, "end")
    assert seen.startswith(f"{target}\n")
    assert (
        seen.removeprefix(f"{target}\n").removesuffix("end\n")
        == Path(cli.layout.etc(uid), "resolv.conf").read_text()
    )


def test_links_to_links_without_end_are_refused(cli: Cli, tmp_path: Path) -> None:
    image_with(cli, tmp_path, "data", "data/more")
    text = manifest(cli, box("true", volumeMounts=at("/data")), volumes=[DISK])
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 1
    assert "Too many levels of symbolic links" in result.stderr


# subPath


@pytest.mark.parametrize("volume", [DISK, MEMORY], ids=["disk", "memory"])
def test_sub_path(cli: Cli, volume: dict[str, Any]) -> None:
    """A part of the volume; what is missing of the path is made."""
    uid = run_pod(
        cli,
        box("echo part > /a/file; exec sleep 1000", volumeMounts=at("/a", subPath="one/two")),
        box(
            "until [ -s /all/one/two/file ]; do sleep 0.02; done; cat /all/one/two/file",
            "c1",
            volumeMounts=at("/all"),
        ),
        volumes=[volume],
    )
    assert wait_for_output(cli, uid, "part", "c1") == "part\n"


def test_sub_path_of_a_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume/config").write_text("text of the file\n")
    uid = run_pod(
        cli,
        box("cat /etc/my.conf", volumeMounts=at("/etc/my.conf", subPath="config", readOnly=True)),
        volumes=[{"name": "v", "hostPath": {"path": str(tmp_path / "volume")}}],
    )
    assert wait_for_output(cli, uid, "text of the file")


@pytest.mark.parametrize("target", ["/etc", "../secret", "/proc/self/root/etc"])
@pytest.mark.parametrize("sub_path", ["link", "link/below"])
def test_a_link_in_the_volume_cannot_lead_a_sub_path_out(
    cli: Cli, tmp_path: Path, target: str, sub_path: str
) -> None:
    """CVE-2021-25741: a container with the whole volume plants a link for the next Pod."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "secret").mkdir()
    (volume / "link").symlink_to(target)
    text = manifest(
        cli,
        box("ls /a", volumeMounts=at("/a", subPath=sub_path)),
        volumes=[{"name": "v", "hostPath": {"path": str(volume)}}],
    )
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 1
    assert 'container "c0"' in result.stderr
    assert sub_path.partition("/")[0] in result.stderr
    assert "/a" in result.stderr
    assert os.listdir(cli.layout.pods) == []
    assert list((tmp_path / "secret").iterdir()) == []


def test_a_link_within_the_volume_may_be_followed(cli: Cli, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    (volume / "real").mkdir(parents=True)
    (volume / "real/file").write_text("found\n")
    (volume / "link").symlink_to("real")
    uid = run_pod(
        cli,
        box("cat /a/file", volumeMounts=at("/a", subPath="link")),
        volumes=[{"name": "v", "hostPath": {"path": str(volume)}}],
    )
    assert wait_for_output(cli, uid, "found")


# hostPath


@pytest.fixture
def things(tmp_path: Path) -> Path:
    """A directory with one object of each kind that a hostPath may be."""
    base = tmp_path / "host"
    (base / "directory").mkdir(parents=True)
    (base / "file").write_text("of the host\n")
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(base)  # the name of a socket has at most 107 bytes
    listener.bind("socket")
    os.chdir(here)
    listener.close()
    os.mknod(base / "char", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.mknod(base / "block", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    return base


GOOD = [
    ("", "directory", "directory"),
    ("", "file", "regular file"),
    ("", "new", "directory"),
    ("DirectoryOrCreate", "directory", "directory"),
    ("DirectoryOrCreate", "new/deep", "directory"),
    ("Directory", "directory", "directory"),
    ("FileOrCreate", "file", "regular file"),
    ("FileOrCreate", "new", "regular empty file"),
    ("File", "file", "regular file"),
    ("Socket", "socket", "socket"),
    ("CharDevice", "char", "character special file"),
    ("BlockDevice", "block", "block special file"),
]


@pytest.mark.parametrize(("kind", "name", "seen"), GOOD)
def test_host_path(cli: Cli, things: Path, kind: str, name: str, seen: str) -> None:
    source = {"path": str(things / name), "type": kind}
    uid = run_pod(
        cli, box("stat -c %F /a", volumeMounts=at("/a")), volumes=[{"name": "v", "hostPath": source}]
    )
    assert wait_for_output(cli, uid, "\n") == f"{seen}\n"
    cli.ok("pod", "rm", "-f", "test")
    assert (things / name).exists(), "what lies on the host is the user's and is never removed"


BAD = [
    ("Directory", "missing", "No such file or directory"),
    ("Directory", "file", "is not a directory"),
    ("DirectoryOrCreate", "file", "is not a directory"),
    ("File", "missing", "No such file or directory"),
    ("File", "directory", "is not a regular file"),
    ("FileOrCreate", "directory", "is not a regular file"),
    ("FileOrCreate", "missing/file", "No such file or directory"),
    ("Socket", "file", "is not a socket"),
    ("Socket", "missing", "No such file or directory"),
    ("CharDevice", "block", "is not a character device"),
    ("BlockDevice", "char", "is not a block device"),
]


@pytest.mark.parametrize(("kind", "name", "reason"), BAD)
def test_host_path_that_is_something_else(cli: Cli, things: Path, kind: str, name: str, reason: str) -> None:
    source = {"path": str(things / name), "type": kind}
    before = sorted(things.rglob("*"))
    text = manifest(cli, box("true", volumeMounts=at("/a")), volumes=[{"name": "v", "hostPath": source}])
    result = cli.run("pod", "create", "-f", "-", stdin=text)
    assert result.returncode == 1
    assert str(things / name) in result.stderr
    assert reason in result.stderr
    assert os.listdir(cli.layout.pods) == []
    assert sorted(things.rglob("*")) == before


def test_writes_to_a_host_path_reach_the_host(cli: Cli, things: Path) -> None:
    run_pod(
        cli,
        box("echo from-inside > /a/note; exec sleep 1000", volumeMounts=at("/a")),
        volumes=[{"name": "v", "hostPath": {"path": str(things / "directory")}}],
    )
    note = things / "directory/note"
    assert eventually(lambda: note.exists() and note.read_text()) == "from-inside\n"


def test_a_device_asked_for_by_type_can_be_opened_and_no_other(cli: Cli, things: Path) -> None:
    mounts = [{"name": "device", "mountPath": "/zero"}, {"name": "all", "mountPath": "/all"}]
    uid = run_pod(
        cli,
        box("head -c 2 /zero | wc -c; head -c 2 /all/char; echo end", volumeMounts=mounts),
        volumes=[
            {"name": "device", "hostPath": {"path": str(things / "char"), "type": "CharDevice"}},
            {"name": "all", "hostPath": {"path": str(things)}},
        ],
    )
    seen = wait_for_output(cli, uid, "end")
    assert "2\n" in seen
    assert "/all/char: Permission denied" in seen


def test_modes_of_what_host_path_makes(cli: Cli, things: Path) -> None:
    """0755 and 0644, as in Kubernetes, whatever the umask of the caller."""
    umask = os.umask(0o077)
    try:
        run_pod(
            cli,
            box("exec sleep 1000"),
            volumes=[
                {"name": "d", "hostPath": {"path": str(things / "d"), "type": "DirectoryOrCreate"}},
                {"name": "f", "hostPath": {"path": str(things / "f"), "type": "FileOrCreate"}},
            ],
        )
    finally:
        os.umask(umask)
    assert stat.S_IMODE((things / "d").stat().st_mode) == 0o755
    assert stat.S_IMODE((things / "f").stat().st_mode) == 0o644


def test_what_is_mounted_below_a_host_path_is_there_too(cli: Cli) -> None:
    """--rbind: /proc of the host, say, shows its binfmt_misc; here: the host's /dev and its pts."""
    uid = run_pod(
        cli,
        box("exec sleep 1000", volumeMounts=at("/a")),
        volumes=[{"name": "v", "hostPath": {"path": "/dev"}}],
    )
    mounts = mounts_of(init_of(cli, uid))
    assert mounts["/a"][0] != "overlay"
    below = {p for p in _host_mounts() if p.startswith("/dev/")}
    assert {f"/a{p.removeprefix('/dev')}" for p in below} <= set(mounts)


def _host_mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def test_a_volume_without_a_mount_is_made_and_not_seen(cli: Cli) -> None:
    uid = run_pod(cli, box("exec sleep 1000"), volumes=[DISK])
    assert Path(cli.layout.volume(uid, "v")).is_dir()
    assert not in_root(init_of(cli, uid), "/a").exists()
