"""From settings to what guards a server."""

from __future__ import annotations

import pytest
from support.certificates import Authority

from predictor.errors import InvalidToken
from predictor.http.messages import HttpRequest
from predictor.protection import Protection
from predictor.settings import Settings
from predictor.trust.access import Port
from predictor.trust.errors import TrustError


def _request(path, **headers):
    return HttpRequest("GET", path, "", list(headers.items()), "id")


def test_without_settings_nothing_is_asked_for_and_nothing_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    protection = Protection(Settings(), needs_tls=False)
    gate = protection.gate(Port.MANAGEMENT)
    request = _request("/models", Origin="https://a.example")
    gate.admit(request)
    assert request.trusted
    assert gate.headers(request) == []
    assert (protection.keys, protection.guard, protection.certificates) == (None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_both_kinds_of_tokens_together(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens").write_text("management:mine\n")
    protection = Protection(
        Settings(token_authorization=True, token_file=tmp_path / "tokens"), needs_tls=False
    )
    assert (tmp_path / "key_file.json").is_file()
    gate = protection.gate(Port.INFERENCE)
    gate.admit(_request("/models", authorization="Bearer mine"))
    with pytest.raises(InvalidToken):
        gate.admit(_request("/v1/models", authorization="Bearer mine"))
    (tmp_path / "tokens").write_text("mine\n")
    protection.check_files()
    gate.admit(_request("/v1/models", authorization="Bearer mine"))
    assert f"{tmp_path}/key_file.json" in caplog.text
    assert "mine" not in caplog.text


def test_a_public_route_notes_whether_the_client_may_be_told_names(tmp_path):
    (tmp_path / "tokens").write_text("management:mine\n")
    gate = Protection(Settings(token_file=tmp_path / "tokens"), needs_tls=False).gate(Port.INFERENCE)
    for headers, trusted in (({}, False), ({"Authorization": "Bearer mine"}, True)):
        request = _request("/health", **headers)
        gate.admit(request)
        assert request.trusted is trusted


def test_files_of_tls_are_read_only_where_something_speaks_it(tmp_path):
    issued = Authority().issue("server")
    certificate, key = issued.write(tmp_path)
    settings = Settings(tls_certificate_file=certificate, tls_key_file=key)
    assert Protection(settings, needs_tls=False).certificates is None
    protection = Protection(settings, needs_tls=True)
    assert protection.certificates.identity.chain == issued.pem
    renewed = Authority().issue("server")
    renewed.write(tmp_path)
    protection.check_files()
    assert protection.certificates.identity.chain == renewed.pem


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"tls_key_file": "/no/such"},
            "TLS needs tls_certificate_file and tls_key_file, or tls_keystore_file",
        ),
        ({"tls_keystore_file": "/no/such.p12"}, "tls_keystore_file /no/such.p12: No such file"),
        ({"token_file": "/no/such/file"}, "token_file /no/such/file: No such file"),
    ],
)
def test_what_is_missing_is_named(settings, message):
    with pytest.raises(TrustError, match=message):
        Protection(Settings(**settings), needs_tls=True)


def test_a_key_file_that_cannot_be_written():
    settings = Settings(token_authorization=True, token_key_file="/no/such/folder/keys")
    with pytest.raises(TrustError, match="cannot write the key file /no/such/folder/keys: No such file"):
        Protection(settings, needs_tls=False)
