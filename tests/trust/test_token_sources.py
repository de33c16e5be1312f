"""Tokens: the header that carries one, the key file, the operator's own file, and who is let in."""

from __future__ import annotations

import json
import re
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.trust.bearer import bearer_token, digest, is_one_of
from predictor.trust.errors import TrustError
from predictor.trust.guard import Guard
from predictor.trust.key_file import KeyFile
from predictor.trust.role import ROUTE_ROLES, Role
from predictor.trust.token_file import TokenFile, parse_tokens
from predictor.trust.watch import WatchedFiles

_GOOD = st.from_regex(r"[A-Za-z0-9\-._~+/]{1,60}={0,2}", fullmatch=True)
# What a header can hold: httptools lets no other control characters through, and decodes as Latin-1.
_HEADER = st.text(st.characters(codec="latin-1"), max_size=200)


class Clock:
    def __init__(self, now=1_700_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


# The Authorization header


@given(_GOOD, st.sampled_from(["Bearer", "bearer", "BEARER"]), st.sampled_from([" ", "  ", "\t"]))
def test_a_token_is_taken_out_of_the_header(token, scheme, space):
    assert bearer_token(f"{scheme}{space}{token}") == token
    assert bearer_token(f" {scheme}{space}{token} ") == token


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearera",
        "Basic abc",
        "Bearer a b",
        "abc",
        "Bearer\n",
        "Token abc",
        "Bearer\x00a b",
    ],
)
def test_what_is_no_bearer_header_has_no_token(header):
    assert bearer_token(header) == ""


@given(_HEADER)
def test_no_header_breaks_the_parser_or_yields_white_space(header):
    token = bearer_token(header)
    assert token == "".join(token.split())
    assert token in header
    Guard([]).admits(Role.INFERENCE, header)


def test_a_token_of_a_megabyte_is_none():
    assert bearer_token("Bearer " + "a" * 1_000_000) == ""


@given(st.lists(st.text(max_size=20), max_size=5), st.text(max_size=20))
def test_a_digest_is_found_exactly_if_the_token_is_there(accepted, presented):
    assert is_one_of(digest(presented), [digest(token) for token in accepted]) == (presented in accepted)


# TorchServe's key file


def _keys(path):
    return json.loads(path.read_text())


def test_the_key_file_looks_as_torchserves(tmp_path):
    path = tmp_path / "key_file.json"
    KeyFile(path, 60, Clock()).write()
    document = _keys(path)
    assert list(document) == ["management", "inference", "API"]
    assert set(document["inference"]) == set(document["management"]) == {"key", "expiration time"}
    assert set(document["API"]) == {"key"}
    assert document["inference"]["expiration time"] == "2023-11-14T23:13:20.000000Z"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["key_file.json"]


def test_each_key_is_for_its_role_alone_and_for_its_time(tmp_path):
    clock = Clock()
    keys = KeyFile(tmp_path / "keys", 2, clock)
    keys.write()
    document = _keys(tmp_path / "keys")
    guard = Guard([keys])

    def admitted():
        return {
            (kind, role.value)
            for kind in document
            for role in Role
            if guard.admits(role, f"Bearer {document[kind]['key']}")
        }

    own = {(role.value, role.value) for role in Role}
    assert admitted() == own
    clock.now += 119
    assert admitted() == own
    clock.now += 1
    assert admitted() == {("API", "API")}


@pytest.mark.parametrize("role", ROUTE_ROLES)
def test_renewing_replaces_one_key_and_its_time(tmp_path, role):
    clock = Clock()
    keys = KeyFile(tmp_path / "keys", 1, clock)
    keys.write()
    before = _keys(tmp_path / "keys")
    clock.now += 600
    keys.renew(role)
    after = _keys(tmp_path / "keys")
    assert {kind for kind in before if before[kind] != after[kind]} == {role.value}
    assert keys.accepts(digest(after[role.value]["key"]), role)
    assert not keys.accepts(digest(before[role.value]["key"]), role)
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600


