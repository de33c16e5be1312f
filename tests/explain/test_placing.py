"""Errors of one of several examples."""

from __future__ import annotations

import pytest

from predictor.errors import HandlerStatus, InvalidInput, PayloadTooLarge
from predictor.explain.placing import placed


@pytest.mark.parametrize("error", [InvalidInput("no word"), PayloadTooLarge("too many rows")])
def test_a_mistake_gets_its_place(error):
    found = placed("instances[1]", error, [{}, error])
    assert (type(found), found.message) == (type(error), f"instances[1]: {error.message}")
    assert not error.message.startswith("instances"), "others may have been told the same error"


def test_what_all_share_and_what_is_no_mistake_have_none():
    shared = InvalidInput("explain.target must be from 0 to 2; got 9")
    assert placed("instances[0]", shared, [shared, InvalidInput(shared.message)]) is shared
    assert placed("instances[0]", shared, [shared, InvalidInput("another")]) is not shared
    late = HandlerStatus("The explanation was stopped", 504)
    assert placed("instances[0]", late, [late, {}]) is late
