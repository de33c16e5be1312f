"""Shows the batch, and treats each of its rows as that asks for."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class BatchingHandler(BaseHandler):
    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        orders = [row.get("body") for row in data]
        for idx, order in enumerate(orders):
            if order.get("raise"):
                raise ValueError("one of them")
            if "status" in order:
                context.set_response_status(order["status"], order.get("phrase", ""), idx)
            if "header" in order:
                context.set_response_header(idx, "X-Row", order["header"])
            if "type" in order:
                context.set_response_content_type(idx, order["type"])
        if any(order.get("short") for order in orders):
            return [1] * (len(data) - 1)
        bad = {"set": {1}, "tensor": torch.ones(1), "bytes": b"bytes", "none": None}
        return [
            bad[order["answer"]]
            if "answer" in order
            else {
                "me": order["me"],
                "batch": len(data),
                "batch_size": context.system_properties["batch_size"],
                "mine": context.get_request_header(idx, "X-Me"),
                "explain": context.get_request_header(idx, "explain"),
            }
            for idx, order in enumerate(orders)
        ]
