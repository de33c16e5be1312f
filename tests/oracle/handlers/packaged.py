"""Imports its siblings and a package from the archive, reads files beside itself."""

import json
import os

import lookup
from shop import price
from shop.pricing import rules
from ts.torch_handler.base_handler import BaseHandler


class PackagedHandler(BaseHandler):
    def initialize(self, context):
        model_dir = context.system_properties.get("model_dir")
        with open(os.path.join(model_dir, "words.json")) as file:
            self.words = json.load(file)
        with open("plain.txt") as file:
            self.plain = file.read().strip()
        self.initialized = True

    def handle(self, data, context):
        return [
            {
                "price": price(len(row.get("body") or b"")),
                "base": rules.BASE,
                "table": lookup.TABLE,
                "words": self.words,
                "plain": self.plain,
                "module": __name__,
                "file": os.path.basename(__file__),
            }
            for row in data
        ]
