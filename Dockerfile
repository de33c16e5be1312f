# docker build -t predictor:0.1.0 .                               CPU
# docker build -t predictor:0.1.0-gpu --build-arg TORCH=cuda .    NVIDIA GPUs
#
# docs/image.md says what is in the image, how large it is and how to build it behind a proxy.
#
#   pins ──> torch ──> packages ──> code        built in this order, each from what it needs only
#              └───────────┴──────────┴──> the image: one layer of each, no pip cache, no compiler

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# ---------------------------------------------------------------------------------------------- base

FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/predictor/bin:/opt/packages/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_INPUT=1 \
    PIP_ROOT_USER_ACTION=ignore

FROM base AS builder
# tini is static: the image itself needs no package manager. The base image's release fixes its version.
# hadolint ignore=DL3008
RUN apt-get update -qq \
 && apt-get install -qq --yes --no-install-recommends tini \
 && cp /usr/bin/tini-static /usr/local/bin/tini \
 && rm -rf /var/lib/apt/lists/*
# Three folders, three layers, one environment: packages see the other two through a .pth file.
RUN python -m venv /opt/packages \
 && printf '%s\n' /opt/predictor /opt/torch >"$(echo /opt/packages/lib/python3*/site-packages)/layers.pth"

# ---------------------------------------------------------------------------------------------- pins
# What a layer is built from decides when it is built anew, so each gets its own lines only.

FROM base AS pins
ARG TORCH=cpu
WORKDIR /pins
COPY constraints.txt pyproject.toml ./
RUN grep -E '^(torch|filelock|fsspec|jinja2|markupsafe|mpmath|networkx|setuptools|sympy|triton|typing-extensions|(nvidia|cuda)-[a-z0-9-]+)==' \
      constraints.txt >torch.txt
# PyTorch itself is in its layer already, in the variant that was asked for.
RUN grep -v '^torch==' constraints.txt >packages.txt \
 && python -c "import sys, tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']['gpu'] if sys.argv[1] == 'cuda' else []; \
print(*project['dependencies'], *extras, sep='\n')" "$TORCH" >requirements.txt

# --------------------------------------------------------------------------------------------- torch

FROM builder AS torch
ARG TORCH=cpu
ARG TORCH_INDEX=
COPY --from=pins /pins/torch.txt /pins/
# The CPU build is X+cpu: from the indexes and folders pip is set to where they have it, else from
# PyTorch's own index. The CUDA build is the package index's own; `===` keeps a +cpu file out of it.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    set -eu; \
    version="$(sed -n 's/^torch==//p' /pins/torch.txt)"; \
    sed -i '/^torch==/d' /pins/torch.txt; \
    install() { python -m pip install --quiet --no-compile --target /opt/torch --constraint /pins/torch.txt "$@"; }; \
    case "$TORCH" in \
      cpu) \
        if [ -n "$TORCH_INDEX" ]; then install --extra-index-url "$TORCH_INDEX" "torch==$version+cpu"; \
        else \
          install "torch==$version+cpu" \
          || install --extra-index-url https://download.pytorch.org/whl/cpu "torch==$version+cpu"; \
        fi ;; \
      cuda) \
        if [ -n "$TORCH_INDEX" ]; then \
          install --extra-index-url "$TORCH_INDEX" "torch==$version,!=$version+cpu"; \
        else install "torch===$version"; fi ;; \
      *) echo "TORCH=$TORCH is neither cpu nor cuda" >&2; exit 2 ;; \
    esac
# Headers, tests and a protoc serve those who compile against PyTorch; a compiler is not in the image.
# Importing leaves the bytecode of what every worker imports; that of everything would be 300 MB.
RUN rm -rf /opt/torch/torch/include /opt/torch/torch/share /opt/torch/torch/test /opt/torch/torch/bin/*[tT]est* \
      /opt/torch/torch/bin/protoc* /opt/torch/bin \
 && /opt/packages/bin/python -c "import torch, torch.export, torch.nn.utils.stateless, torch.utils.data"

# ------------------------------------------------------------------------------------------ packages

FROM builder AS packages
COPY --from=torch /opt/torch /opt/torch
COPY --from=pins /pins/packages.txt /pins/requirements.txt /pins/
# Bytecode of all packages but the largest, of which little is imported: the import compiles that.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/packages/bin/python -m pip install --quiet --no-compile \
      --constraint /pins/packages.txt --requirement /pins/requirements.txt \
 && find /opt/packages -type d -name tests -path '*/site-packages/*/tests' -prune -exec rm -rf {} + \
 && /opt/packages/bin/python -m compileall -q -x '/(fontTools|grpc_tools|kubernetes|matplotlib|numpy|pandas|pip|setuptools)/' \
      /opt/packages/lib \
 && /opt/packages/bin/python -c "import captum.attr, kserve"

# ---------------------------------------------------------------------------------------------- code

FROM builder AS code
COPY --from=packages /pins/packages.txt /pins/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    /opt/packages/bin/python -m pip install --quiet --constraint /pins/packages.txt setuptools wheel
WORKDIR /source
COPY LICENSE README.md pyproject.toml ./
COPY predictor predictor
RUN /opt/packages/bin/python -m pip install --quiet --no-deps --no-build-isolation --no-index \
      --target /opt/predictor . \
 && /opt/packages/bin/python -m compileall -q /opt/predictor
# Nothing mounted there: the samples are served. Something mounted: it hides them.
COPY model_store /mnt/models
COPY --chmod=0755 docker/entrypoint.sh /usr/local/bin/entrypoint

# --------------------------------------------------------------------------------------------- image

FROM base AS image
RUN groupadd --gid 1000 predictor \
 && useradd --uid 1000 --gid 1000 --create-home --shell /usr/sbin/nologin predictor \
 && ln -s /mnt/models /home/predictor/model_store
COPY --from=builder /usr/local/bin/tini /usr/local/bin/tini
COPY --from=torch /opt/torch /opt/torch
COPY --from=packages /opt/packages /opt/packages
COPY --from=code /usr/local/bin/entrypoint /usr/local/bin/entrypoint
COPY --from=code /mnt/models /mnt/models
COPY --from=code /opt/predictor /opt/predictor

# The port is KServe's whatever a model's config.properties says (there it is often 8085, behind a proxy).
# Everything that wants to write finds /tmp, the only place where it may. The two NVIDIA_ variables ask the
# container toolkit for devices and libraries; without it they mean nothing. (The key file is a path, no key.)
# hadolint ignore=DL3064
ENV PREDICTOR_HOST=0.0.0.0 \
    PREDICTOR_PORT=8080 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/tmp \
    XDG_CACHE_HOME=/tmp/.cache \
    PREDICTOR_TOKEN_KEY_FILE=/tmp/key_file.json \
    MPLCONFIGDIR=/tmp/.matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /home/predictor
USER 1000:1000
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# Ready, not live: a container that answers "healthy" serves. Kubernetes has its own probes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-ISc", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PREDICTOR_PORT']), timeout=4); c.request('GET', '/v2/health/ready'); sys.exit(c.getresponse().status != 200)"]
# tini reaps what handlers leave behind and passes signals on to the server alone, which drains.
ENTRYPOINT ["tini", "--", "entrypoint"]
CMD []

ARG TORCH=cpu
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=
LABEL org.opencontainers.image.title="predictor" \
      org.opencontainers.image.description="The PyTorch predictor for KServe: TorchServe's archives and clients, KServe's protocols, one port" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      predictor.torch="${TORCH}"
