#!/bin/sh
# The container's arguments, as KServe, TorchServe's image and people write them:
#   nothing, or flags           predictor serve FLAGS (KServe appends flags of its own)
#   serve ...                   predictor serve ..., as TorchServe's image spells it
#   torchserve --start ...      the same, in the foreground: a container ends with its first process
#   anything else               that command
set -eu

case "${1:-}" in
  "" | -*) set -- predictor serve "$@" ;;
  serve) set -- predictor "$@" ;;
  torchserve)
    shift
    set -- torchserve --foreground "$@"
    ;;
esac
case "$1 ${2:-}" in
  # SIGHUP asks a server to read its models again; it must not end one whose interpreter only starts.
  "predictor serve" | "torchserve "*) trap '' HUP ;;
esac
exec "$@"
