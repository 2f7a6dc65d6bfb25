"""Unpacking: whole, restartable, and never where or what an archive should not."""

import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import layouts
import pytest

from zeroseg_jax.data.benchmarks import get_benchmark
from zeroseg_jax.data.benchmarks.archives import LIMITS, ArchiveError, Limits, unpack

FILES = {"VOC/a.txt": b"alpha", "./VOC/deep/er/b.bin": bytes(range(256)) * 40, "c": b""}
SMALL = Limits(gigabytes=0.001, files=10)


def quiet(line):
    pass


def make_tar(path, members=(), mode="w", files=FILES):
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o4777
            tar.addfile(info, io.BytesIO(content))
        for info in members:
            tar.addfile(info)
    return path


def make_zip(path, files=FILES, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def contents(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.bz2", "tar.xz", "zip"])
def test_unpacks_and_goes_on(tmp_path, kind):
    archive, target = tmp_path / f"x.{kind}", tmp_path / "out"
    if kind == "zip":
        make_zip(archive)
    else:
        make_tar(archive, mode=f"w:{kind[4:]}")
    lines = []
    assert unpack(archive, target, SMALL, lines.append) == 3
    wanted = {name.removeprefix("./"): content for name, content in FILES.items()}
    assert contents(target) == wanted
    assert not (target / "VOC/a.txt").stat().st_mode & (stat.S_ISUID | stat.S_IXUSR)
    kept = (target / "VOC/a.txt").stat().st_mtime_ns
    (target / "VOC/deep/er/b.bin").unlink()
    (target / "VOC/deep/er/b.bin.part").write_bytes(b"interrupted")
    assert unpack(archive, target, SMALL, lines.append) == 1
    assert contents(target) == wanted and (target / "VOC/a.txt").stat().st_mtime_ns == kept
    assert "1 files written, 2 were there" in lines[-1]


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (special("VOC/link", tarfile.SYMTYPE, "/etc"), "is a link"),
        (special("VOC/hard", tarfile.LNKTYPE, "VOC/a.txt"), "is a link"),
        (special("VOC/pipe", tarfile.FIFOTYPE), "no plain file"),
        (special("VOC/disk", tarfile.BLKTYPE), "no plain file"),
        (special("VOC/tty", tarfile.CHRTYPE), "no plain file"),
        (special("../evil", tarfile.REGTYPE), "outside of the target"),
        (special("VOC/../../evil", tarfile.REGTYPE), "outside of the target"),
        (special("/tmp/evil", tarfile.REGTYPE), "outside of the target"),
        (special("/tmp/evil", tarfile.DIRTYPE), "outside of the target"),
        (special("VOC\\..\\evil", tarfile.REGTYPE), "outside of the target"),
        (special("C:evil", tarfile.REGTYPE), "outside of the target"),
        (special("VOC/a.txt", tarfile.REGTYPE), "twice"),
        (special("VOC/" + "n" * 250, tarfile.REGTYPE), "240 bytes"),
    ],
    ids=lambda value: getattr(value, "name", "")[:20] if not isinstance(value, str) else "",
)
def test_hostile_tars(tmp_path, member, message):
    archive = make_tar(tmp_path / "x.tar", [member])
    with pytest.raises(ArchiveError, match=message) as caught:
        unpack(archive, tmp_path / "out", SMALL, quiet)
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.rglob("*.part"))
    assert not any(path.is_symlink() for path in tmp_path.rglob("*"))


def zip_member(name, mode=0, flags=0, method=zipfile.ZIP_STORED):
    info = zipfile.ZipInfo(name)
    info.external_attr, info.compress_type = mode << 16, method
    info.flag_bits = flags
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (zip_member("link", stat.S_IFLNK | 0o777), "is a link"),
        (zip_member("pipe", stat.S_IFIFO | 0o777), "no plain file"),
        (zip_member("../evil"), "outside of the target"),
        (zip_member("/evil"), "outside of the target"),
        (zip_member("a/b", method=zipfile.ZIP_LZMA), "packed by method 14"),
    ],
)
def test_hostile_zips(tmp_path, info, message):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(info, b"/etc")
    with pytest.raises(ArchiveError, match=message):
        unpack(tmp_path / "x.zip", tmp_path / "out", SMALL, quiet)
    assert contents(tmp_path / "out") == {} and not list(tmp_path.rglob("*evil*"))


