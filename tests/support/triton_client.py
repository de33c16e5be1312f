"""NVIDIA's client against a server: `python triton_client.py HTTP_PORT GRPC_PORT`.

A process of its own, because its gRPC messages have the same names as KServe's.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http


def check(client, module):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("echo")
    assert client.is_model_ready("probe", "2.0")
    image = np.random.default_rng(1).normal(size=(2, 3, 224, 224)).astype(np.float32)
    source = module.InferInput("x", list(image.shape), "FP32")
    source.set_data_from_numpy(image)
    result = client.infer("echo", [source], outputs=[module.InferRequestedOutput("y")], request_id="t-1")
    np.testing.assert_array_equal(result.as_numpy("y"), image)
    text = module.InferInput("x", [2], "BYTES")
    text.set_data_from_numpy(np.array([b"\xff\x00", b"text"], dtype=object))
    answers = client.infer("batcher", [text]).as_numpy("x").tolist()
    assert len(answers) == 2
    assert all(b'"batch_len":2' in answer for answer in answers), answers
    with pytest.raises(tritonclient.utils.InferenceServerException, match="Model not found: nope"):
        client.infer("nope", [source])


def main():
    http, grpc = tritonclient.http, tritonclient.grpc
    client = http.InferenceServerClient(f"127.0.0.1:{sys.argv[1]}")
    check(client, http)
    assert client.get_server_metadata()["name"] == "predictor"
    assert client.get_model_metadata("echo")["outputs"] == [
        {"name": "y", "datatype": "FP32", "shape": [-1] * 4}
    ]
    assert {item["name"] for item in client.get_model_repository_index()} >= {"echo", "probe"}
    small = http.InferInput("x", [1, 1, 1, 2], "FP32")
    small.set_data_from_numpy(np.array([[[[1, 2]]]], dtype=np.float32), binary_data=False)
    wanted = http.InferRequestedOutput("y", binary_data=False)
    assert client.infer("echo", [small], outputs=[wanted]).as_numpy("y").ravel().tolist() == [1, 2]

    client = grpc.InferenceServerClient(f"127.0.0.1:{sys.argv[2]}")
    check(client, grpc)
    assert client.get_server_metadata().name == "predictor"
    assert list(client.get_model_metadata("echo").outputs[0].shape) == [-1] * 4
    assert {item.name for item in client.get_model_repository_index().models} >= {"echo", "probe"}
    sys.stdout.write("ok\n")


if __name__ == "__main__":
    main()
