"""Shows the rows that an envelope hands over; a row may ask for something else."""

from ts.torch_handler.base_handler import BaseHandler


def show(value):
    if isinstance(value, (bytes, bytearray)):
        return {type(value).__name__: bytes(value).decode("latin-1")}
    if isinstance(value, dict):
        return {key: show(item) for key, item in value.items()}
    return value


class EnvelopedHandler(BaseHandler):
    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        text = str(data)
        if "raise" in text:
            raise ValueError("asked for")
        if "status 418" in text:
            context.set_response_status(418, "Teapot", 0)
        if "answer bytes" in text:
            return [b"bytes"] * len(data)
        if "answer str" in text:
            return ["str"] * len(data)
        if "answer numbers" in text:
            return [[1.5, 2, 3]] * len(data)
        if "answer dict of lists" in text:
            return [{"a": [1, 2]}] * len(data)
        if "answer short" in text:
            return []
        explain = context.get_request_header(0, "explain")
        return [
            {"row": show(row), "type": type(row).__name__, "rows": len(data), "explain": explain}
            for row in data
        ]
