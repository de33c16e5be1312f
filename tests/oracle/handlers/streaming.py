"""Sends its answer in parts."""

import json

from ts.handler_utils.utils import send_intermediate_predict_response
from ts.torch_handler.base_handler import BaseHandler


class StreamingHandler(BaseHandler):
    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        order = data[0].get("body")
        for name, value in order.get("headers", []):
            context.set_response_header(0, name, value)
        if "type" in order:
            context.set_response_content_type(0, order["type"])
        if "status" in order:
            context.set_response_status(order["status"], order.get("phrase", ""), 0)
        for part in order["parts"]:
            send_intermediate_predict_response(
                [part] * len(data), context.request_ids, "Intermediate Prediction success", 200, context
            )
        if order.get("fail"):
            raise RuntimeError("in the middle")
        return [json.dumps(order["last"]) if order.get("json") else order["last"]] * len(data)
