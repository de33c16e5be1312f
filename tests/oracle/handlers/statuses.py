"""Sets statuses, phrases and headers as the body, a list of orders, says."""

from abc import ABC

from ts.torch_handler.base_handler import BaseHandler


class Statuses(BaseHandler, ABC):
    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        answers = []
        for index, row in enumerate(data):
            answer = "done"
            for verb, *values in row.get("body"):
                if verb == "status":
                    context.set_response_status(code=values[0], idx=index)
                elif verb == "phrase":
                    context.set_response_status(values[0], values[1], index)
                elif verb == "all":
                    context.set_all_response_status(*values)
                elif verb == "header":
                    context.set_response_header(index, values[0], values[1])
                elif verb == "type":
                    context.set_response_content_type(index, values[0])
                elif verb == "answer":
                    answer = values[0]
                elif verb == "read":
                    answer = [
                        context.get_response_status(index),
                        context.get_response_headers(index),
                        context.get_response_content_type(index),
                    ]
            answers.append(answer)
        return answers
