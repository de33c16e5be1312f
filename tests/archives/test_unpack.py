from __future__ import annotations

import gzip
import io
import os
import stat
import string
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predictor.archives.errors import ArchiveError
from predictor.archives.unpack import UnpackLimits, unpack

Member = tuple[str, bytes]


def zip_of(path: Path, *members: Member, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            info = zipfile.ZipInfo("x")
            info.filename = name  # the constructor would cut it at a NUL
            info.compress_type = method
            archive.writestr(info, data)
    return path


def special_zip(path: Path, name: str, kind: int, data: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (kind | 0o644) << 16
        archive.writestr("file", b"content")
        archive.writestr(info, data)
    return path


def tar_of(path: Path, *members: tarfile.TarInfo | Member) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member, io.BytesIO(b"x" * member.size))
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def tar_entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(source: Path, tmp_path: Path, limits: UnpackLimits | None = None) -> ArchiveError:
    """Unpack, expect an error, and check that nothing is left in or beside the scratch folder."""
    scratch = tmp_path / "deep" / "scratch"
    scratch.mkdir(parents=True)
    before = {p for p in tmp_path.rglob("*") if scratch not in p.parents}
    with pytest.raises(ArchiveError) as caught:
        unpack(source, scratch, limits or UnpackLimits())
    assert list(scratch.iterdir()) == []
    assert {p for p in tmp_path.rglob("*") if scratch not in p.parents} == before
    assert str(source) in str(caught.value)
    return caught.value


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_files_and_folders_arrive(tmp_path, make):
    source = make(tmp_path / "a", ("handler.py", b"x = 1"), ("sub/deep/w.pt", b"\0" * 10), ("./dot//b", b"b"))
    folder = unpack(source, tmp_path / "scratch")
    assert folder.parent == tmp_path / "scratch"
    assert content(folder) == {"handler.py": b"x = 1", "sub/deep/w.pt": b"\0" * 10, "dot/b": b"b"}


def test_the_kind_is_told_by_content(tmp_path):
    assert content(unpack(zip_of(tmp_path / "a.tar.gz", ("f", b"1")), tmp_path / "s")) == {"f": b"1"}
    assert content(unpack(tar_of(tmp_path / "a.mar", ("f", b"1")), tmp_path / "s")) == {"f": b"1"}


@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "a/../b",
        "/evil",
        "//evil",
        "C:/evil",
        "..",
        "a\\..\\evil",
        "a\nb",
        "a\x1b[31mb",
        "x" * 256,
        "/".join(["abcdefgh"] * 400),
    ],
)
def test_odd_names_are_refused_and_named(tmp_path, make, name):
    error = refused(make(tmp_path / "a", ("good.txt", b"1"), (name, b"2")), tmp_path)
    assert error.member is not None
    assert error.member.replace("\N{REPLACEMENT CHARACTER}", "")[:1] == name[:1]
    assert "\x1b" not in str(error)


def test_a_nul_does_not_shorten_a_zip_name(tmp_path):
    path = zip_of(tmp_path / "a.mar", ("handler.pyXtxt", b"1"))
    path.write_bytes(path.read_bytes().replace(b"handler.pyXtxt", b"handler.py\0txt"))
    assert "control" in str(refused(path, tmp_path))


