from __future__ import annotations

import asyncio
import gzip
import os
from typing import Any

import httpx
import pytest

from predictor.addresses import parse_allowed_urls
from predictor.serving import sources as module
from predictor.serving.errors import DownloadFailed, ModelFileExists, ModelSourceNotFound
from predictor.serving.sources import Sources

HOST = "http://models.test"


@pytest.fixture
def answers(monkeypatch):
    """Answer requests by path, without a network; returns what may be filled."""
    known: dict[str, Any] = {"seen": []}

    def answer(request: httpx.Request) -> httpx.Response:
        known["seen"].append(request)
        found = known.get(request.url.path, httpx.Response(404))
        # As from a network: nothing of it has been read yet.
        return httpx.Response(found.status_code, headers=found.headers, stream=found.stream)

    real = httpx.AsyncClient
    monkeypatch.setattr(
        module.httpx,
        "AsyncClient",
        lambda **options: real(transport=httpx.MockTransport(answer), **options),
    )
    return known


@pytest.fixture
def make(tmp_path):
    """Make the sources of an empty store."""
    (tmp_path / "store").mkdir()

    def make(allowed: str = f"{HOST}/ok/.*", limit: int = 100) -> Sources:
        return Sources(tmp_path / "store", tmp_path / "scratch", parse_allowed_urls(allowed), limit)

    return make


def _left(tmp_path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())


async def test_a_download_lies_in_the_store_until_it_is_discarded(make, answers, tmp_path):
    answers["/ok/m.mar"] = httpx.Response(200, content=b"archive")
    source = await make().find(f"{HOST}/ok/m.mar?signature=x", kms=True)
    assert source.path == tmp_path / "store" / "m.mar"
    assert source.path.read_bytes() == b"archive"
    assert answers["seen"][0].headers["x-amz-server-side-encryption"] == "aws:kms"
    source.discard()
    assert _left(tmp_path) == []


@pytest.mark.parametrize("content", [b"ARCHIVE", b"another archive"])
async def test_what_an_operator_put_in_its_place_stays(make, answers, tmp_path, content):
    answers["/ok/m.mar"] = httpx.Response(200, content=b"archive")
    source = await make().find(f"{HOST}/ok/m.mar")
    (tmp_path / "new.mar").write_bytes(content)
    os.utime(tmp_path / "new.mar", (1, 1))
    (tmp_path / "new.mar").replace(source.path)
    source.discard()
    assert source.path.read_bytes() == content
    source.path.unlink()
    source.discard()


async def test_a_file_that_comes_while_it_is_fetched_is_not_overwritten(make, answers, tmp_path):
    class _Slow(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"arch"
            (tmp_path / "store" / "m.mar").write_bytes(b"the operator's")
            yield b"ive"

    answers["/ok/m.mar"] = httpx.Response(200, stream=_Slow())
    with pytest.raises(ModelFileExists):
        await make().find(f"{HOST}/ok/m.mar")
    assert _left(tmp_path) == ["store/m.mar"]
    assert (tmp_path / "store" / "m.mar").read_bytes() == b"the operator's"


async def test_a_store_that_cannot_be_written_to_gets_nothing(make, answers, tmp_path, monkeypatch):
    monkeypatch.setattr(module.os, "access", lambda path, mode: False)
    answers["/ok/m.mar"] = httpx.Response(200, content=b"archive")
    source = await make().find(f"{HOST}/ok/m.mar")
    assert source.path == tmp_path / "scratch" / "downloads" / "m.mar"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(500), "the answer is 500"),
        (httpx.Response(200, content=b"x" * 101), "larger than 100 bytes"),
        (httpx.Response(200, stream=httpx.ByteStream(b"x" * 101)), "larger than 100 bytes"),
        (
            httpx.Response(302, headers={"Location": "file:///etc/passwd"}),
            "it redirects to file:///etc/passwd",
        ),
        (httpx.Response(302, headers={"Location": "/ok/m.mar"}), "redirects more than 5 times"),
    ],
)
async def test_a_download_that_fails_leaves_nothing(make, answers, tmp_path, answer, reason):
    answers["/ok/m.mar"] = answer
    with pytest.raises(DownloadFailed, match=reason) as caught:
        await make().find(f"{HOST}/ok/m.mar")
    assert caught.value.torchserve_message == f"Failed to download archive from: {HOST}/ok/m.mar"
    assert _left(tmp_path) == []


