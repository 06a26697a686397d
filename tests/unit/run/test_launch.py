"""Components are processes of their own: whatever happens to the command that starts one, its record tells of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from portside.run import launch
from portside.run.home import Home, ProcessRecord


def test_ctrl_c_while_a_component_starts_leaves_no_process_that_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sleeper.py").write_text("import time\ntime.sleep(60)\n")
    home = Home(tmp_path / "home")
    home.make()
    save = Home.save_record
    started: list[int] = []

    def interrupted(self: Home, name: str, pid: int) -> ProcessRecord:
        started.append(pid)
        os.kill(os.getpid(), signal.SIGINT)
        return save(self, name, pid)

    monkeypatch.setattr(Home, "save_record", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            launch.start(home, "control-plane", "sleeper", [], PYTHONPATH=str(tmp_path))
        record = home.record("control-plane")
        assert record is not None and record.alive and [record.pid] == started
    finally:
        for pid in started:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
