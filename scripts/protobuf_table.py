"""Writes src/portside/api/protobuf_fields.json: the wire numbers and types of every published message of the built-in API.

They are facts of the Go modules k8s.io/api, apimachinery, apiextensions-apiserver and kube-aggregator at the version
below: `generated.proto` has number and wire type, the struct tags have the JSON name and what is inlined. Needs Go.

    .venv/bin/python scripts/protobuf_table.py
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path

from portside.api.kinds import GATED, KINDS

VERSION = "v0.37.2"
MODULES = ("k8s.io/api", "k8s.io/apimachinery", "k8s.io/apiextensions-apiserver", "k8s.io/kube-aggregator")
TARGET = Path(__file__).resolve().parent.parent / "src/portside/api/protobuf_fields.json"
FIELD = re.compile(
    r"^\s*(optional|repeated|required)?\s*(map<\s*(\w+)\s*,\s*([\w.]+)\s*>|[\w.]+)\s+(\w+)\s*=\s*(\d+)\s*;"
)
TAG = re.compile(r"^\s*(?:\w+\s+)?([\w.*\[\]]+)\s+`([^`]*protobuf:\"[^`]*)`")


def module_folder(module: str) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "go.mod").write_text("module table\n")
        done = subprocess.run(
            ["go", "mod", "download", "-json", f"{module}@{VERSION}"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    return Path(json.loads(done.stdout)["Dir"])


def short(name: str) -> str:
    """``k8s.io.api.core.v1.Pod`` -> ``core.v1.Pod``; the API machinery's own messages keep their package's last words."""
    return ".".join(name.rsplit(".", 3)[-3:]) if name.count(".") > 2 else name


def tags(folder: Path) -> dict[str, dict[int, tuple[str, bool]]]:
    """JSON name and inlining by struct and field number."""
    found: dict[str, dict[int, tuple[str, bool]]] = {}
    for path in folder.glob("*.go"):
        struct = ""
        for line in path.read_text().splitlines():
            if start := re.match(r"^type (\w+) struct \{", line):
                struct = start[1]
            elif line == "}":
                struct = ""
            elif struct and (tag := TAG.match(line)):
                wire = re.search(r'protobuf:"\w+,(\d+),', tag[2])
                name = re.search(r'json:"([^",]*)((?:,\w+)*)"', tag[2])
                if wire and name:
                    found.setdefault(struct, {})[int(wire[1])] = (name[1], "inline" in name[2] or not name[1])
    return found


def messages(path: Path) -> dict[str, list[list[object]]]:
    """Fields of each message: number, JSON name ("" is inlined), type, repeated or map."""
    text = path.read_text()
    package = re.search(r"^package ([\w.]+);", text, re.M)
    assert package
    names = tags(path.parent)
    found: dict[str, list[list[object]]] = {}
    current = ""
    for line in text.splitlines():
        if start := re.match(r"^message (\w+) \{", line):
            current = start[1]
            found[short(f"{package[1]}.{current}")] = []
        elif line == "}":
            current = ""
        elif current and (field := FIELD.match(line)):
            number = int(field[6])
            name, inline = names.get(current, {}).get(number, (field[5], False))
            kind = field[4] or field[2]
            if "." in kind:
                kind = short(kind.lstrip("."))
            elif kind[0].isupper():
                kind = short(f"{package[1]}.{kind}")
            shape = "map" if field[4] else field[1] if field[1] == "repeated" else ""
            found[short(f"{package[1]}.{current}")].append([number, "" if inline else name, kind, shape])
    return found


def main() -> None:
    table: dict[str, list[list[object]]] = {}
    for module in MODULES:
        for path in sorted(module_folder(module).rglob("generated.proto")):
            table.update(messages(path))
    served = {f"{(k.group.partition('.')[0] or 'core')}.{k.version}" for k in (*KINDS, *sum(GATED.values(), ()))} | {
        "autoscaling.v1",
        "policy.v1",
        "authentication.v1",
    }
    served |= {"meta.v1", "api.resource", "pkg.runtime", "util.intstr"}
    table = {name: fields for name, fields in table.items() if name.rsplit(".", 1)[0] in served}
    lines = [
        f"{json.dumps(name)}:{json.dumps(fields, separators=(',', ':'))}" for name, fields in sorted(table.items())
    ]
    TARGET.write_text("{" + ",\n".join(lines) + "}\n")
    print(f"{len(table)} messages")


if __name__ == "__main__":
    main()
