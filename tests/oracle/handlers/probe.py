"""Answers with everything that it can see: its rows, and what its context knows."""

import os
import sys

from ts.torch_handler.base_handler import BaseHandler


def show(value):
    if isinstance(value, (bytes, bytearray)):
        return {"type": type(value).__name__, "text": bytes(value).decode("latin-1")}
    if isinstance(value, (list, dict, str, int, float, bool)) or value is None:
        return {"type": type(value).__name__, "value": value}
    return {"type": type(value).__name__, "repr": repr(value)}


class Probe(BaseHandler):
    def initialize(self, context):
        self.context = context
        self.loads = getattr(self, "loads", 0) + 1
        self.request_ids_at_load = context.request_ids
        self.initialized = True

    def handle(self, data, context):
        question = [row.get("ask") for row in data]
        if question[0] is not None:
            return [self.about(bytes(part).decode(), context) for part in question]
        return [self.seen(row, index, context) for index, row in enumerate(data)]

    def seen(self, row, index, context):
        return {
            "rows": {key: show(value) for key, value in row.items()},
            "order": list(row),
            "headers": dict(sorted(context.get_all_request_header(index).items())),
            "sequence": context.get_sequence_id(index),
            "id is for the index": context.get_request_id(index) == context.request_ids[index],
        }

    def about(self, topic, context):
        return getattr(self, "about_" + topic)(context)

    def about_context(self, context):
        properties = dict(context.system_properties)
        model_dir = properties.pop("model_dir")
        return {
            "same object": context is self.context,
            "model_name": context.model_name,
            "properties": properties,
            "manifest": {key: value for key, value in context.manifest.items() if key != "createdOn"},
            "config": context.model_yaml_config,
            "stopping": context.stopping_criteria,
            "sequence headers": [
                context.header_key_sequence_id,
                context.header_key_sequence_start,
                context.header_key_sequence_end,
            ],
            "processors": [type(item).__name__ for item in context.request_processor],
            "status": context.get_response_status(0),
            "content type": context.get_response_content_type(0),
            "response headers": context.get_response_headers(0),
            "missing header": context.get_request_header(0, "nope"),
            "no such index": context.get_request_id(7),
            "model_dir is cwd": os.path.realpath(model_dir) == os.path.realpath(os.getcwd()),
            "ids at load": self.request_ids_at_load,
            "loads": self.loads,
            "equal": [context == context, context == 1],
        }

    def about_process(self, context):
        model_dir = context.system_properties["model_dir"]
        return {
            "files": sorted(os.listdir(model_dir)),
            "path first": os.path.realpath(sys.path[0]) == os.path.realpath(model_dir),
            "pythonpath": os.path.realpath(os.environ["PYTHONPATH"].split(os.pathsep)[0])
            == os.path.realpath(model_dir),
            "unbuffered": os.environ.get("PYTHONUNBUFFERED"),
            "dont write bytecode": sys.dont_write_bytecode,
            "decode": os.environ.get("TS_DECODE_INPUT_REQUEST"),
            "note": open("notes.txt").read(),
        }

    def about_base(self, context):
        return sorted(key for key in vars(BaseHandler()) if not key.startswith("__"))
