"""Counts up to the number that a request asks for, one number at each call."""

from ts.torch_handler.base_handler import BaseHandler


class CountingHandler(BaseHandler):
    def initialize(self, context):
        self.context = context
        context.cache = {}
        self.initialized = True

    def handle(self, data, context):
        answers = []
        context.stopping_criteria = {}
        for idx, row in enumerate(data):
            request_id = context.get_request_id(idx)
            if request_id not in context.cache:
                context.cache[request_id] = {"next": 1, "order": row["body"]}
            state = context.cache[request_id]
            number = state["next"]
            state["next"] += 1
            context.stopping_criteria[idx] = self.stop(request_id, state["order"]["limit"])
            if state["order"].get("json"):
                headers = {key for key in context.get_all_request_header(idx) if key != "content-length"}
                answers.append(
                    {"number": number, "row": sorted(row), "headers": sorted(headers), "rows": len(data)}
                )
            else:
                answers.append(f"{number} ")
        return answers

    def stop(self, request_id, limit):
        def is_done(answer):
            number = answer["number"] if isinstance(answer, dict) else int(answer)
            if number >= limit:
                self.context.cache.pop(request_id, None)
            return number >= limit

        return is_done
