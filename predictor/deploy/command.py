"""The commands: `predictor deploy`, `predictor status` and `predictor delete`.

Exit status: 0 done, 1 the cluster refuses or the service does not become ready, 2 a wrong command line,
130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from predictor.deploy.errors import DeployError, NoCluster, WrongInput

if TYPE_CHECKING:
    from predictor.deploy.cluster import Cluster

_DEPLOY_EPILOG = """\
  predictor deploy digits --model s3://bucket/digits.mar             from a bucket, one GPU
  predictor deploy digits --model pvc://claim/models --gpus 0        from a volume, on the CPU
  predictor deploy digits --model /models/digits --image me/digits:1 built into an image
  predictor deploy old --model gs://bucket/torchserve --runtime predictor   in an installed runtime
  predictor deploy digits --model s3://b/m --dry-run=client > service.yaml  only the manifest

The same command again changes the service in place; nothing happens when nothing has changed.
"""
_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as the commands themselves do."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and the reason; the usage would fill the screen before it."""
        self.exit(2, f"{self.prog}: {message}; --help shows what there is\n")


def main(words: Sequence[str]) -> int:
    """Run the command that `words` begins with; returns its exit status."""
    arguments = _parser().parse_args(list(words))
    try:
        run: Callable[[argparse.Namespace], int] = arguments.run
        return run(arguments)
    except DeployError as error:
        _say(f"predictor {arguments.command}: {error}")
        if error.hint:
            _say(error.hint)
        if arguments.command == "deploy" and isinstance(error, NoCluster):
            _say("--dry-run=client shows the manifest without one.")
        return 2 if isinstance(error, WrongInput) else 1
    except KeyboardInterrupt:
        _say("")
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="predictor", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_deploy(commands)
    status = commands.add_parser(
        "status",
        help="show what is deployed",
        description="Show the InferenceServices of a namespace, or one.",
    )
    status.add_argument("name", nargs="?", metavar="NAME")
    status.add_argument("--output", choices=["table", "json"], default="table")
    status.set_defaults(run=_status)
    delete = commands.add_parser("delete", help="delete a service", description="Delete an InferenceService.")
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("--ignore-missing", action="store_true", help="succeed when there is none")
    delete.set_defaults(run=_delete)
    for command in (status, delete):
        command.allow_abbrev = False
        _add_cluster(command)
    return parser


def _add_deploy(commands: argparse._SubParsersAction[_Parser]) -> None:
    deploy = commands.add_parser(
        "deploy",
        help="serve a model in a Kubernetes cluster",
        description="Make or change a KServe InferenceService, wait until it is ready, say how to call it.",
        epilog=_DEPLOY_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    deploy.add_argument("name", metavar="NAME", help="of the service; its model answers to it too")
    deploy.add_argument(
        "--model",
        required=True,
        metavar="URI",
        help="s3://, gs://, hf://, pvc://, https://, oci:// for KServe to fetch; or a path in the image",
    )
    _add_container(deploy.add_argument_group("Container"))
    scale = deploy.add_argument_group("Scale")
    scale.add_argument("--min-replicas", type=int, default=1, metavar="N", help="0 needs --mode Knative [1]")
    scale.add_argument("--max-replicas", type=int, metavar="N")
    scale.add_argument("--mode", choices=["Standard", "Knative"], default="Standard", help="[Standard]")
    _add_waiting(deploy.add_argument_group("What to do"))
    _add_cluster(deploy)
    deploy.set_defaults(run=_deploy)


def _add_container(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--image", default="", help="[predictor:VERSION-gpu, without -gpu when there are no GPUs]"
    )
    group.add_argument("--runtime", default="", help="an installed (Cluster)ServingRuntime to run in instead")
    group.add_argument("--gpus", type=int, default=1, metavar="N", help="for each replica; 0: CPU only [1]")
    group.add_argument("--gpu-resource", default="nvidia.com/gpu", metavar="NAME", help="[nvidia.com/gpu]")
    group.add_argument("--cpu", default="2", help="CPUs requested [2]")
    group.add_argument("--memory", default="4Gi", help="requested, and the limit [4Gi]")
    group.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="may be repeated")
    group.add_argument(
        "--arg", action="append", default=[], help="a further argument of predictor serve: --arg=--workers=2"
    )
    group.add_argument("--service-account", default="", metavar="NAME")
    group.add_argument("--pull-secret", action="append", default=[], metavar="NAME", help="may be repeated")


def _add_waiting(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--dry-run",
        choices=["client", "server"],
        help="client: print the manifest, no cluster needed; server: print what the cluster would make of it",
    )
    group.add_argument("--no-wait", action="store_true", help="do not wait until it is ready")
    group.add_argument("--timeout", type=_seconds, default=600, metavar="SECONDS", help="[600]")
    group.add_argument("--force-conflicts", action="store_true", help="take over fields another tool set")
    group.add_argument(
        "--ingress",
        default="",
        metavar="URL",
        help="where this machine reaches the ingress; for the curl line",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text}: expected 0 or more seconds")
    return seconds


def _add_cluster(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("Cluster")
    group.add_argument("--namespace", "-n", default="", help="[the context's]")
    group.add_argument("--context", default="", help="of the kubeconfig [its current one]")
    group.add_argument(
        "--kubeconfig", default="", metavar="FILE", help="[$KUBECONFIG, ~/.kube/config, the pod]"
    )


def _deploy(arguments: argparse.Namespace) -> int:
    # kserve parses the command line of the process when it is imported; it must not see ours.
    sys.argv = sys.argv[:1]
    from predictor.deploy import deploying

    wanted = deploying.wanted(arguments, arguments.namespace)
    if arguments.dry_run == "client":
        return deploying.render(wanted)
    cluster = _cluster(arguments)
    wanted = deploying.wanted(arguments, cluster.namespace)
    if arguments.dry_run == "server":
        return deploying.render_on_server(cluster, wanted, force=arguments.force_conflicts)
    return deploying.deploy(cluster, wanted, arguments)


def _status(arguments: argparse.Namespace) -> int:
    from predictor.deploy import report

    cluster = _cluster(arguments)
    if arguments.name:
        return report.show_service(cluster, arguments.name, arguments.output)
    return report.show_services(cluster, arguments.output)


def _delete(arguments: argparse.Namespace) -> int:
    cluster = _cluster(arguments)
    if cluster.delete(arguments.name):
        print(f"{arguments.name} is deleted from {cluster.namespace}; its pods finish what they do and stop.")
        return 0
    _say(f"predictor delete: there is no InferenceService {arguments.name} in {cluster.namespace}")
    return 0 if arguments.ignore_missing else 1


def _cluster(arguments: argparse.Namespace) -> Cluster:
    from predictor.deploy.cluster import Cluster

    return Cluster(arguments.kubeconfig, arguments.context, arguments.namespace)


def _say(*lines: Any) -> None:
    print(*lines, file=sys.stderr)
