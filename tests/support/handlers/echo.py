"""A TorchServe-style handler that answers what it was given, on V1 and V2."""

import numpy as np

_DTYPES = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "float32", "BOOL": "bool"}


class Echo:
    def initialize(self, context):
        self.explains = (context.model_yaml_config or {}).get("handler", {}).get("explains")

    def handle(self, data, context):
        if self.explains and context.get_request_header(0, "explain") == "True":
            return [self.explains] * len(data)
        return [echo(row) for row in data]


def echo(row):
    if "datatype" not in row:
        return row["data"] if list(row) == ["data"] else row
    if row["datatype"] == "BYTES":
        return row["data"]
    return np.array(row["data"], _DTYPES.get(row["datatype"], row["datatype"].lower()))
