"""A small server on KServe's own SDK, as it is: the oracle, and the bearer of the defects.

Run as a script: `sdk_app.py HTTP_PORT GRPC_PORT`; `support.sdk.SdkServer` starts it.
"""

from __future__ import annotations

import sys


def main(http_port: int, grpc_port: int) -> None:  # noqa: C901 - the models are small, and need kserve
    sys.argv = sys.argv[:1]  # kserve reads the command line when it is imported
    from kserve import InferOutput, InferResponse, Model, ModelServer

    class Echo(Model):
        """Answers V1's instances and V2's inputs as they came."""

        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.ready = True

        async def predict(self, payload, headers=None, response_headers=None):
            if isinstance(payload, dict):
                return {"predictions": payload.get("instances", payload.get("inputs"))}
            if isinstance(payload, bytes):
                return {"predictions": [f"{len(payload)} raw bytes"]}
            outputs = []
            for item in payload.inputs:
                output = InferOutput(item.name, list(item.shape), item.datatype)
                values = item.as_numpy()
                output.set_data_from_numpy(values, binary_data=payload.use_binary_outputs)
                outputs.append(output)
            return InferResponse(
                payload.id,
                self.name,
                outputs,
                use_binary_outputs=payload.use_binary_outputs,
                requested_outputs=payload.request_outputs,
            )

        async def explain(self, payload, headers=None):
            return {"explanations": payload["instances"]}

    class Counting(Echo):
        """Answers V2 with the number of elements that it was given."""

        async def predict(self, payload, headers=None, response_headers=None):
            counts = [len(item.data) for item in payload.inputs]
            return InferResponse(payload.id, self.name, [InferOutput("n", [len(counts)], "INT64", counts)])

    class Unwritten(Echo):
        """Answers nothing yet."""

        async def predict(self, payload, headers=None, response_headers=None):
            raise NotImplementedError("not written")

    class ListExplainer(Echo):
        """Answers an explanation that is a list."""

        async def explain(self, payload, headers=None):
            return [1, 2, 3]

    class PictureExplainer(Echo):
        """Answers an explanation that is a picture."""

        async def explain(self, payload, headers=None):
            return b"\x89PNG\r\n\x1a\n"

    class Sleeping(Echo):
        """Is known, and never ready."""

        def load(self):
            return False

    server = ModelServer(http_port=http_port, grpc_port=grpc_port, workers=1, enable_grpc=True)
    sleeping = Sleeping("sleeping")
    sleeping.ready = False
    server.registered_models.update(sleeping)
    models = [Echo("echo"), ListExplainer("list"), PictureExplainer("picture")]
    server.start([*models, Counting("count"), Unwritten("unwritten")])


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
