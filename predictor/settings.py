"""Every setting, once: the source of `--help`, of `docs/settings.md` and of the environment's names.

Precedence, highest first: command line, environment (`PREDICTOR_` and the name in capitals), the file
given with `--config` (YAML, or TorchServe's config.properties), defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from predictor.addresses import parse_address, parse_allowed_urls

ENV_PREFIX = "PREDICTOR_"

USUAL_PORT = -1
"""The port number that stands for TorchServe's usual one, if it is free."""


class SettingsError(Exception):
    """A setting cannot be used; the text names it and where it came from."""


def setting(default: Any, group: str, description: str, **limits: Any) -> Any:
    """Declare a setting: its default, the heading it stands under, and one sentence about it."""
    return Field(default, description=description, json_schema_extra={"group": group}, **limits)


class Settings(BaseSettings):
    """The settings of one server; see each field's description."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid")

    model_store: Path = setting(
        Path("model_store"), "Models", "Folder of models, or one archive or model folder."
    )
    models: str = setting(
        "all", "Models", "What to serve: all, none, or archives and models by name: a.mar, name=b.mar, wine."
    )
    model_name: str = setting("", "Models", "A further name for the model, when exactly one is served.")
    default_model: str = setting("", "Models", "The model that POST /predict means when the path names none.")
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Models", "Where models run; auto takes GPUs if any."
    )
    threads: int = setting(
        0, "Models", "Threads that PyTorch uses in each worker; 0 shares out the cores.", ge=0
    )

    host: str = setting("127.0.0.1", "Network", "Address to listen on; 0.0.0.0 for all.")
    port: int = setting(8080, "Network", "HTTP port of all protocols; 0 picks a free one.", ge=0, le=65535)
    unix_socket: Path | None = setting(
        None, "Network", "A socket file to listen on for HTTP, without TLS, instead of host and port."
    )
    grpc_port: int = setting(
        8081,
        "Network",
        "gRPC port (V2 and TorchServe's inference API), on the same address; 0 for none.",
        ge=0,
        le=65535,
    )
    grpc_inference_address: str = setting(
        "127.0.0.1", "Network", "Where grpc_inference_port listens; 0.0.0.0 for all."
    )
    grpc_inference_port: int = setting(
        0,
        "Network",
        "A further gRPC port for inference; 0 for none, -1 for 7070 if it is free.",
        ge=-1,
        le=65535,
    )
    grpc_management_address: str = setting(
        "127.0.0.1", "Network", "Where grpc_management_port listens; 0.0.0.0 for all."
    )
    grpc_management_port: int = setting(
        0,
        "Network",
        "gRPC port of TorchServe's management API; 0 for none, -1 for 7071 if it is free.",
        ge=-1,
        le=65535,
    )
    grpc_inference_max_connection_age_ms: int = setting(
        0, "Network", "Milliseconds after which a gRPC client must connect anew; 0 for never.", ge=0
    )
    grpc_inference_max_connection_age_grace_ms: int = setting(
        0, "Network", "Milliseconds that calls of such a connection may still take; 0 for no limit.", ge=0
    )
    grpc_management_max_connection_age_ms: int = setting(
        0, "Network", "The same age, for grpc_management_port.", ge=0
    )
    grpc_management_max_connection_age_grace_ms: int = setting(
        0, "Network", "The same time for calls, for grpc_management_port.", ge=0
    )
    management_address: str = setting(
        "",
        "Network",
        "Where the management API listens, as a URL (http://127.0.0.1:8081); empty for nowhere.",
    )
    metrics_address: str = setting(
        "", "Network", "A further address for /metrics, as a URL; empty for the main port alone."
    )
    max_request_size: int = setting(
        6_553_500, "Network", "Bytes of a request body or gRPC message, at most.", ge=1
    )
    max_response_size: int = setting(6_553_500, "Network", "Bytes of an answer, at most.", ge=1)
    compress_from: int = setting(
        0,
        "Network",
        "Bytes from which on answers are compressed for clients that accept gzip or deflate; 0 for never.",
        ge=0,
    )
    pages: bool = setting(True, "Network", "Serve /ui, /docs and the examples in the models' folders.")
    keep_alive: int = setting(65, "Network", "Seconds that an idle connection stays open.", ge=1)

    workers: int = setting(1, "Serving", "Worker processes of a model that does not say.", ge=0)
    batch_size: int = setting(
        1, "Serving", "Requests in one batch, at most, of a model that does not say.", ge=1
    )
    max_batch_delay: float = setting(
        0,
        "Serving",
        "Milliseconds to wait for a batch to fill while a worker is free; 0 does not wait.",
        ge=0,
    )
    queue_size: int = setting(100, "Serving", "Requests that wait for a model before others get 503.", ge=1)
    response_timeout: float = setting(120, "Serving", "Seconds that a handler may take for one batch.", gt=0)
    startup_timeout: float = setting(120, "Serving", "Seconds that a worker may take to load.", gt=0)
    max_retry_timeout: float = setting(
        300, "Serving", "Seconds of restarts before a model that keeps dying is given up.", ge=0
    )
    service_envelope: str = setting(
        "", "Serving", "TorchServe's envelope for its own routes: body, json, kserve or kservev2."
    )
    install_py_dep_per_model: bool = setting(
        False, "Serving", "Install the requirements.txt of archives, each into a folder of its own."
    )
    decode_input: bool = setting(
        True, "Serving", "Decode JSON and text bodies for handlers, as TorchServe does."
    )
    limit_max_image_pixels: bool = setting(
        True, "Serving", "Refuse pictures with too many pixels (Pillow's limit)."
    )

    token_authorization: bool = setting(
        False, "Security", "Ask for the tokens of a key file that is made at the start, as TorchServe does."
    )
    token_expiration: float = setting(
        60, "Security", "Minutes that the tokens of the key file count; /token makes new ones.", gt=0
    )
    token_key_file: Path = setting(Path("key_file.json"), "Security", "Where that file is written.")
    token_file: Path | None = setting(
        None,
        "Security",
        "Ask for the tokens in this file (one a line) or folder of files, read again when they change.",
    )
    tls: bool = setting(False, "Security", "Speak HTTPS on the main port.")
    grpc_tls: bool = setting(False, "Security", "Speak TLS on the gRPC ports.")
    tls_certificate_file: Path | None = setting(
        None, "Security", "The server's certificate, PEM, the whole chain; read again when it changes."
    )
    tls_key_file: Path | None = setting(None, "Security", "Its private key, PEM.")
    tls_keystore_file: Path | None = setting(
        None, "Security", "Key and certificates as PKCS#12, instead of the two files above."
    )
    tls_keystore_password: str = setting("changeit", "Security", "The keystore's password.")
    tls_client_ca_file: Path | None = setting(
        None, "Security", "Authorities of clients, PEM; clients without a certificate of theirs are refused."
    )
    cors_allowed_origin: str = setting(
        "", "Security", "Sites whose pages may read answers (CORS), by commas; * for all."
    )
    cors_allowed_methods: str = setting("", "Security", "Methods that such pages may use, by commas.")
    cors_allowed_headers: str = setting("", "Security", "Headers that such pages may send, by commas.")

    enable_model_api: bool = setting(False, "Management", "Let clients add, remove, load and unload models.")
    allowed_urls: str = setting(
        "file://.*|http(s)?://.*",
        "Management",
        "What a model's URL or path outside the store must match: regular expressions, by commas.",
    )
    snapshot_folder: Path | None = setting(
        None, "Management", "Folder for snapshots of the configuration after each change, as TorchServe's."
    )
    max_archive_size: int = setting(
        16 << 30, "Management", "Bytes of an archive that is downloaded, at most.", ge=1
    )
    unregister_model_timeout: float = setting(
        120, "Management", "Seconds that accepted requests may take when their model is removed.", ge=0
    )
    default_service_handler: str = setting(
        "", "Models", "Handler of archives that name none: a module of theirs, or a built-in one."
    )

    explain_workers: int = setting(
        0,
        "Explanations",
        "Processes of each model that only explain; 0 lets explanations share the model's workers.",
        ge=0,
    )
    explain_queue_size: int = setting(
        0, "Explanations", "Explanations that wait for a model before others get 503; 0 as predictions.", ge=0
    )
    explain_timeout: float = setting(
        0, "Explanations", "Seconds that one batch of explanations may take; 0 as predictions.", ge=0
    )
    explain_max_rows: int = setting(
        0,
        "Explanations",
        "Rows that one explanation may send through a model; 0 decides by the size of its input.",
        ge=0,
    )

    drain_delay: float = setting(
        2,
        "Stopping",
        "Seconds after SIGTERM during which the server is unready but still accepts requests.",
        ge=0,
    )
    grace_period: float = setting(30, "Stopping", "Seconds that accepted requests may take to finish.", ge=0)

    log_format: Literal["auto", "text", "json"] = setting(
        "auto", "Logging", "text for people, json for collectors; auto decides by the terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Logging", "Lowest level written."
    )
    access_log: bool = setting(True, "Logging", "Write one line for each request but health probes.")
    started_line: str = setting("", "Logging", "Printed to stdout once every model is loaded or has failed.")

    enable_metrics_api: bool = setting(True, "Metrics", "Serve /metrics.")
    metrics_mode: Literal["prometheus", "log", "legacy"] = setting(
        "prometheus",
        "Metrics",
        "Where metrics with TorchServe's names go: to /metrics, to the log, or, as before TorchServe 0.8, "
        "those of inferences to both and the others to the log. All others are on /metrics always.",
    )
    metrics_config: Path | None = setting(
        None, "Metrics", "TorchServe's metrics.yaml: which of its metrics, and of handlers', are wanted."
    )
    model_metrics_auto_detect: bool = setting(
        False,
        "Metrics",
        "Take metrics of handlers that metrics_config does not list; without such a file all are taken.",
    )
    system_metrics: bool = setting(True, "Metrics", "Measure processors, memory, disk and GPUs.")
    system_metrics_interval: float = setting(60, "Metrics", "Seconds between two measurements.", gt=0)

    @field_validator("management_address", "metrics_address")
    @classmethod
    def _check_address(cls, text: str, info: ValidationInfo) -> str:
        """Refuse what is no address; an empty one is none at all."""
        if text.strip():
            parse_address(text, str(info.field_name))
        return text.strip()

    @field_validator("allowed_urls")
    @classmethod
    def _check_patterns(cls, text: str) -> str:
        """Refuse what is no regular expression."""
        parse_allowed_urls(text)
        return text

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the file below the environment, and leave pydantic's other sources out."""
        return init_settings, env_settings, _FileSource(settings_cls)


