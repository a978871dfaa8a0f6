"""The lock of a run's folder: threads and processes, owners that died, and other computers."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from diffjax.train import RunningError, lock

HOLDER = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("lock", sys.argv[2])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
lock.hold(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def elsewhere(fn, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(fn, *args).exception()


def test_a_thread_holds_it_once_and_others_wait(tmp_path):
    with lock.locked(tmp_path):
        with lock.locked(tmp_path):
            assert isinstance(elsewhere(lock.hold, tmp_path), RunningError)
        assert isinstance(elsewhere(lock.hold, tmp_path), RunningError)
    assert not (tmp_path / ".lock").exists()
    assert lock.hold(tmp_path) and not lock.hold(tmp_path)
    lock.let_go(tmp_path)
    lock.let_go(tmp_path)
    assert lock.hold(tmp_path)
    lock.let_go(tmp_path)


def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path), lock.__file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(RunningError, match=rf"another run writes to .*process {holder.pid} on .*since 2"):
                lock.hold(tmp_path)
        finally:
            holder.kill()
    assert (tmp_path / ".lock").exists()
    with lock.locked(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("age", [0.0, lock.STALE + 5])
def test_another_computer_s_lock_holds_while_it_is_touched(tmp_path, age):
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7, "since": "noon"}))
    os.utime(path, (time.time() - age,) * 2)
    if age:
        with lock.locked(tmp_path):
            pass
    else:
        with pytest.raises(RunningError, match="process 7 on elsewhere, since noon"):
            lock.hold(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_an_unreadable_lock_of_nobody_is_taken(tmp_path, text):
    (tmp_path / ".lock").write_text(text)
    with lock.locked(tmp_path):
        pass


def test_the_owner_touches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.01)
    with lock.locked(tmp_path):
        os.utime(tmp_path / ".lock", (0, 0))
        end = time.time() + 10
        while (tmp_path / ".lock").stat().st_mtime == 0 and time.time() < end:
            time.sleep(0.01)
        assert (tmp_path / ".lock").stat().st_mtime > 0
