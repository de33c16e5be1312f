"""Adds up the numbers of a sequence."""

from ts.torch_handler.base_handler import BaseHandler


class StatefulHandler(BaseHandler):
    def initialize(self, ctx):
        self.context = ctx
        if self.context.model_yaml_config["deviceType"] == "cpu":
            self.totals = {}
        self.initialized = True

    def handle(self, data, context):
        answers = []
        for idx, row in enumerate(data):
            sequence_id = context.get_sequence_id(idx)
            if context.get_request_header(idx, context.header_key_sequence_start):
                self.totals[sequence_id] = 0
            number = int(bytes(row.get("data") or row.get("body")))
            self.totals[sequence_id] = self.totals.get(sequence_id, 0) + number
            end = context.get_request_header(idx, context.header_key_sequence_end)
            answers.append(
                {
                    "total": self.totals[sequence_id],
                    "generated": sequence_id.startswith("ts-seq"),
                    "start": context.get_request_header(idx, "ts_request_sequence_start"),
                    "end": end,
                }
            )
            if end:
                del self.totals[sequence_id]
        return answers
