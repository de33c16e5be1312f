from __future__ import annotations

import pickle
from pathlib import Path

from predictor.archives.errors import ArchiveError


def test_the_message_names_archive_and_member():
    error = ArchiveError(Path("/store/a.mar"), "is broken", member="w.pt")
    assert (error.source, error.member, error.reason) == ("/store/a.mar", "w.pt", "is broken")
    assert str(error) == "/store/a.mar, member 'w.pt': is broken"
    assert str(ArchiveError("a.mar", "is broken")) == "a.mar: is broken"


def test_a_hostile_name_is_shortened_and_made_printable():
    error = ArchiveError("a", "bad", member="\x1b[2J" + "x" * 10_000)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 300


def test_it_survives_a_process_boundary():
    error = pickle.loads(pickle.dumps(ArchiveError("a", "bad", member="m")))
    assert (error.source, error.reason, error.member) == ("a", "bad", "m")
