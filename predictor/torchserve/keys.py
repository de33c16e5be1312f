"""Every key of TorchServe's `config.properties`, once: how it is read, and what it does here.

The reader (`predictor.torchserve.config`) and the page `docs/torchserve-config.md`, which
`scripts/render_keys.py` writes, are both made from `KEYS`. A key that names a setting which
`predictor.settings.Settings` does not have yet is "planned": read, checked and reported, without an
effect. It becomes "mapped" by itself when the setting appears.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from predictor.settings import Settings


class Kind(enum.Enum):
    """How the text of a value is read."""

    TEXT = "text"
    SECRET = "secret"  # noqa: S105 - a kind of value, not one
    PATH = "path"
    FLAG = "true/false"
    NEGATED_FLAG = "true/false (negated)"
    INTEGER = "integer"
    NUMBER = "number"
    ADDRESS = "address"
    JSON = "JSON"


class Status(enum.Enum):
    """What a key does here."""

    MAPPED = "mapped"
    READ = "read"
    PLANNED = "planned"
    NO_EFFECT = "no effect"


@dataclass(frozen=True)
class Key:
    """One key of the file.

    `default` is TorchServe's, as text. `settings` names ours; empty, with `read` false, means no effect.
    `remark` is a sentence for `MAPPED`, `READ` and `PLANNED` keys, and the reason after "because" for the
    others. `variable` is the environment variable that may override it, empty for none.
    """

    name: str
    kind: Kind
    default: str
    remark: str
    settings: tuple[str, ...] = ()
    read: bool = False
    variable: str = ""

    @property
    def status(self) -> Status:
        """What the key does in this version."""
        if self.read:
            return Status.READ
        if not self.settings:
            return Status.NO_EFFECT
        known = all(name in Settings.model_fields for name in self.settings)
        return Status.MAPPED if known else Status.PLANNED


def _sets(name: str, kind: Kind, default: str, settings: str, remark: str = "", variable: str = "") -> Key:
    """Declare a key that is one of our settings, or several."""
    return Key(name, kind, default, remark, tuple(settings.split()), variable=variable or _variable(name))


def _read(name: str, kind: Kind, default: str, remark: str, variable: str = "") -> Key:
    """Declare a key that decides something other than a setting."""
    return Key(name, kind, default, remark, read=True, variable=variable)


def _idle(name: str, kind: Kind, default: str, because: str, variable: str | None = None) -> Key:
    """Declare a key without an effect."""
    return Key(name, kind, default, because, variable=_variable(name) if variable is None else variable)


def _variable(name: str) -> str:
    return "TS_" + name.upper()


_NO_JVM = "it tunes Netty, the Java server, and there is no Java here"
_NO_SNAPSHOT = "TorchServe writes it into its snapshots for its own use"
_AGE = "Milliseconds until a client is told to connect anew."
_GRACE = "Milliseconds that calls of such a connection may still take."

GROUPS: dict[str, tuple[Key, ...]] = {
    "Addresses": (
        _sets(
            "inference_address",
            Kind.ADDRESS,
            "http://127.0.0.1:8080",
            "host port",
            "All protocols and the metrics are on this port. `https://` asks for TLS (`tls`), "
            "`unix:/path` for a socket file (`unix_socket`).",
        ),
        _sets(
            "management_address",
            Kind.ADDRESS,
            "http://127.0.0.1:8081",
            "management_address",
            "A port of its own for the management API.",
        ),
        _sets(
            "metrics_address",
            Kind.ADDRESS,
            "http://127.0.0.1:8082",
            "metrics_address",
            "A port of its own for `/metrics`, beside the one on the main port.",
        ),
        _sets("grpc_inference_address", Kind.TEXT, "127.0.0.1", "grpc_inference_address"),
        _sets(
            "grpc_inference_port", Kind.INTEGER, "7070", "grpc_inference_port", "TorchServe's gRPC services."
        ),
        _sets("grpc_management_address", Kind.TEXT, "127.0.0.1", "grpc_management_address"),
        _sets("grpc_management_port", Kind.INTEGER, "7071", "grpc_management_port"),
        _sets(
            "grpc_inference_max_connection_age_ms",
            Kind.INTEGER,
            "no limit",
            "grpc_inference_max_connection_age_ms",
            _AGE,
        ),
        _sets(
            "grpc_inference_max_connection_age_grace_ms",
            Kind.INTEGER,
            "no limit",
            "grpc_inference_max_connection_age_grace_ms",
            _GRACE,
        ),
        _sets(
            "grpc_management_max_connection_age_ms",
            Kind.INTEGER,
            "no limit",
            "grpc_management_max_connection_age_ms",
            _AGE,
        ),
        _sets(
            "grpc_management_max_connection_age_grace_ms",
            Kind.INTEGER,
            "no limit",
            "grpc_management_max_connection_age_grace_ms",
            _GRACE,
        ),
        _idle(
            "ts_open_inference_protocol",
            Kind.FLAG,
            "false",
            "the Open Inference Protocol (V2) needs no switch here",
            variable="TS_OPEN_INFERENCE_PROTOCOL",
        ),
    ),
    "Models": (
        _sets(
            "model_store",
            Kind.PATH,
            "none, required",
            "model_store",
            "In KServe's layout a missing one is `model-store` beside the folder `config`.",
        ),
        _sets(
            "load_models",
            Kind.TEXT,
            "none",
            "models",
            "`all`, or `a.mar,name=b.mar`. Does not count when `model_snapshot` is given.",
        ),
        _read(
            "model_snapshot",
            Kind.JSON,
            "none",
            "Names the models to serve and how: KServe's way. `modelCount` is not checked.",
        ),
        _read(
            "models",
            Kind.JSON,
            "none",
            "How models are served, by name and version; a model's own model-config.yaml wins.",
        ),
        _sets(
            "default_service_handler",
            Kind.TEXT,
            "none",
            "default_service_handler",
            "Of archives that name none.",
        ),
        _sets("install_py_dep_per_model", Kind.FLAG, "false", "install_py_dep_per_model"),
        _sets(
            "allowed_urls",
            Kind.TEXT,
            "file://.*|http(s)?://.*",
            "allowed_urls",
            "Regular expressions, by commas.",
        ),
        _read(
            "use_env_allowed_urls",
            Kind.FLAG,
            "false",
            "Whether TS_ALLOWED_URLS may override `allowed_urls`; it lies in the file so that who sets the "
            "environment cannot widen it.",
        ),
        _idle(
            "workflow_store",
            Kind.PATH,
            "as model_store",
            "workflows are not offered; a client or KServe's InferenceGraph can call one model after another",
        ),
        _sets("unregister_model_timeout", Kind.INTEGER, "120", "unregister_model_timeout", "Seconds."),
    ),
    "Serving": (
        _sets(
            "default_workers_per_model",
            Kind.INTEGER,
            "0: one for each GPU, else CPU",
            "workers",
            "0 leaves our own default in place: many workers on the same cores get in each other's way.",
        ),
        _sets("job_queue_size", Kind.INTEGER, "100", "queue_size", "For each model."),
        _sets("default_response_timeout", Kind.INTEGER, "120", "response_timeout", "Seconds."),
        _sets("default_startup_timeout", Kind.INTEGER, "120", "startup_timeout", "Seconds."),
        _sets("max_request_size", Kind.INTEGER, "6553500", "max_request_size", "Bytes."),
        _sets("max_response_size", Kind.INTEGER, "6553500", "max_response_size", "Bytes."),
        _sets("decode_input_request", Kind.FLAG, "true", "decode_input"),
        _sets("limit_max_image_pixels", Kind.FLAG, "true", "limit_max_image_pixels"),
        _sets(
            "service_envelope",
            Kind.TEXT,
            "none",
            "service_envelope",
            "`body`, `json`, `kserve` or `kservev2`, for every route. V1 and V2 routes need none here.",
        ),
        _sets("number_of_gpu", Kind.INTEGER, "all", "number_of_gpu", "GPUs to use, at most."),
        _sets(
            "ts_header_key_sequence_id",
            Kind.TEXT,
            "ts_request_sequence_id",
            "sequence_id_header",
            variable="TS_HEADER_KEY_SEQUENCE_ID",
        ),
        _sets(
            "ts_header_key_sequence_start",
            Kind.TEXT,
            "ts_request_sequence_start",
            "sequence_start_header",
            variable="TS_HEADER_KEY_SEQUENCE_START",
        ),
        _sets(
            "ts_header_key_sequence_end",
            Kind.TEXT,
            "ts_request_sequence_end",
            "sequence_end_header",
            variable="TS_HEADER_KEY_SEQUENCE_END",
        ),
    ),
    "Security": (
        _sets(
            "disable_token_authorization",
            Kind.NEGATED_FLAG,
            "false",
            "token_authorization",
            "Not written, it means false to the `torchserve` command, true to `predictor serve` (and so in "
            "KServe's layout, whose clients send no token).",
        ),
        _sets(
            "token_expiration_min",
            Kind.NUMBER,
            "60",
            "token_expiration",
            "Minutes.",
            variable="TS_TOKEN_EXPIRATION_TIME_MIN",
        ),
        _sets(
            "enable_model_api",
            Kind.FLAG,
            "false",
            "enable_model_api",
            "Whether models may be added and removed.",
        ),
        _sets("private_key_file", Kind.PATH, "none", "tls_key_file", "PEM; with `certificate_file`."),
        _sets("certificate_file", Kind.PATH, "none", "tls_certificate_file", "PEM, the whole chain."),
        _sets("keystore", Kind.PATH, "none", "tls_keystore_file", "PKCS#12; counts before the two files."),
        _sets("keystore_pass", Kind.SECRET, "changeit", "tls_keystore_password"),
        _idle(
            "keystore_type",
            Kind.TEXT,
            "PKCS12",
            "PKCS#12 is the only format that is read, not Java's own JKS",
        ),
        _sets("enable_grpc_ssl", Kind.FLAG, "false", "grpc_tls"),
        _sets("cors_allowed_origin", Kind.TEXT, "none", "cors_allowed_origin"),
        _sets("cors_allowed_methods", Kind.TEXT, "none", "cors_allowed_methods"),
        _sets("cors_allowed_headers", Kind.TEXT, "none", "cors_allowed_headers"),
        _sets(
            "blacklist_env_vars",
            Kind.TEXT,
            "none",
            "blacklist_env_vars",
            "A regular expression: variables that workers do not inherit.",
        ),
    ),
    "Metrics": (
        _sets("enable_metrics_api", Kind.FLAG, "true", "enable_metrics_api"),
        _sets("metrics_mode", Kind.TEXT, "log", "metrics_mode"),
        _sets("metrics_config", Kind.PATH, "ts/configs/metrics.yaml", "metrics_config"),
        _sets("model_metrics_auto_detect", Kind.FLAG, "false", "model_metrics_auto_detect"),
        _sets("disable_system_metrics", Kind.NEGATED_FLAG, "false", "system_metrics"),
        Key("metric_time_interval", Kind.INTEGER, "60", "Seconds.", ("system_metrics_interval",)),
        _idle(
            "system_metrics_cmd", Kind.TEXT, "none", "no command is run to measure the machine", variable=""
        ),
        _idle(
            "metrics_format",
            Kind.TEXT,
            "prometheus",
            "Prometheus's text format is the only one, as in TorchServe since long",
            variable="",
        ),
    ),
    "Environment": (
        _read(
            "enable_envvars_config",
            Kind.FLAG,
            "false",
            "Whether variables such as TS_JOB_QUEUE_SIZE override the file.",
        ),
    ),
    "Java and TorchServe's own machinery": (
        _idle("number_of_netty_threads", Kind.INTEGER, "0", _NO_JVM),
        _idle("netty_client_threads", Kind.INTEGER, "0", _NO_JVM),
        _idle("prefer_direct_buffer", Kind.FLAG, "false", _NO_JVM),
        _idle("use_native_io", Kind.FLAG, "true", _NO_JVM, variable=""),
        _idle("io_ratio", Kind.INTEGER, "50", _NO_JVM, variable=""),
        _idle(
            "async_logging", Kind.FLAG, "false", "it configures Log4j; log lines are written once, in order"
        ),
        _idle(
            "vmargs",
            Kind.TEXT,
            "none",
            "they are flags of a Java virtual machine, and there is none",
            variable="",
        ),
        _idle(
            "initial_worker_port",
            Kind.INTEGER,
            "9000",
            "workers hold one end of a socket pair and need no port",
        ),
        _idle(
            "initial_distribution_port", Kind.INTEGER, "29500", "no port is set aside for torchrun beforehand"
        ),
        _idle(
            "cpu_launcher_enable",
            Kind.FLAG,
            "false",
            "workers are not started through torch.backends.xeon; `threads` shares out the cores",
        ),
        _idle("cpu_launcher_args", Kind.TEXT, "none", "workers are not started through torch.backends.xeon"),
        _idle(
            "ipex_enable",
            Kind.FLAG,
            "false",
            "nothing here loads Intel's extension; a handler that wants it can import and apply it",
        ),
        _idle("ipex_gpu_enable", Kind.FLAG, "false", "nothing here loads Intel's extension"),
        _idle(
            "plugins_path",
            Kind.PATH,
            "none",
            "plugins are Java classes, and there is no Java here",
            variable="",
        ),
        _idle("cpp_log_config", Kind.PATH, "none", "there is no C++ backend"),
        _idle("model_server_home", Kind.PATH, "found by TorchServe", "it is where TorchServe is installed"),
        _idle("debug", Kind.FLAG, "false", "use `log_level: debug` (and `workers: 1`)"),
        _idle("snapshot_store", Kind.TEXT, "FS", "files are the only place for snapshots", variable=""),
        _idle("version", Kind.TEXT, "TorchServe's", _NO_SNAPSHOT, variable=""),
        _idle("tsConfigFile", Kind.PATH, "the file", _NO_SNAPSHOT, variable=""),
        _idle("python", Kind.PATH, "python", "workers run on the Python that runs the server", variable=""),
    ),
}
"""All keys by the heading that the page puts them under."""

KEYS: dict[str, Key] = {key.name: key for keys in GROUPS.values() for key in keys}
"""All keys by name."""

VARIABLES: dict[str, str] = {key.variable: key.name for key in KEYS.values() if key.variable}
"""Which environment variable overrides which key, with `enable_envvars_config=true`.

Most are TS_ and the key in capitals. TorchServe's own exceptions: TS_TOKEN_EXPIRATION_TIME_MIN, and keys
that begin with `ts_` already.
"""

MODEL_KEYS: dict[str, str] = {
    "marName": "the archive in the model store; without it, the name and `.mar`",
    "defaultVersion": "whether this version answers when a request names none",
    "minWorkers": "worker processes to start",
    "maxWorkers": "worker processes, at most",
    "batchSize": "requests in one batch, at most",
    "maxBatchDelay": "milliseconds to wait for a batch to fill",
    "responseTimeout": "seconds for one batch",
    "startupTimeout": "seconds for a worker to load",
    "parallelLevel": "no effect, because model-config.yaml says how a model is spread over devices",
    "runtimeType": "no effect, because Python is the only runtime",
}
"""The keys of one model version in `models` and `model_snapshot`."""