def test_undecodable_tar_names_are_refused(tmp_path):
    with tarfile.open(
        tmp_path / "a.tar.gz", "w:gz", format=tarfile.GNU_FORMAT, encoding="latin-1"
    ) as archive:
        archive.addfile(tarfile.TarInfo("caf\xe9"))
    assert "undecodable" in str(refused(tmp_path / "a.tar.gz", tmp_path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [zip_of, tar_of])
@pytest.mark.parametrize("names", [("a", "a"), ("a", "./a"), ("a", "a/b"), ("a/b", "a")])
def test_a_name_can_be_used_once(tmp_path, make, names):
    error = refused(make(tmp_path / "a", *((name, b"1") for name in names)), tmp_path)
    assert "occurs twice" in str(error) or "a folder and a file" in str(error)


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd", "..", "missing", "sub", "evil"])
def test_links_that_lead_nowhere_good_are_refused(tmp_path, target):
    soft = tar_of(tmp_path / "s.tar.gz", ("sub/f", b"1"), tar_entry("evil", tarfile.SYMTYPE, target))
    assert refused(soft, tmp_path / "1").member == "evil"
    hard = tar_of(tmp_path / "h.tar.gz", ("sub/f", b"1"), tar_entry("evil", tarfile.LNKTYPE, target))
    assert refused(hard, tmp_path / "2").member == "evil"
    zipped = special_zip(tmp_path / "z.mar", "evil", stat.S_IFLNK, target.encode())
    assert refused(zipped, tmp_path / "3").member == "evil"


def test_a_file_cannot_be_written_through_a_link(tmp_path):
    source = tar_of(tmp_path / "a.tar.gz", tar_entry("d", tarfile.SYMTYPE, "/tmp"), ("d/evil", b"1"))
    assert "absolute" in str(refused(source, tmp_path))


def test_circles_of_links_are_refused(tmp_path):
    a, b = tar_entry("a", tarfile.SYMTYPE, "b"), tar_entry("b", tarfile.SYMTYPE, "a")
    assert "link to itself" in str(refused(tar_of(tmp_path / "a.tar.gz", a, b), tmp_path))


def test_links_inside_become_files(tmp_path):
    source = tar_of(
        tmp_path / "a.tar.gz",
        tar_entry("snapshots/w", tarfile.SYMTYPE, "../blobs/1"),
        ("blobs/1", b"weights"),
        tar_entry("again", tarfile.LNKTYPE, "blobs/1"),
        tar_entry("chain", tarfile.SYMTYPE, "snapshots/w"),
    )
    folder = unpack(source, tmp_path / "s")
    assert set(content(folder).values()) == {b"weights"}
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert (
        content(unpack(special_zip(tmp_path / "z", "l", stat.S_IFLNK, b"file"), tmp_path / "s"))["l"]
        == b"content"
    )


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_devices_are_refused(tmp_path, kind):
    assert "device" in str(refused(tar_of(tmp_path / "a", tar_entry("dev", kind)), tmp_path / "1"))
    assert "device" in str(refused(special_zip(tmp_path / "z", "dev", stat.S_IFIFO), tmp_path / "2"))


def test_sparse_tar_members_are_refused(tmp_path):
    info = tarfile.TarInfo("sparse")
    sparse = {
        "major": "0",
        "minor": "1",
        "map": "0,1,99999999999,1",
        "size": "100000000000",
        "numblocks": "2",
    }
    info.pax_headers = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
    info.size = 2
    assert "sparse" in str(refused(tar_of(tmp_path / "a", info), tmp_path))


def test_a_bomb_is_stopped_early(tmp_path):
    limits = UnpackLimits(ratio=50, ratio_free_bytes=1 << 20)
    for number, make in enumerate((zip_of, tar_of)):
        source = make(tmp_path / f"a{number}", ("zeros", bytes(8 << 20)))
        assert "more than 50 times its size" in str(refused(source, tmp_path / str(number), limits))


def test_a_small_file_of_zeros_is_no_bomb(tmp_path):
    assert content(unpack(zip_of(tmp_path / "a", ("zeros", bytes(8 << 20))), tmp_path / "s"))


@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_size_and_count_have_limits(tmp_path, make):
    source = make(tmp_path / "a", *((f"f{n}", os.urandom(1000)) for n in range(10)))
    assert "more than 9 members" in str(refused(source, tmp_path / "1", UnpackLimits(members=9)))
    assert "more than 9999 bytes" in str(refused(source, tmp_path / "2", UnpackLimits(total_bytes=9999)))
    assert len(content(unpack(source, tmp_path / "s", UnpackLimits(members=10, total_bytes=10_000)))) == 10


def test_a_declared_size_is_not_believed(tmp_path):
    info = tarfile.TarInfo("huge")
    info.size = 1 << 50
    data = gzip.compress(info.tobuf() + b"only this")
    (tmp_path / "a.tar.gz").write_bytes(data)
    refused(tmp_path / "a.tar.gz", tmp_path)


def test_a_giant_tar_header_is_not_read_into_memory(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(info.tobuf() + bytes(4096)))
    assert "header that is too large" in str(refused(tmp_path / "a.tar.gz", tmp_path))


def test_encrypted_members_are_refused(tmp_path):
    path = zip_of(tmp_path / "a.mar", ("secret", b"1"))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    error = refused(path, tmp_path)
    assert error.member == "secret"
    assert "encrypted" in str(error)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x1f\x8b", b"\x1f\x8b" + bytes(100), b"hello" * 100])
def test_what_is_no_archive_is_refused(tmp_path, data):
    (tmp_path / "a.mar").write_bytes(data)
    refused(tmp_path / "a.mar", tmp_path)


def test_executable_bits_survive_and_others_do_not(tmp_path):
    script, secret = tarfile.TarInfo("run.sh"), tarfile.TarInfo("w.pt")
    script.mode, secret.mode = 0o4777, 0o000
    folder = unpack(tar_of(tmp_path / "a", script, secret), tmp_path / "s")
    old = os.umask(0)
    os.umask(old)
    assert stat.S_IMODE((folder / "run.sh").stat().st_mode) == 0o755 & ~old
    assert stat.S_IMODE((folder / "w.pt").stat().st_mode) == 0o644 & ~old


def test_a_full_or_forbidden_scratch_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot be unpacked into"):
        unpack(zip_of(tmp_path / "a", ("f", b"1")), tmp_path / "file" / "below")


NAMES = st.text(st.sampled_from(string.ascii_letters[:3] + "./\\\0\n:é"), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=4), target=NAMES, kind=st.sampled_from(["zip", "tar"]))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_nothing_is_ever_written_outside(tmp_path_factory, names, target, kind):
    tmp_path = tmp_path_factory.mktemp("any")
    scratch = tmp_path / "p" / "q" / "scratch"
    if kind == "zip":
        source = zip_of(tmp_path / "a", *((name, b"1") for name in names))
    else:
        link = tar_entry(names[0] + "l", tarfile.SYMTYPE, target)
        source = tar_of(tmp_path / "a", link, *((name, b"1") for name in names))
    try:
        folder = unpack(source, scratch)
    except ArchiveError:
        assert list(scratch.iterdir()) == []
    else:
        assert not any(path.is_symlink() for path in folder.rglob("*"))
    outside = [path for path in tmp_path.rglob("*") if scratch not in path.parents]
    assert sorted(outside) == [tmp_path / "a", tmp_path / "p", tmp_path / "p" / "q", scratch]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from([zip_of, tar_of]))
def test_damage_never_raises_anything_else(tmp_path_factory, data, kind):
    tmp_path = tmp_path_factory.mktemp("damaged")
    source = kind(tmp_path / "a", ("handler.py", b"x = 1\n" * 50), ("sub/w.pt", b"weights"))
    if kind is tar_of:
        raw = bytearray(gzip.decompress(source.read_bytes()))
    else:
        raw = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    source.write_bytes(gzip.compress(bytes(cut)) if kind is tar_of else bytes(cut))
    try:
        unpack(source, tmp_path / "s")
    except ArchiveError:
        assert list((tmp_path / "s").iterdir()) == []
