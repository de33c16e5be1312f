"""Why an InferenceService is not ready: read off its status, its pods and the events about them.

Pure functions of the objects as the API server gives them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Reasons for which a container waits and that no further waiting mends.
_HOPELESS = {
    "ImagePullBackOff": "the image cannot be pulled",
    "InvalidImageName": "the image's name is wrong",
    "ErrImageNeverPull": "the image is not on the node, and may not be pulled",
    "CreateContainerConfigError": "the container needs something that is not there",
    "CreateContainerError": "the container cannot be made",
    "RunContainerError": "the container cannot be started",
}
# One crash may be bad luck (a node's disk, a slow mount); KServe restarts the container by itself.
_CRASHES = 2
_FAILED_LOAD = ("BlockedByFailedLoad", "InvalidSpec")

Object = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One reason why it is not ready.

    Attributes:
        text: a sentence or two, for a person.
        hopeless: whether waiting longer cannot help.
        pod: whose log may tell more, or empty.
        container: in that pod.
        crashed: whether the log is that of the container before its last restart.
        hint: what may be done about it.
    """

    text: str
    hopeless: bool = False
    pod: str = ""
    container: str = ""
    crashed: bool = False
    hint: str = ""


def is_current(service: Object) -> bool | None:
    """Whether KServe has seen the newest specification; None where it does not tell."""
    seen = (service.get("status") or {}).get("observedGeneration")
    return None if seen is None else int(seen) >= int(service["metadata"].get("generation", 0))


def condition(thing: Object, kind: str) -> Object:
    """Return a condition of a service or a pod, an empty one where it has none."""
    found = (thing.get("status") or {}).get("conditions") or []
    return next((one for one in found if one.get("type") == kind), {})


def is_ready(service: Object) -> bool:
    """Whether KServe says that it is ready."""
    return condition(service, "Ready").get("status") == "True"


def rolled_out(deployment: Object) -> bool:
    """Whether all replicas of a Deployment are of its newest template, and available.

    KServe's own condition stays true while old replicas serve beside a new one that fails.
    """
    status = deployment.get("status") or {}
    wanted = (deployment.get("spec") or {}).get("replicas", 1)
    return (
        int(status.get("observedGeneration", 0)) >= int(deployment["metadata"].get("generation", 0))
        and int(status.get("updatedReplicas", 0)) >= int(wanted)
        and int(status.get("availableReplicas", 0)) >= int(wanted)
        and int(status.get("replicas", 0)) <= int(wanted)
    )


def findings(service: Object, pods: Sequence[Object], events: Sequence[Object]) -> list[Finding]:
    """Return everything that stands in the way, the most telling first."""
    found = [*_of_pods(pods), *_of_status(service), *_of_events(service, pods, events)]
    if not found and not (service.get("status") or {}).get("conditions"):
        found.append(
            Finding(
                "nothing in the cluster has taken notice of it",
                hint="Is KServe's controller running? kubectl get pods -n kserve",
            )
        )
    seen: dict[str, Finding] = {}
    for finding in found:
        seen.setdefault(finding.text, finding)
    return sorted(seen.values(), key=lambda finding: not finding.hopeless)


def _of_pods(pods: Sequence[Object]) -> Iterator[Finding]:
    for pod in pods:
        if pod["metadata"].get("deletionTimestamp"):
            continue
        yield from _unscheduled(pod)
        status = pod.get("status") or {}
        for one in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            yield from _of_container(str(pod["metadata"]["name"]), one)


def _unscheduled(pod: Object) -> Iterator[Finding]:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") != "False":
        return
    message = str(scheduled.get("message") or scheduled.get("reason"))
    hint = ""
    if "nvidia.com/" in message:
        hint = (
            "No node has a free GPU. --gpus 0 serves on the CPU; docs/kubernetes.md says how GPUs get there."
        )
    yield Finding(f"pod {pod['metadata']['name']} finds no node: {message}", hint=hint)


