"""A handler that sends its answer in parts."""

from ts.handler_utils.utils import send_intermediate_predict_response


class Streamer:
    def initialize(self, context):
        pass

    def handle(self, data, context):
        for _ in range(3):
            send_intermediate_predict_response(
                ["hello"] * len(data), context.request_ids, "part", 200, context
            )
        return ["hello world "] * len(data)