async def test_a_redirect_must_be_allowed_too(make, answers, tmp_path):
    answers["/ok/m.mar"] = httpx.Response(302, headers={"Location": "http://169.254.169.254/latest"})
    with pytest.raises(ModelSourceNotFound, match=r"169\.254\.169\.254/latest does not match"):
        await make().find(f"{HOST}/ok/m.mar")
    assert len(answers["seen"]) == 1
    answers["/ok/m.mar"] = httpx.Response(307, headers={"Location": "../ok/n.mar"})
    answers["/ok/n.mar"] = httpx.Response(200, content=b"n")
    assert (await make().find(f"{HOST}/ok/m.mar")).path.name == "m.mar"


async def test_what_is_compressed_on_the_way_is_not_unpacked_here(make, answers):
    packed = gzip.compress(b"x" * 50_000)
    answers["/ok/m.tar.gz"] = httpx.Response(
        200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(packed)
    )
    source = await make().find(f"{HOST}/ok/m.tar.gz")
    assert source.path.read_bytes() == packed
    assert answers["seen"][0].headers["accept-encoding"] == "identity"


async def test_a_download_that_does_not_end_is_given_up(make, answers, tmp_path, monkeypatch):
    class Drip(httpx.AsyncByteStream):
        async def __aiter__(self):
            while True:
                await asyncio.sleep(0.01)
                yield b"x"

    monkeypatch.setattr(module, "_WHOLE_SECONDS", 0.1)
    answers["/ok/m.mar"] = httpx.Response(200, stream=Drip())
    with pytest.raises(DownloadFailed, match=r"longer than 0\.1 s"):
        await make(limit=1 << 30).find(f"{HOST}/ok/m.mar")
    assert _left(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://[",
        "http://[::1/m.mar",
        "file://[",
        "http://models.test:99999999/m.mar",
        "http://xn--zz--/m.mar",
        "http://\u2100/m.mar",
    ],
)
async def test_what_only_looks_like_a_url_is_refused(make, url):
    with pytest.raises(DownloadFailed):
        await make(".*").find(url)


async def test_a_redirect_to_what_is_no_url_is_refused(make, answers):
    for location in ("http://[", "http://models.test:99999999/ok/m.mar"):
        answers["/ok/m.mar"] = httpx.Response(302, headers={"Location": location})
        with pytest.raises(DownloadFailed):
            await make().find(f"{HOST}/ok/m.mar")


async def test_one_name_is_downloaded_once_at_a_time(make, answers):
    answers["/ok/m.mar"] = httpx.Response(200, content=b"archive")
    sources = make()
    found = await asyncio.gather(
        *(sources.find(f"{HOST}/ok/m.mar") for _ in range(3)), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in found) == ["ModelFileExists", "ModelFileExists", "Source"]
    with pytest.raises(ModelFileExists):
        await sources.find(f"{HOST}/ok/m.mar")


@pytest.mark.parametrize("name", ["", ".hidden.mar", "a%00b.mar", "x" * 201])
async def test_a_url_must_end_with_a_file_name(make, answers, name):
    with pytest.raises(DownloadFailed, match="usable file name"):
        await make().find(f"{HOST}/ok/{name}")
    assert answers["seen"] == []


async def test_names_and_paths(make, tmp_path):
    sources = make(f"file://{tmp_path}/allowed/.*")
    (tmp_path / "store" / "m.mar").write_bytes(b"")
    (tmp_path / "store" / ".m.mar.part").write_bytes(b"")
    for folder in ("allowed", "denied"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.mar").write_bytes(b"")
        (tmp_path / folder / "notes.txt").write_bytes(b"")
    assert (await sources.find("m.mar")).path == tmp_path / "store" / "m.mar"
    assert (await sources.find("anything/m.mar")).path == tmp_path / "store" / "m.mar"
    allowed = tmp_path / "allowed" / "x.mar"
    assert (await sources.find(str(allowed))).path == allowed
    assert (await sources.find(f"file://localhost{allowed}")).path == allowed
    for refused in (
        "",
        ".m.mar.part",
        "../store/m.mar",
        ".",
        "./",
        str(tmp_path / "denied" / "x.mar"),
        f"file://{tmp_path}/allowed/%2e%2e/denied/x.mar",
        f"file://{tmp_path}/allowed/..%2Fdenied/x.mar",
        str(tmp_path / "allowed" / "notes.txt"),
        f"file://{tmp_path}/allowed/notes.txt",
        "s3://bucket/nope.mar",
        "x" * 5_000,
        "a\0b.mar",
        "/a\0b.mar",
    ):
        with pytest.raises(ModelSourceNotFound):
            await sources.find(refused)
    source = await sources.find(str(allowed))
    source.discard()
    assert allowed.exists()


def test_patterns_that_are_none_are_named():
    with pytest.raises(ValueError, match=r"'\[' is not a regular expression"):
        parse_allowed_urls("http://.*,[")
    assert parse_allowed_urls("") == ()