def test_keys_renewed_at_once_are_all_in_the_file_in_the_end(tmp_path, monkeypatch):
    keys = KeyFile(tmp_path / "keys", 1)
    delays = [0.3, 0.0]
    render = KeyFile.render

    def slow(self):
        text = render(self)
        time.sleep(delays.pop(0))
        return text

    monkeypatch.setattr(KeyFile, "render", slow)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(keys.renew, ROUTE_ROLES))
    document = _keys(tmp_path / "keys")
    assert all(keys.accepts(digest(document[role.value]["key"]), role) for role in Role)


def test_the_api_key_is_not_renewed(tmp_path):
    with pytest.raises(ValueError, match="API"):
        KeyFile(tmp_path / "keys", 1).renew(Role.API)


def test_a_key_file_that_cannot_be_written_says_what_to_do_and_changes_no_key(tmp_path):
    keys = KeyFile(tmp_path / "keys", 60)
    keys.write()
    old = _keys(tmp_path / "keys")["inference"]["key"]
    (tmp_path / "keys").unlink()
    (tmp_path / "keys" / "in the way").mkdir(parents=True)
    with pytest.raises(TrustError, match="token_key_file"):
        keys.renew(Role.INFERENCE)
    assert keys.accepts(digest(old), Role.INFERENCE)
    assert [file.name for file in tmp_path.iterdir()] == ["keys"]
    with pytest.raises(TrustError, match="No such file"):
        KeyFile(tmp_path / "nowhere" / "keys", 60).write()


def test_a_link_is_replaced_not_followed(tmp_path):
    target = tmp_path / "target"
    target.write_text("untouched")
    (tmp_path / "keys").symlink_to(target)
    KeyFile(tmp_path / "keys", 60).write()
    assert target.read_text() == "untouched"
    assert not (tmp_path / "keys").is_symlink()


@given(
    st.floats(min_value=1e-6, max_value=1e300, allow_nan=False),
    st.floats(min_value=0, max_value=2e11, allow_nan=False),
)
def test_any_time_gives_a_file_that_can_be_read(minutes, now):
    keys = KeyFile(Path("unused"), minutes, Clock(now))
    document = json.loads(keys.render())
    texts = [entry["key"] for entry in document.values()]
    assert len(set(texts)) == 3
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{43}", text) for text in texts)
    expires = datetime.fromisoformat(document["inference"]["expiration time"].replace("Z", "+00:00"))
    assert expires >= datetime.fromtimestamp(min(now, 2.5e11), timezone.utc)
    assert keys.accepts(digest(document["inference"]["key"]), Role.INFERENCE)


def test_keys_do_not_show_in_a_repr(tmp_path):
    keys = KeyFile(tmp_path / "keys", 60)
    secrets = [entry["key"] for entry in json.loads(keys.render()).values()]
    assert not any(secret in f"{keys!r} {vars(keys)!r}" for secret in secrets)


# The operator's tokens


def _roles(text):
    found = {}
    for role, value in parse_tokens(text):
        found.setdefault(value, set()).add(role)
    return found


def test_a_token_is_for_both_roles_unless_it_says_which():
    text = "\n# comment\nplain\ninference:one\n  management: two  \r\nManagement:three==\n"
    both = set(ROUTE_ROLES)
    assert _roles(text) == {
        digest("plain"): both,
        digest("one"): {Role.INFERENCE},
        digest("two"): {Role.MANAGEMENT},
        digest("three=="): {Role.MANAGEMENT},
    }


@given(st.lists(st.tuples(st.sampled_from(["", "inference:", "management:"]), _GOOD), max_size=10))
def test_every_token_that_is_written_counts_for_its_roles(entries):
    roles = _roles("\n".join(prefix + token for prefix, token in entries))
    for prefix, token in entries:
        expected = {Role(prefix[:-1])} if prefix else set(ROUTE_ROLES)
        assert expected <= roles[digest(token)]
    assert set(roles) == {digest(token) for _, token in entries}