def test_encrypted_zip(tmp_path):
    archive = make_zip(tmp_path / "x.zip", {"a": b"alpha"})
    data = bytearray(archive.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[6] |= 1  # in the file's own header and in the directory
    data[at + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(ArchiveError, match="encrypted"):
        unpack(archive, tmp_path / "out", SMALL, quiet)


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_limits(tmp_path, make):
    many = make(tmp_path / "many", files={f"f{i}": b"" for i in range(11)})
    with pytest.raises(ArchiveError, match="more than 10 files.*--max_files"):
        unpack(many, tmp_path / "a", SMALL, quiet)
    # 1.2 MB of zeros in a few bytes.
    large = make(tmp_path / "large", files={"a": bytes(600_000), "b": bytes(600_000)})
    with pytest.raises(ArchiveError, match="more than 0.001 GB.*--max_gb"):
        unpack(large, tmp_path / "b", SMALL, quiet)
    assert set(contents(tmp_path / "b")) == {"a"}


def test_damaged_archives(tmp_path):
    tar, zipped = make_tar(tmp_path / "x.tar"), make_zip(tmp_path / "x.zip")
    gz = make_tar(tmp_path / "x.tgz", mode="w:gz")
    between = tar.read_bytes()[: 512 + 512]  # the first file, and nothing after it
    broken = bytearray(zipped.read_bytes())
    broken[45] ^= 0xFF
    for number, data in enumerate((
        tar.read_bytes()[:1600], between, tar.read_bytes()[: 512 + 512 + 100],
        gz.read_bytes()[:-30], zipped.read_bytes()[:-30], bytes(broken), b"no archive at all", b"",
    )):  # fmt: skip
        path = tmp_path / f"bad{number}"
        path.write_bytes(data)
        with pytest.raises(ArchiveError) as caught:
            unpack(path, tmp_path / f"out{number}", SMALL, quiet)
        assert str(path) in str(caught.value) and "get it again" in str(caught.value)
        assert not list((tmp_path / f"out{number}").rglob("*.part"))


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path):
    inner = make_zip(tmp_path / "inner.zip", {"x": b"x"}).read_bytes()
    archive = make_tar(tmp_path / "x.tar", files={"a": b"alpha", "inner.zip": inner})
    unpack(archive, tmp_path / "out", SMALL, quiet)
    assert set(contents(tmp_path / "out")) == {"a", "inner.zip"}


def test_other_files_are_not_overwritten(tmp_path):
    archive = make_tar(tmp_path / "x.tar")
    (tmp_path / "out" / "VOC").mkdir(parents=True)
    (tmp_path / "out" / "VOC" / "a.txt").write_bytes(b"mine")
    with pytest.raises(ArchiveError, match="a.txt: is there already"):
        unpack(archive, tmp_path / "out", SMALL, quiet)
    assert (tmp_path / "out" / "VOC" / "a.txt").read_bytes() == b"mine"


def test_published_archives_fit_their_limits():
    # VOC 2012: about 2 GB and 40,000 files; stuff maps: 123,287; Cityscapes: 11 GB.
    assert LIMITS["voc21"].gigabytes > 2 and LIMITS["voc21"].files > 40_000
    assert LIMITS["coco_object"].files > 123_287 and LIMITS["cityscapes19"].gigabytes > 11


def test_command_unpacks_and_checks(tmp_path):
    layouts.write_voc(tmp_path / "made")
    archive = tmp_path / "VOCtrainval_11-May-2012.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "made" / "VOCdevkit", "VOCdevkit")
    command = [sys.executable, "-m", "zeroseg_jax", "verify", "--benchmark=voc21",
               f"--data_dir={tmp_path / 'out'}", f"--archive={archive}"]  # fmt: skip
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 1 and "2 pairs of picture and mask" in done.stdout, done.stderr
    assert done.stdout.count("problem: ") == 1
    assert len(get_benchmark("voc21", data_dir=tmp_path / "out")) == 2
    refused = subprocess.run([*command, "--max_files=3"], cwd=root, capture_output=True, text=True)
    assert refused.returncode == 2 and "more than 3 files" in refused.stderr
