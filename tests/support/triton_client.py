"""NVIDIA's clients against a server: `python triton_client.py HTTP_PORT GRPC_PORT`.

A process of its own, because its gRPC messages have the same names as KServe's.
"""

from __future__ import annotations

import asyncio
import queue
import sys

import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

IMAGE = np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)


def tensor(module, name, array, datatype, **options):
    made = module.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **options)
    return made


def check(client, module):
    """What both protocols do."""
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("probe", "2.0")
    source = tensor(module, "x", IMAGE, "FP32")
    wanted = [module.InferRequestedOutput("y")]
    result = client.infer(
        "echo", [source], outputs=wanted, request_id="t-1", parameters={"a": 1.5, "b": True, "c": "x", "d": 2}
    )
    np.testing.assert_array_equal(result.as_numpy("y"), IMAGE)
    narrow = np.array([[1, np.inf, -0.0]], dtype=ml_dtypes.bfloat16)
    answer = client.infer("echo_bf16", [tensor(module, "x", narrow, "BF16")]).as_numpy("y")
    assert answer.view("u2").tolist() == narrow.view("u2").tolist()
    half = np.array([[[[0.5]]]], dtype=np.float16)
    assert client.infer("echo", [tensor(module, "x", half, "FP16")]).as_numpy("y").tolist() == half.tolist()
    text = tensor(module, "x", np.array([b"\xff\x00", b"text"], dtype=object), "BYTES")
    answers = client.infer("batcher", [text]).as_numpy("x").tolist()
    assert len(answers) == 2
    assert all(b'"batch_len":2' in answer for answer in answers), answers
    with pytest.raises(InferenceServerException, match="Model not found: nope"):
        client.infer("nope", [source])
    refuse(client, module, source)


def refuse(client, module, source):
    """What only Triton has is refused in words, and leaves no client with a wrong answer."""
    shared = module.InferInput("x", [1, 1, 1, 4], "FP32")
    shared.set_shared_memory("region", 16)
    with pytest.raises(InferenceServerException, match="'shared_memory_region' is not supported"):
        client.infer("echo", [shared])
    wanted = module.InferRequestedOutput("y")
    wanted.set_shared_memory("region", 16)
    with pytest.raises(InferenceServerException, match="'shared_memory_region' is not supported"):
        client.infer("echo", [source], outputs=[wanted])
    with pytest.raises(InferenceServerException, match="'classification' is not supported"):
        client.infer("echo", [source], outputs=[module.InferRequestedOutput("y", class_count=2)])
    with pytest.raises(InferenceServerException, match="Model control is off"):
        client.load_model("echo")
    for method in ("get_model_config", "get_inference_statistics"):
        with pytest.raises(InferenceServerException, match=r"404|UNIMPLEMENTED"):
            getattr(client, method)("echo")
    with pytest.raises(InferenceServerException, match=r"404|UNIMPLEMENTED"):
        client.get_system_shared_memory_status()


def check_http(client):
    """What REST alone has: JSON, compression both ways."""
    http = tritonclient.http
    assert client.get_server_metadata()["name"] == "predictor"
    assert client.get_model_metadata("echo")["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [-1] * 4}
    ]
    assert {item["name"] for item in client.get_model_repository_index()} >= {"echo", "probe"}
    small = tensor(http, "x", np.array([[[[1, 2]]]], dtype=np.float32), "FP32", binary_data=False)
    as_json = http.InferRequestedOutput("y", binary_data=False)
    assert client.infer("echo", [small], outputs=[as_json]).as_numpy("y").ravel().tolist() == [1, 2]
    assert client.async_infer("echo", [small]).get_result().as_numpy("y").ravel().tolist() == [1, 2]
    image = IMAGE.round()
    for coding in ("gzip", "deflate"):
        for source, wanted in (
            (small, [as_json]),
            (tensor(http, "x", image, "FP32"), [http.InferRequestedOutput("y")]),
        ):
            result = client.infer(
                "echo",
                [source],
                outputs=wanted,
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            expected = image if source is not small else np.array([[[[1, 2]]]])
            np.testing.assert_array_equal(result.as_numpy("y"), expected)


def check_grpc(client):
    """What gRPC alone has: compression, and streams of requests."""
    grpc = tritonclient.grpc
    assert client.get_server_metadata().name == "predictor"
    assert list(client.get_model_metadata("echo").outputs[0].shape) == [-1] * 4
    assert {item.name for item in client.get_model_repository_index().models} >= {"echo", "probe"}
    source = tensor(grpc, "x", IMAGE, "FP32")
    for coding in ("gzip", "deflate"):
        result = client.infer("echo", [source], compression_algorithm=coding, client_timeout=60)
        np.testing.assert_array_equal(result.as_numpy("y"), IMAGE)

    check_stream(client, [tensor(grpc, "x", IMAGE[:1, :, :2] + number, "FP32") for number in range(5)])


def check_stream(client, sources):
    """A stream goes on after a request that is refused."""
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number, source in enumerate(sources):
        client.async_stream_infer("echo", [source], request_id=str(number))
        client.async_stream_infer("nope", [source], request_id=f"{number} refused")
    for number in range(len(sources)):
        result, error = answers.get(timeout=60)
        assert error is None, error
        assert result.get_response().id == str(number)
        np.testing.assert_array_equal(result.as_numpy("y"), IMAGE[:1, :, :2] + number)
        _, error = answers.get(timeout=60)
        assert "Model not found: nope" in str(error)
    client.stop_stream()


async def check_asyncio(http_url, grpc_url):
    """The same clients for asyncio."""
    for module, url in ((tritonclient.http.aio, http_url), (tritonclient.grpc.aio, grpc_url)):
        async with module.InferenceServerClient(url) as client:
            assert await client.is_server_ready()
            assert await client.is_model_ready("echo")
            results = await asyncio.gather(
                *(
                    client.infer("echo", [tensor(module, "x", IMAGE[:1, :, :2] + number, "FP32")])
                    for number in range(5)
                )
            )
            for number, result in enumerate(results):
                np.testing.assert_array_equal(result.as_numpy("y"), IMAGE[:1, :, :2] + number)


def main():
    http_url, grpc_url = f"127.0.0.1:{sys.argv[1]}", f"127.0.0.1:{sys.argv[2]}"
    with tritonclient.http.InferenceServerClient(http_url) as client:
        check(client, tritonclient.http)
        check_http(client)
    with tritonclient.grpc.InferenceServerClient(grpc_url) as client:
        check(client, tritonclient.grpc)
        check_grpc(client)
    asyncio.run(check_asyncio(http_url, grpc_url))
    sys.stdout.write("ok\n")


if __name__ == "__main__":
    main()
