import dataclasses
import json

import numpy as np
import pytest

from diffjax.metrics import frechet_distance, report

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(600, 3))


def test_a_good_model_reaches_the_floor_and_a_bad_one_does_not():
    good = report(REAL, RNG.normal(size=(200, 3)))
    bad = report(REAL, 1.3 * RNG.normal(size=(200, 3)) + 0.5)
    assert good.count == bad.count == 200
    assert good.fd_floor == bad.fd_floor and good.kid_floor == bad.kid_floor
    assert good.fd < 3 * good.fd_floor and abs(good.kid) < 4 * good.kid_stderr  # 4 sigma
    assert bad.fd > 10 * bad.fd_floor and bad.kid > 4 * bad.kid_stderr
    assert "200 samples: FD" in str(good) and "floor" in str(good)
    assert json.loads(json.dumps(dataclasses.asdict(good)))["count"] == 200


def test_the_count_is_what_the_real_set_allows():
    assert report(REAL, RNG.normal(size=(5000, 3))).count == 300
    assert report(REAL, REAL, held_out=RNG.normal(size=(80, 3))).count == 80
    assert report(REAL, RNG.normal(size=(50, 3)), held_out=REAL).count == 50


def test_floor_halves_are_disjoint():
    # Each real sample once: were one drawn for both halves, the distance of two equal halves would be zero.
    r = report(REAL, REAL)
    assert r.count == 300 and r.fd_floor > 1e-3
    biased = report(REAL, REAL[:100] + 5, held_out=REAL + 5)  # the floor follows the held-out set
    assert biased.fd_floor > 50 and biased.fd > 50


def test_report_is_deterministic_and_seeded():
    x = RNG.normal(size=(100, 3))
    assert report(REAL, x) == report(REAL, x) != report(REAL, x, seed=1)
    assert report(REAL, REAL).fd < frechet_distance(REAL, REAL + 1)


def test_bad_input():
    with pytest.raises(ValueError, match="rows of generated hold NaN"):
        report(REAL, np.where(np.arange(30).reshape(10, 3) == 4, np.nan, 1.0))
    with pytest.raises(ValueError, match="generated has 3 samples of 3 dimensions"):
        report(REAL, REAL[:3])
    with pytest.raises(ValueError, match="held_out has 2 samples"):
        report(REAL, REAL, held_out=REAL[:2])
    with pytest.raises(ValueError, match="only 3 samples can be compared; features of 1 dimensions need 4"):
        report(REAL[:7, :1], REAL[:9, :1])
    with pytest.raises(ValueError, match="only 3 samples can be compared; features of 3 dimensions need 4"):
        report(REAL[:7], REAL[:9])  # half of seven