@given(st.text(max_size=200))
def test_any_text_is_tokens_or_an_error_that_names_a_line(text):
    problem = ""
    found = []
    try:
        found = list(parse_tokens(text))
    except ValueError as error:
        problem = str(error)
    assert not problem or re.fullmatch(r"line \d+(:| is not a token) [\x20-\x7e]*", problem)
    assert digest("") not in {value for _, value in found}


@pytest.mark.parametrize(
    "line", ["API:abc", "root:abc", "a b", "inference:", ":abc", "ключ", "inference:a:b"]
)
def test_a_line_that_is_no_token_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "tokens"
    path.write_text(f"# first\nfine\n{line}\n", encoding="utf-8")
    with pytest.raises(TrustError, match="line 3") as caught:
        TokenFile(path)
    assert "abc" not in str(caught.value)


def test_files_without_tokens_are_refused(tmp_path):
    path = tmp_path / "tokens"
    with pytest.raises(TrustError, match="No such file"):
        TokenFile(path)
    for content, message in (
        (b"# none\n\n", "no token"),
        (b"\xff\xfe", "UTF-8"),
        (b"a" * 2**21, "longer than"),
    ):
        path.write_bytes(content)
        with pytest.raises(TrustError, match=message):
            TokenFile(path)


def _admits(guard, token):
    return {role for role in ROUTE_ROLES if guard.admits(role, f"Bearer {token}")}


def test_a_secret_is_followed_as_kubelet_swaps_it(tmp_path, caplog):
    """kubelet mounts ..data -> ..2026_1, file -> ..data/file, and renames a new ..data over the old."""
    caplog.set_level("INFO")

    def release(version, **files):
        folder = tmp_path / f"..{version}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_text(content)
        (tmp_path / "..data_tmp").symlink_to(folder.name)
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

    release("1", mine="old-inference-token", admins="management:old-management-token")
    for name in ("mine", "admins"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    tokens = TokenFile(tmp_path)
    watched = WatchedFiles("tokens", (tmp_path,), tokens.reload)
    guard = Guard([tokens])
    assert not watched.check()
    assert _admits(guard, "old-management-token") == {Role.MANAGEMENT}

    release("2", mine="new-token", admins="management:old-management-token")
    assert watched.check()
    assert _admits(guard, "old-inference-token") == set()
    assert _admits(guard, "new-token") == set(ROUTE_ROLES)
    assert _admits(guard, "old-management-token") == {Role.MANAGEMENT}

    release("3", mine="not a token", admins="")
    assert not watched.check()
    assert _admits(guard, "new-token") == set(ROUTE_ROLES)
    release("4", mine="inference:last", admins="last")
    assert watched.check()
    assert _admits(guard, "last") == set(ROUTE_ROLES)
    assert "not a token" in caplog.text
    assert "-token" not in caplog.text


def test_without_a_source_nobody_passes():
    assert not Guard([]).admits(Role.INFERENCE, "Bearer anything")


def test_one_source_is_enough(tmp_path):
    (tmp_path / "tokens").write_text("mine")
    keys = KeyFile(tmp_path / "keys", 60)
    key = json.loads(keys.render())["inference"]["key"]
    guard = Guard([TokenFile(tmp_path / "tokens"), keys])
    assert _admits(guard, "mine") == set(ROUTE_ROLES)
    assert _admits(guard, key) == {Role.INFERENCE}
    assert _admits(guard, key[:-1]) == set()


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(TrustError, match=f"token_file {tmp_path}: Permission denied"):
        TokenFile(tmp_path)


def test_nothing_that_goes_wrong_ends_the_watch(tmp_path, caplog):
    file = tmp_path / "file"
    file.write_text("one")

    def fail():
        raise RuntimeError("nobody thought of this")

    watched = WatchedFiles("a file", (file,), fail)
    file.write_text("two, and longer")
    assert not watched.check()
    assert "a file changed and cannot be used" in caplog.text
