import concurrent.futures
import os
import signal

import pytest

from diffjax.train.console import progress, stop_signals


@pytest.fixture
def interruptible():
    """Python's own handler of SIGINT: a shell that starts the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_first_signal_is_noted_and_the_second_acts(interruptible):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_signals() as caught:
        assert caught == []
        os.kill(os.getpid(), signal.SIGINT)
        assert caught == [signal.SIGINT]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert caught == [signal.SIGINT]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_threads_do_without_signals():
    before = signal.getsignal(signal.SIGINT)

    def inside():
        with stop_signals() as caught:
            return caught, signal.getsignal(signal.SIGINT)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(inside).result() == ([], before)


def test_the_bar_counts_from_the_first_step_and_is_quiet_in_a_log(capsys):
    with progress(100, 400) as bar:
        for _ in range(300):
            bar.update(1)
            bar.set_postfix_str("loss=0.25", refresh=False)
    shown = capsys.readouterr().err
    assert "100/400" in shown and "compiling" in shown
    assert "400/400" in shown and "step/s" in shown and "loss=0.25" in shown
    assert shown.count("\r") < 6
