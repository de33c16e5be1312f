"""A handler that is a function of its module, as many of TorchServe's older examples are."""


def handle(data, context):
    if data is None:
        return None
    return [bytes(row.get("data") or row.get("body") or b"") for row in data]
