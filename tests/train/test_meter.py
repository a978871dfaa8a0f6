import time

import numpy as np
import pytest

from diffjax.train.meter import Meter, Stopwatch


def test_means_are_over_all_steps_since_the_last_time():
    meter = Meter()
    meter.add(2, {"loss": np.array([1.0, 2.0]), "abs": np.array([0.0, 0.0])})
    meter.add(4, {"loss": np.array([3.0, 6.0]), "abs": np.array([0.0, 4.0])})
    assert meter.loss == 1.5  # one call late
    means = meter.means()
    assert means == {"loss": 3.0, "abs": 1.0} and list(means) == ["loss", "abs"] and meter.loss == 4.5
    meter.add(5, {"loss": np.array([7.0]), "abs": np.array([1.0])})
    assert meter.means() == {"loss": 7.0, "abs": 1.0}


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"loss": [1.0, np.nan, np.nan], "grad_norm": [1.0, np.nan, np.nan]}, "loss is nan at step 9"),
        ({"loss": [1.0, 1.0, np.nan], "grad_norm": [1.0, np.inf, np.nan]}, "grad_norm is inf at step 9"),
        ({"loss": [1.0, 1.0, np.inf]}, "loss is inf at step 10"),
    ],
)
def test_the_first_bad_step_is_named(metrics, message):
    meter = Meter()
    meter.add(10, {name: np.array(value) for name, value in metrics.items()})
    with pytest.raises(FloatingPointError, match=message):
        meter.read()


def test_other_figures_may_be_infinite():
    meter = Meter()
    meter.add(1, {"loss": np.array([1.0]), "snr": np.array([np.inf])})
    assert meter.means()["snr"] == np.inf


def test_the_watch_goes_on_from_before_and_stands_still_while_paused(monkeypatch):
    now = [5.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Stopwatch(100.0)
    now[0] += 1
    with watch.paused():
        now[0] += 50
    now[0] += 2
    assert watch.seconds() == pytest.approx(103.0)