def _of_container(pod: str, status: Object) -> Iterator[Finding]:
    name = str(status["name"])
    where = f"container {name} of pod {pod}"
    state = status.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    reason = waiting.get("reason", "")
    restarts = int(status.get("restartCount", 0))
    last = (status.get("lastState") or {}).get("terminated") or {}
    if reason in _HOPELESS:
        text = f"{where}: {_HOPELESS[reason]} ({reason}): {_short(waiting.get('message', ''))}"
        yield Finding(text, hopeless=True, hint=_image_hint(reason))
    elif reason == "CrashLoopBackOff":
        text = f"{where} has ended {_times(restarts)}{_ending(last)}"
        yield Finding(text, restarts >= _CRASHES, pod, name, crashed=True, hint=_ending_hint(last))
    elif ended and ended.get("exitCode"):
        yield Finding(f"{where} has ended{_ending(ended)}", False, pod, name, hint=_ending_hint(ended))
    elif "running" in state and not status.get("ready"):
        yield Finding(f"{where} runs, and is not ready yet", False, pod, name)
    elif reason not in ("", "PodInitializing", "ContainerCreating"):
        yield Finding(f"{where} waits: {reason}: {_short(waiting.get('message', ''))}")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _ending(ended: Object) -> str:
    if not ended:
        return ""
    reason = f", {ended['reason']}" if ended.get("reason") not in (None, "Error", "Completed") else ""
    return f" (exit status {ended.get('exitCode')}{reason})"


def _ending_hint(ended: Object) -> str:
    if ended.get("reason") == "OOMKilled":
        return "It needs more memory than it may take: --memory."
    return ""


def _image_hint(reason: str) -> str:
    if reason == "CreateContainerConfigError":
        return ""
    return "--image names another image; on kind, `make kind-load` puts the one built here on the node."


def _of_status(service: Object) -> Iterator[Finding]:
    if is_current(service) is False:
        return
    model = (service.get("status") or {}).get("modelStatus") or {}
    failure = model.get("lastFailureInfo") or {}
    if failure and model.get("transitionStatus") in _FAILED_LOAD:
        message = _short(str(failure.get("message", "")))
        yield Finding(
            f"KServe: {failure.get('reason')}: {message}", hopeless=True, hint=_status_hint(failure)
        )
    said = set()
    for one in (service.get("status") or {}).get("conditions") or []:
        # `Ready` repeats what one of the others says.
        if one.get("status") == "False" and one.get("message") and one["message"] not in said:
            said.add(one["message"])
            yield Finding(f"KServe: {one['type']}: {one.get('reason', '')}: {_short(one['message'])}")


def _status_hint(failure: Object) -> str:
    if failure.get("reason") in ("NoSupportingRuntime", "RuntimeNotRecognized"):
        return "kubectl apply -k manifests/overlays/gpu (or cpu) installs the runtimes of this project."
    return ""


def _of_events(service: Object, pods: Sequence[Object], events: Sequence[Object]) -> Iterator[Finding]:
    """Only the last few, of the service's own objects, and not older than it."""
    name = str(service["metadata"]["name"])
    names = {name, *(str(pod["metadata"]["name"]) for pod in pods)}
    born = str(service["metadata"].get("creationTimestamp") or "")
    ours = []
    for event in events:
        about = str((event.get("involvedObject") or {}).get("name"))
        last = str(event.get("lastTimestamp") or event.get("eventTime") or "")
        if (about in names or about.startswith(f"{name}-predictor")) and (not last or last >= born):
            ours.append((about, event))
    for about, event in ours[-3:]:
        yield Finding(f"event about {about}: {event.get('reason')}: {_short(str(event.get('message', '')))}")


def _short(text: str) -> str:
    """One line of it, cut where it stops being a sentence."""
    line = " ".join(text.split())
    return line if len(line) <= 400 else line[:397] + "..."
