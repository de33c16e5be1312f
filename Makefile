# Needs a Python 3.10-3.13 and make, nothing else; scripts/bootstrap.py makes .venv on the way.
# Recipes `exec` their last command: Ctrl-C reaches it once, and its exit status is make's.

.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help serve test stress bench check fix train setup constraints clean image chart-docs cluster-test
export PYTHON TORCH TORCH_INDEX

BIN := .venv/bin
PATHS := $(wildcard predictor scripts tests benchmarks model_store)
# Whatever Python is there runs the bootstrap, which finds a fitting one for .venv.
BOOTSTRAP = $(or $(shell command -v python3 || command -v python || command -v "$(PYTHON)"),\
	$(error No python3 on PATH; install Python 3.10 to 3.13 or name one: make $@ PYTHON=/path/to/python3)) \
	scripts/bootstrap.py
# Many tests wait for servers to start and stop; a file's tests stay together, and share its servers.
SPREAD = -n 2 --dist loadfile
# Only from make's command line: some shells export a HOST of their own.
given = $(if $(filter command,$(firstword $(origin $(1)))),$(2) $($(1)))

help:  ## show this list
	@echo 'make TARGET [VARIABLE=value ...]'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r n t; do \
		printf '%-14s %s\n' "$$n" "$$t"; done
	@echo
	@echo 'HOST=127.0.0.1 PORT=8080   where `make serve` listens'
	@echo 'ARGS="..."                 further arguments of the command: make test ARGS="-k wine"'
	@echo 'PYTHON=python3.12          the interpreter for .venv (default: any 3.10 to 3.13)'
	@echo 'TORCH=cpu|cuda|auto        the PyTorch build (auto: CUDA only where there is an NVIDIA GPU)'

serve:  ## serve the sample models on http://127.0.0.1:8080
	@exec $(BOOTSTRAP) serve predictor serve --log-format text $(call given,HOST,--host) $(call given,PORT,--port) $(ARGS)

test:  ## run all tests
	@exec $(BOOTSTRAP) test python -m pytest $(SPREAD) $(ARGS)

stress:  ## the heavy tests: minutes of load, hundreds of restarts
	@exec $(BOOTSTRAP) test python -m pytest -m stress --log-cli-level=INFO tests/stress $(ARGS)

bench:  ## the benchmarks: what the server costs beside the model's own work
	@$(BOOTSTRAP) test
	$(BIN)/python -m benchmarks.digits
	$(BIN)/python -m benchmarks.v2_binary
	$(BIN)/python -m benchmarks.explanations

check:  ## lint, types, import directions
	@$(BOOTSTRAP) check
	$(BIN)/ruff format --check $(PATHS)
	$(BIN)/ruff check $(PATHS)
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_import_directions.py

fix:  ## repair what ruff can repair
	@$(BOOTSTRAP) check
	$(BIN)/ruff check --fix $(PATHS)
	$(BIN)/ruff format $(PATHS)

train:  ## train the sample models again
	@$(BOOTSTRAP) train
	@set -e; for script in model_store/*/train.py; do \
		model=$$(basename $$(dirname $$script)); echo "== $$model"; \
		$(BIN)/python -m model_store.$$model.train $(ARGS); done

setup:  ## only make .venv (what `make serve` needs)
	@exec $(BOOTSTRAP) serve

constraints:  ## write constraints.txt anew from pyproject.toml
	@$(BOOTSTRAP) serve python scripts/constraints.py

clean:  ## remove .venv, caches and build folders
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	find $(PATHS) -name __pycache__ -type d -exec rm -rf {} +

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' predictor/__init__.py)
IMAGE = predictor:$(VERSION)$(if $(filter cuda,$(TORCH)),-gpu)

image:  ## build the container image (TORCH=cuda for GPUs, IMAGE=name:tag, ARGS="--push ...")
	docker build --tag $(IMAGE) --build-arg TORCH=$(if $(filter cuda,$(TORCH)),cuda,cpu) \
		$(if $(TORCH_INDEX),--build-arg TORCH_INDEX=$(TORCH_INDEX)) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(shell git rev-parse --short HEAD 2>/dev/null || echo unknown) $(ARGS) .

chart-docs:  ## write the chart's README and schema anew
	@$(BOOTSTRAP) check
	PYTHONPATH=. $(BIN)/python scripts/render_settings.py
	PYTHONPATH=. $(BIN)/python scripts/render_chart.py

cluster-test:  ## the image and the chart on a real Kubernetes (../shared/tools/cluster, or KUBECONFIG)
	@exec $(BOOTSTRAP) test python -m pytest -m cluster --log-cli-level=INFO tests/cluster $(ARGS)

.PHONY: kind-up kind-load kind-deploy kind-test kind-down

kind-up:  ## KServe in a kind cluster on this machine
	@exec scripts/kind/kind.sh up

kind-load:  ## put the image onto its node (after make image)
	@exec scripts/kind/kind.sh load

kind-deploy:  ## the runtime and the samples there
	@exec scripts/kind/kind.sh deploy

kind-test:  ## real requests through its gateway
	@exec scripts/kind/kind.sh test

kind-down:  ## delete it
	@exec scripts/kind/kind.sh down
