from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

SURFACE = """
ts __version__
ts.version __version__
ts.context Context RequestProcessor
ts.service Service emit_metrics PredictionException
ts.launcher start stop register_model register_model_with_params
ts.utils.util list_classes_from_module load_label_mapping map_class_to_label PredictionException
ts.utils.util check_valid_pt2_backend CLEANUP_REGEX get_yaml_config deprecated PT2Backend
ts.utils.timeit_decorator timeit
ts.handler_utils.timer timed
ts.handler_utils.utils send_intermediate_predict_response import_class
ts.handler_utils.micro_batching MicroBatching
ts.handler_utils.text_utils get_tokenizer ngrams_iterator
ts.protocol.otf_message_handler send_intermediate_predict_response
ts.metrics.dimension Dimension
ts.metrics.metric Metric
ts.metrics.metric_type_enum MetricTypes
ts.metrics.metric_encoder MetricEncoder
ts.metrics.unit Units
ts.metrics.metrics_store MetricsStore
ts.metrics.caching_metric CachingMetric
ts.metrics.metric_cache_yaml_impl MetricsCacheYamlImpl
ts.metrics.metric_cache_errors MetricsCacheKeyError MetricsCacheTypeError MetricsCacheValueError
ts.metrics.process_memory_metric get_cpu_usage check_process_mem_usage
ts.torch_handler.base_handler BaseHandler
ts.torch_handler.vision_handler VisionHandler
ts.torch_handler.image_classifier ImageClassifier
ts.torch_handler.image_segmenter ImageSegmenter
ts.torch_handler.object_detector ObjectDetector
ts.torch_handler.text_handler TextHandler
ts.torch_handler.text_classifier TextClassifier
ts.torch_handler.densenet_handler DenseNetHandler
ts.torch_handler.contractions CONTRACTION_MAP
ts.torch_handler.distributed.base_deepspeed_handler BaseDeepSpeedHandler
ts.torch_handler.request_envelope.base BaseEnvelope
ts.torch_handler.request_envelope.body BodyEnvelope
ts.torch_handler.request_envelope.json JSONEnvelope
ts.torch_handler.request_envelope.kserve KServeEnvelope
ts.torch_handler.request_envelope.kservev2 KServev2Envelope
ts.torch_handler.unit_tests.test_utils.mock_context MockContext
ts.torch_handler.unit_tests.test_utils.model_dir download_model copy_files
"""


@pytest.mark.parametrize("line", SURFACE.strip().splitlines())
def test_names_handlers_import(line):
    module, *names = line.split()
    loaded = importlib.import_module(module)
    assert [name for name in names if not hasattr(loaded, name)] == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("base_handler", "BaseHandler"),
        ("image_classifier", "ImageClassifier"),
        ("image_segmenter", "ImageSegmenter"),
        ("object_detector", "ObjectDetector"),
        ("text_classifier", "TextClassifier"),
        ("densenet_handler", "DenseNetHandler"),
        ("request_envelope.body", "BodyEnvelope"),
        ("request_envelope.json", "JSONEnvelope"),
        ("request_envelope.kserve", "KServeEnvelope"),
        ("request_envelope.kservev2", "KServev2Envelope"),
    ],
)
def test_a_module_named_in_an_archive_defines_one_class_and_no_handle(module, name):
    from ts.utils.util import list_classes_from_module

    loaded = importlib.import_module(f"ts.torch_handler.{module}")
    assert [each.__name__ for each in list_classes_from_module(loaded)] == [name]
    assert not hasattr(loaded, "handle")


def test_handlers_load_without_torchvision_captum_or_the_server():
    root = Path(__file__).parents[2]
    code = (
        "import sys; sys.path[:0] = ['predictor/compat', '.']\n"
        "import ts.torch_handler.image_classifier, ts.torch_handler.object_detector\n"
        "import ts.torch_handler.text_classifier\n"
        "import ts.service, ts.handler_utils.micro_batching\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('torchvision', 'captum', 'kserve')\n"
        "       or m.startswith(('predictor.serving', 'predictor.protocols'))])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root) == "[]\n"
