"""Calls the helpers of `ts.utils.util` and its neighbours."""

import json
import os

from ts.handler_utils.utils import import_class
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import (
    CLEANUP_REGEX,
    PredictionException,
    check_valid_pt2_backend,
    get_yaml_config,
    list_classes_from_module,
    load_label_mapping,
    map_class_to_label,
)


class UtilityHandler(BaseHandler):
    def initialize(self, context):
        self.folder = context.system_properties["model_dir"]
        self.initialized = True

    def handle(self, data, context):
        return [self.try_it(row["body"], context) for row in data]

    def try_it(self, what, context):
        try:
            return getattr(self, "do_" + what)(context)
        except Exception as error:
            return {"raised": type(error).__name__, "text": str(error).replace(self.folder, "<dir>")}

    def mapping(self, content):
        path = os.path.join(self.folder, "mapping-under-test.json")
        with open(path, "w") as file:
            json.dump(content, file)
        try:
            return load_label_mapping(path)
        finally:
            os.remove(path)

    def do_strings(self, context):
        return self.mapping({"0": "cat", "1": "dog"})

    def do_lists(self, context):
        return self.mapping({"0": ["n01", "cat"], "1": ["dog"]})

    def do_objects(self, context):
        return self.mapping({"object_type_names": ["none", "cat"]})

    def do_mapping_list(self, context):
        return self.mapping(["cat"])

    def do_mapping_numbers(self, context):
        return self.mapping({"0": 1})

    def do_mapping_missing(self, context):
        return {"mapping": load_label_mapping("/nowhere/index_to_name.json")}

    def do_labels(self, context):
        return map_class_to_label([[0.5, 0.25]], {"0": "cat", "1": "dog"}, [[1, 0]])

    def do_labels_bare(self, context):
        return map_class_to_label([[0.5, 0.25], [1, 2]])

    def do_labels_no_list(self, context):
        return map_class_to_label((1, 2))

    def do_labels_bad_mapping(self, context):
        return map_class_to_label([[1]], ["cat"])

    def do_labels_unknown(self, context):
        return map_class_to_label([[1]], {"0": "cat"}, [[5]])

    def do_backends(self, context):
        return [check_valid_pt2_backend(name) for name in ("inductor", "eager", "ipex")]

    def do_yaml(self, context):
        return get_yaml_config(os.path.join(self.folder, "model-config.yaml"))

    def do_yaml_missing(self, context):
        return {"config": get_yaml_config("/nowhere.yaml")}

    def do_classes(self, context):
        import utilities

        found = list_classes_from_module(utilities)
        return [[cls.__name__ for cls in found], len(list_classes_from_module(utilities, BaseHandler))]

    def do_import_class(self, context):
        return import_class("utilities.UtilityHandler").__name__

    def do_import_nothing(self, context):
        return str(import_class("utilities.Nobody"))

    def do_regex(self, context):
        return CLEANUP_REGEX.sub("", "<b>bold</b> &amp; &#39;quoted&#39;")

    def do_exception(self, context):
        error = PredictionException("told", 404)
        return [str(error), error.message, error.error_code, repr(error.args)]

    def do_mock(self, context):
        import ts.torch_handler.unit_tests.test_utils.mock_context as mock

        return mock.MockContext.__name__

    def do_version(self, context):
        import ts
        from ts.version import __version__

        return [ts.__version__.strip(), __version__.strip()]
