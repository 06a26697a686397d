"""Variables that an earlier container wrote into a file of an emptyDir."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from portside.agent.envfile import LARGEST, BadEnvFile, read, value_of
from portside.agent.environment import ConfigProblem, Place, environment

TEXT = """# written by a setup container
  FIRST='one'
\tSECOND='two # not a comment'   # a comment

EMPTY=''
SPACED= 'ignored'
LINES='a
b=c
'
LAST='end'"""


@pytest.mark.parametrize(
    ("key", "value"),
    [("FIRST", "one"), ("SECOND", "two # not a comment"), ("EMPTY", ""), ("LINES", "a\nb=c\n"), ("LAST", "end")],
)
def test_values_are_taken_literally_from_single_quotes(key: str, value: str) -> None:
    assert value_of(TEXT, key) == value


def test_what_a_shell_would_leave_empty_is_not_a_value() -> None:
    assert value_of(TEXT, "SPACED") is None and value_of(TEXT, "b") is None and value_of("", "A") is None


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("A='1'\nB = '2'\nKEY='3'", "line 2: whitespace before '='"),
        ("A=1\nKEY='3'", "line 1: the value is not in single quotes"),
        ("\n\nA\nKEY='3'", "line 3: missing '='"),
        ("='1'\nKEY='3'", "line 1: no name before '='"),
        ("A='1' 2\nKEY='3'", "line 1: something follows the closing quote"),
        ("A='1\nKEY=", "line 1: the single quote is not closed"),
    ],
)
def test_a_fault_before_the_key_is_told_with_its_line(text: str, what: str) -> None:
    with pytest.raises(BadEnvFile, match=what):
        value_of(text, "KEY")
    assert value_of("KEY='0'\n" + text, "KEY") == "0"


def test_only_plain_files_inside_the_volume_are_read(tmp_path: Path) -> None:
    """Links that lead out, pipes, folders and endless files are refused; nothing blocks."""
    (tmp_path / "secret").write_text("KEY='stolen'")
    volume = tmp_path / "volume"
    (volume / "sub").mkdir(parents=True)
    (volume / "sub" / "good").write_text("KEY='x'")
    (volume / "inner").symlink_to("sub/good")
    (volume / "outer").symlink_to("../secret")
    (volume / "absolute").symlink_to(tmp_path / "secret")
    os.mkfifo(volume / "pipe")
    (volume / "large").write_bytes(b"#" * (LARGEST + 1))
    assert read(volume, "sub/good") == read(volume, "inner") == "KEY='x'"
    for name in ("outer", "absolute", "pipe", "sub", "large"):
        with pytest.raises(BadEnvFile):
            read(volume, name)
    with pytest.raises(FileNotFoundError):
        read(volume, "none")


async def test_a_container_waits_for_what_is_not_there_unless_it_is_optional(tmp_path: Path) -> None:
    pod = {"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {"containers": []}}
    place = Place("node", "192.0.2.1", (), {}, volumes={"data": tmp_path})

    async def found(**changes: Any) -> dict[str, str]:
        reference = {"volumeName": "data", "path": "env", "key": "KEY", "optional": False} | changes
        container = {"name": "c", "env": [{"name": "X", "valueFrom": {"fileKeyRef": reference}}]}
        return await environment(pod, container, objects=None, services={}, place=place)  # type: ignore[arg-type]

    with pytest.raises(ConfigProblem, match='"env" in volume "data" does not exist'):
        await found()
    assert await found(optional=True) == {}
    (tmp_path / "env").write_text("OTHER='1'\nEMPTY=''\nKEY='v $(OTHER)'\n")
    assert await found() == {"X": "v $(OTHER)"}
    for key in ("NONE", "EMPTY"):
        with pytest.raises(ConfigProblem, match=f'environment variable key "{key}" not found'):
            await found(key=key)
        assert await found(key=key, optional=True) == {}
    with pytest.raises(ConfigProblem, match='cannot find the volume "other"'):
        await found(volumeName="other")
    (tmp_path / "env").write_text("KEY=unquoted\n")
    with pytest.raises(ConfigProblem, match="line 1: the value is not in single quotes"):
        await found(optional=True)
