from __future__ import annotations

import pytest

from predictor.deploy.access import commands, is_reachable


def _service(url, mode="Standard"):
    metadata = {"name": "digits", "namespace": "models"}
    return {"metadata": metadata, "status": {"url": url, "deploymentMode": mode}}


def test_a_url_that_means_something_here_is_called():
    service = _service("https://digits.models.test/")
    assert commands(service) == ["curl https://digits.models.test/v2/models/digits"]


@pytest.mark.parametrize(
    "url", ["", "http://digits-models.example.com", "http://digits-predictor.models.svc.cluster.local"]
)
def test_otherwise_through_a_port_forward(url):
    assert commands(_service(url), context="my context") == [
        "kubectl --context 'my context' -n models port-forward service/digits-predictor 8080:80 &",
        "curl --retry 9 --retry-connrefused http://127.0.0.1:8080/v2/models/digits",
    ]
    assert commands(_service(url))[0].startswith("kubectl -n models ")


def test_through_an_ingress_at_a_known_address():
    service = _service("http://digits-models.example.com")
    assert commands(service, ingress="http://127.0.0.1:8080/") == [
        "curl -H 'Host: digits-models.example.com' http://127.0.0.1:8080/v2/models/digits"
    ]


def test_knative_has_no_service_to_forward_to():
    (command,) = commands(_service("http://digits.models.example.com", "Knative"))
    assert command.startswith("curl -H 'Host: digits.models.example.com' http://ADDRESS-OF-THE-INGRESS/")


def test_which_hosts_mean_something_here():
    assert is_reachable("http://digits.models.test:8080/x")
    assert not is_reachable("http://x.example.com")
    assert not is_reachable("not a url")