class _FileSource(PydanticBaseSettingsSource):
    """The values of the file given with `--config`."""

    values: Mapping[str, Any] = {}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the value of one field."""
        return self.values.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return all values."""
        return dict(self.values)


def load_settings(
    flags: Mapping[str, Any], file_values: Mapping[str, Any] | None = None, source: Path | None = None
) -> Settings:
    """Resolve all settings.

    Args:
        flags: those given on the command line, by field name.
        file_values: those of the configuration file, by field name.
        source: that file, for error messages.

    Raises:
        SettingsError: a value is wrong; the text names the setting as the user wrote it.
    """
    _FileSource.values = file_values or {}
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise SettingsError(
            "\n".join(_explain(problem, flags, source) for problem in error.errors())
        ) from error
    finally:
        _FileSource.values = {}


def read_settings_file(path: Path) -> Mapping[str, Any]:
    """Read a YAML file of settings by field name.

    Raises:
        SettingsError: it cannot be read, or is something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: expected settings by name, got {type(values).__name__}")
    odd = next((name for name in values if not isinstance(name, str)), None)
    if odd is not None:
        raise SettingsError(f"{path}: {odd!r} is not the name of a setting")
    return values


def _explain(problem: Any, flags: Mapping[str, Any], config: Path | None) -> str:
    """Name the setting at fault the way the user wrote it."""
    name = ".".join(str(part) for part in problem["loc"])
    variable = ENV_PREFIX + name.upper()
    if name in flags:
        where = "--" + name.replace("_", "-")
    elif variable in os.environ:
        where = variable
    else:
        where = f"{config}: {name}"
    return f"{where}: {problem['msg']}"
