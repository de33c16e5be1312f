#!/usr/bin/env bash
# KServe on this machine: kind.sh up | load | deploy | test | down. `make kind-up` and so on call it.
#
# Needed: docker, kind, kubectl, helm, curl. Everything is pinned here and in kind-config.yaml; a variable
# of the same name overrides it. Each command may be run again.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

: "${KIND_VERSION:=v0.31.0}"
: "${CERT_MANAGER_VERSION:=v1.17.0}"
: "${ENVOY_GATEWAY_VERSION:=v1.7.0}"
: "${KSERVE_VERSION:=v0.20.0}"
: "${CLUSTER:=predictor}"
# Where this machine reaches the gateway, see kind-config.yaml.
: "${INGRESS:=http://127.0.0.1:8080}"
: "${IMAGE:=predictor:$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' predictor/__init__.py)}"
CONTEXT=kind-$CLUSTER

die() {
  printf 'kind.sh: %s\n' "$*" >&2
  exit 1
}

step() { printf '\n== %s\n' "$*" >&2; }

need() {
  local tool missing=()
  for tool; do command -v "$tool" >/dev/null || missing+=("$tool"); done
  [ ${#missing[@]} -eq 0 ] || die "not on PATH: ${missing[*]} (docs/kubernetes.md says where they come from)"
}

# Only ever this cluster, whatever the current context is.
kube() { kubectl --context "$CONTEXT" "$@"; }

# chart RELEASE NAMESPACE CHART VERSION [ARGUMENT...]
chart() {
  local release=$1 namespace=$2 name=$3 version=$4
  shift 4
  step "$release $version"
  helm --kube-context "$CONTEXT" upgrade --install "$release" "$name" --version "$version" \
    --namespace "$namespace" --create-namespace --wait --timeout 10m "$@"
}

up() {
  need docker kind kubectl helm
  kind version | grep -qF "$KIND_VERSION" ||
    printf 'kind.sh: written for kind %s, this is: %s\n' "$KIND_VERSION" "$(kind version)" >&2
  if kind get clusters 2>/dev/null | grep -qxF "$CLUSTER"; then
    step "the cluster $CLUSTER is there"
  else
    step "a cluster of one node"
    kind create cluster --name "$CLUSTER" --config kind-config.yaml --wait 180s
  fi
  chart cert-manager cert-manager cert-manager "$CERT_MANAGER_VERSION" \
    --repo https://charts.jetstack.io --set crds.enabled=true
  # It brings the Gateway API's kinds.
  chart envoy-gateway envoy-gateway-system oci://docker.io/envoyproxy/gateway-helm "$ENVOY_GATEWAY_VERSION"
  chart kserve-crd kserve oci://ghcr.io/kserve/charts/kserve-crd "$KSERVE_VERSION"
  step "the gateway, on port 30080 of the node"
  kube apply -f scripts/kind/gateway.yaml
  chart kserve kserve oci://ghcr.io/kserve/charts/kserve-resources "$KSERVE_VERSION" \
    --set kserve.controller.deploymentMode=Standard \
    --set kserve.controller.gateway.ingressGateway.enableGatewayApi=true \
    --set kserve.controller.gateway.ingressGateway.createGateway=false \
    --set kserve.controller.gateway.ingressGateway.kserveGateway=kserve/kserve-ingress-gateway
  kube -n kserve wait --for=condition=Programmed gateway/kserve-ingress-gateway --timeout=300s
  step "ready; next: make image kind-load kind-deploy kind-test"
}

load() {
  need docker kind
  docker image inspect "$IMAGE" >/dev/null 2>&1 || die "docker has no image $IMAGE: make image"
  step "$IMAGE to the node"
  kind load docker-image "$IMAGE" --name "$CLUSTER"
}

deploy() {
  need kubectl
  step "the runtime and the samples"
  kube apply -k manifests/overlays/kind
  if ! kube wait --for=condition=Ready inferenceservice/samples --timeout=600s; then
    # Why not: the same as `predictor status samples`, with what every machine has.
    kube describe inferenceservice samples | tail -n 40 >&2
    kube get pods -l serving.kserve.io/inferenceservice=samples -o wide >&2
    kube get events --field-selector type=Warning --sort-by=.lastTimestamp >&2
    kube logs -l serving.kserve.io/inferenceservice=samples -c kserve-container --tail=40 >&2 || true
    die "samples did not become ready"
  fi
}

# ask WHAT EXPECTED-REGEX PATH [CURL-ARGUMENT...]: one request through the gateway.
ask() {
  local what=$1 expected=$2 path=$3 answer
  shift 3
  answer=$(curl -sS --fail-with-body --max-time 60 -H "Host: $HOST_NAME" "$@" "$INGRESS$path") ||
    die "$what: $path answered: $answer"
  grep -qE "$expected" <<<"$answer" || die "$what: $path answered: $answer"
  printf '  %-28s %s\n' "$what" "$(tr -d '\n' <<<"$answer" | cut -c1-90)"
}

test_requests() {
  need kubectl curl
  local url picture
  url=$(kube get inferenceservice samples -o 'jsonpath={.status.url}')
  [ -n "$url" ] || die "samples has no URL: make kind-deploy"
  HOST_NAME=${url#*://}
  HOST_NAME=${HOST_NAME%%/*}
  step "requests for $HOST_NAME through $INGRESS"
  picture=$(base64 <model_store/digits/examples/3.png | tr -d '\n')
  ask "ready" '"ready":true' /v2/health/ready
  ask "V2 metadata" '"name":"wine"' /v2/models/wine
  ask "TorchServe, a picture" '"label": *"3"' /predictions/digits -T model_store/digits/examples/3.png
  ask "V1, a picture" '"label": *"3"' /v1/models/digits:predict -d "{\"instances\": [{\"b64\": \"$picture\"}]}"
  ask "named inputs" '"label"' /predict/wine -H 'Content-Type: application/json' \
    -d @model_store/wine/examples/wine.json
  ask "V1, a sentence" '"predictions"' /v1/models/docstrings:predict \
    -d '{"instances": ["Wait until the thread releases the lock."]}'
  step "all answered"
}

down() {
  need kind
  kind delete cluster --name "$CLUSTER"
}

case ${1:-} in
  up | load | deploy | down) "$1" ;;
  test) test_requests ;;
  *) die "usage: kind.sh up | load | deploy | test | down" ;;
esac
