"""A session's runs and the forks of its process keep clear of each other."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_FORKS = """
import os, threading
import numpy as np
from mien.detect.mien import MienDetector, SHIPPED

detector, stop = MienDetector(SHIPPED), threading.Event()
photo = np.random.default_rng(1).integers(0, 256, (320, 320, 3), np.uint8)

def work():
    while not stop.is_set():
        detector.detect(photo)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for _ in range(100):
    child = os.fork()
    if child == 0:
        detector.face_score(photo[:64, :64])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_during_runs_of_other_threads_answers() -> None:
    """It inherits the locks of ONNX Runtime that those threads hold: some of a hundred would wait for ever."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", _FORKS], check=True, timeout=300)
