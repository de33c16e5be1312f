"""KServe's own clients as its users set them up: TLS, headers, timeouts, V1, explanations, compression."""

from __future__ import annotations

import contextlib
import gzip
import json
import ssl

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from support.certificates import Authority
from support.models import link_sample, make_model
from support.server import Server, free_port
from support.v2_store import make_echo

ROWS = np.arange(3000, dtype=np.float32).reshape(1, -1)
WINE = [14.2, 1.7, 2.4, 15.6, 127, 2.8, 3.1, 0.3, 2.3, 5.6, 1.0, 3.9, 1065]


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    """A server behind TLS with `url`, `grpc_url`, and the authority's certificate in the file `root`."""
    folder = tmp_path_factory.mktemp("clients")
    authority = Authority()
    root = authority.write(folder / "root.pem")
    certificate, key = authority.issue("server").write(folder)
    store = folder / "store"
    make_echo(store, "echo", "float32", 1)
    make_model(store, "probe")
    if not link_sample(store, "wine"):
        pytest.skip("no trained weights for wine")
    port = free_port()
    flags = ["--tls", "--grpc-tls", f"--tls-certificate-file={certificate}", f"--tls-key-file={key}"]
    flags += [f"--grpc-port={port}", "--compress-from=1000"]
    with Server(store, *flags, wait=False) as running:
        running.wait_started()
        running.url, running.root = f"https://localhost:{running.port}", root
        running.grpc_url = f"localhost:{port}"
        yield running


@contextlib.asynccontextmanager
async def rest(server, protocol, **options):
    context = ssl.create_default_context(cafile=str(server.root))
    client = InferenceRESTClient(RESTConfig(protocol=protocol, verify=context, **options))
    try:
        yield client
    finally:
        await client.close()


def over_grpc(server, **options):
    return InferenceGRPCClient(server.grpc_url, use_ssl=True, root_certificates=str(server.root), **options)


def tensor(name, array, datatype="FP32", *, binary=True):
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


async def test_v1(secure):
    async with rest(secure, "v1") as client:
        assert await client.is_server_live(secure.url)
        assert await client.is_model_ready(secure.url, "wine")
        with pytest.raises(httpx.HTTPStatusError, match="Model not found: nope"):
            await client.is_model_ready(secure.url, "nope")
        headers = {"X-Mine": "1", "x-request-id": "asked"}
        told: dict[str, str] = {}
        answer = await client.infer(
            secure.url, {"instances": [WINE, WINE]}, model_name="wine", headers=headers, response_headers=told
        )
        assert len(answer["predictions"]) == 2
        assert told["x-request-id"] == "asked"
        (report,) = (
            await client.infer(secure.url, {"instances": ["a"]}, model_name="probe", headers=headers)
        )["predictions"]
        assert report["headers"]["X-Mine"] == "1"


async def test_explanations(secure):
    async with rest(secure, "v1") as client:
        answer = await client.explain(secure.url, "wine", {"instances": [WINE]}, timeout=60)
        assert len(answer["explanations"]) == 1
        with pytest.raises(httpx.HTTPStatusError, match="Model not found: nope"):
            await client.explain(secure.url, "nope", {"instances": [WINE]})


async def test_a_plain_body_and_a_compressed_one(secure):
    body = json.dumps({"instances": [ROWS[0].tolist()]}).encode()
    async with rest(secure, "v1") as client:
        plain = await client.infer(secure.url, {"instances": [ROWS[0].tolist()]}, model_name="echo")
        told: dict[str, str] = {}
        packed = await client.infer(
            secure.url,
            gzip.compress(body),
            model_name="echo",
            headers={"Content-Encoding": "gzip"},
            response_headers=told,
        )
        assert plain == packed
        assert told["content-encoding"] == "gzip"


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
async def test_v2_and_grpc_answer_alike(secure, binary):
    request = InferRequest("echo", [tensor("x", ROWS, binary=binary)], request_id="r")
    async with rest(secure, "v2") as client:
        assert await client.is_server_ready(secure.url)
        assert await client.is_server_live(secure.url)
        assert await client.is_model_ready(secure.url, "echo")
        answer = await client.infer(secure.url, request, model_name="echo", timeout=httpx.Timeout(30))
        assert answer.id == "r"
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), ROWS)
    async with over_grpc(secure, timeout=60) as client:
        assert await client.is_server_ready()
        assert await client.is_server_live(headers=[("a", "b")])
        assert await client.is_model_ready("echo", timeout=60)
        answer = await client.infer(request, headers=[("x-mine", "1")])
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), ROWS)


@pytest.mark.parametrize("coding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_messages(secure, coding):
    options = [("grpc.default_compression_algorithm", coding)]
    async with over_grpc(secure, channel_args=options) as client:
        answer = await client.infer(InferRequest("echo", [tensor("x", ROWS)]))
        np.testing.assert_array_equal(answer.outputs[0].as_numpy(), ROWS)


async def test_timeouts_are_the_clients(secure):
    slow = InferRequest("echo", [tensor("x", ROWS)])
    async with rest(secure, "v2") as client:
        with pytest.raises(httpx.TimeoutException):
            await client.infer(secure.url, slow, model_name="echo", timeout=1e-6)
    async with over_grpc(secure, timeout=1e-6) as client:
        with pytest.raises(grpc.RpcError) as late:
            await client.infer(slow)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert (await client.infer(slow, timeout=60)).outputs


async def test_refusals_have_words(secure):
    wrong = InferRequest("echo", [tensor("y", ROWS), tensor("z", ROWS)])
    async with rest(secure, "v2") as client:
        with pytest.raises(httpx.HTTPStatusError, match="Missing required input: 'x'"):
            await client.infer(secure.url, wrong, model_name="echo")
        assert not await client.is_model_ready(secure.url, "nope")
    async with over_grpc(secure) as client:
        with pytest.raises(grpc.RpcError, match="Missing required input: 'x'"):
            await client.infer(wrong)
        with pytest.raises(grpc.RpcError, match="Model not found: nope"):
            await client.is_model_ready("nope")
