"""Wrong calls over the public API are refused by the package itself, in words (a fifth of those in fuzz.py)."""

import pytest


@pytest.mark.slow
def test_wrong_calls_are_refused_in_words():
    from tests.cases import fuzz  # it compiles a few programs

    wrong = [case for case in fuzz.CASES if case[1] == "error"][::5]
    assert len(wrong) > 50
    found = {name: fuzz.verdict(want, call, check, says) for name, want, call, check, says in wrong}
    assert {name: said for name, said in found.items() if said[0] != "clear"} == {}
