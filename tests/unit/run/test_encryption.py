"""HOME/encryption.yaml: what it may say, whose it must be, and what the control plane does when it changes."""

import asyncio
import base64
import json
from pathlib import Path

import pytest
import yaml

from portside.base.clock import SYSTEM
from portside.base.errors import PortsideError
from portside.run.encryption import FILE, Encryption, fingerprint, read_state
from portside.run.encryption_config import first_form, new_key, parse, read_file, written
from portside.run.home import write_private
from portside.store.backend import Write
from portside.store.sqlite import SqliteBackend

SECRET = base64.b64encode(bytes(32)).decode()


def config(*providers: dict, resources: list[str] | None = None) -> bytes:
    return written([{"resources": resources or ["secrets"], "providers": list(providers)}]).encode()


def keys(kind: str, *names: str, secret: str = SECRET) -> dict:
    return {kind: {"keys": [{"name": n, "secret": secret} for n in names]}}


async def until(what, seconds: float = 60.0):
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("names", "key", "covered"),
    [
        (["secrets"], "/core/secrets/default/a", True),
        (["secrets"], "/core/secretsmore/a", False),
        (["deployments.apps"], "/apps/deployments/default/a", True),
        (["deployments.apps"], "/apps/replicasets/default/a", False),
        (["*.apps"], "/apps/replicasets/default/a", True),
        (["*."], "/core/configmaps/default/a", True),
        (["*."], "/apps/deployments/default/a", False),
        (["*.*"], "/example.com/things/default/a", True),
    ],
)
def test_a_rule_covers_resources_by_name_group_or_all(names: list[str], key: str, covered: bool) -> None:
    seal = parse(config(keys("aesgcm", "k"), resources=names), "file")
    assert seal.seal(key, b"{}").startswith(b"k8s:enc:aesgcm:v1:k:") is covered


def test_the_first_rule_that_covers_a_resource_decides() -> None:
    entries = [
        {"resources": ["secrets"], "providers": [{"identity": {}}]},
        {"resources": ["*.*"], "providers": [keys("aescbc", "k")]},
    ]
    seal = parse(written(entries).encode(), "file")
    assert seal.seal("/core/secrets/a", b"{}") == b"{}"
    assert seal.seal("/core/pods/a", b"{}") != b"{}"


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"a: [", "it is no YAML"),
        (b"kind: Other", "it is no EncryptionConfiguration"),
        (written([]).encode(), "resources: required"),
        (config(), "resources[0].providers: required"),
        (config({}), "providers[0]: exactly one provider"),
        (config({"rot13": {}}), "providers[0].rot13: this provider is not supported; use one of aesgcm, aescbc"),
        (config({"aesgcm": {}}), "providers[0].aesgcm.keys: required"),
        (config(keys("aesgcm", "a", "a")), "two keys have the same name"),
        (config(keys("aesgcm", "a:b")), "keys[0].name: required"),
        (config(keys("aescbc", "a", secret="?")), "secret must be base64 encoded"),
        (config(keys("aescbc", "a", secret="aaaa")), "got 3, expected one of [16 24 32]"),
        (config(keys("secretbox", "a", secret=base64.b64encode(bytes(16)).decode())), "got 16, expected one of [32]"),
        (config(keys("aesgcm", "a"), resources=["*"]), "* is no resource"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_field_and_shows_no_key(raw: bytes, told: str) -> None:
    with pytest.raises(PortsideError) as refused:
        parse(raw, "/home/encryption.yaml")
    assert told in str(refused.value) and str(refused.value).startswith("/home/encryption.yaml")
    assert SECRET not in str(refused.value) and "aaaa" not in str(refused.value)


def test_a_file_that_others_may_read_or_a_link_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_text(first_form())
    path.chmod(0o640)
    with pytest.raises(PortsideError, match=r"open to other users.*0640.*chmod 600"):
        read_file(path)
    path.chmod(0o600)
    read_file(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(PortsideError, match="can't be read"):
        read_file(tmp_path / "link")


async def test_a_new_store_gets_a_file_of_its_owner_alone_and_keys_of_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    backend = SqliteBackend(tmp_path / "state.db")
    await Encryption(tmp_path, backend).prepare()
    path = tmp_path / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    entry = yaml.safe_load(path.read_text())["resources"][0]
    assert entry["resources"] == ["secrets"] and entry["providers"][1] == {"identity": {}}
    assert first_form() != path.read_text(), "every cluster has a key of its own"
    await backend.write(Write("/core/secrets/default/a", b'{"v":"hunter2"}'))
    assert await backend.has_sealed()
    await backend.close()


async def test_without_its_file_an_encrypted_store_is_not_touched(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    backend = SqliteBackend(tmp_path / "state.db")
    await Encryption(tmp_path, backend).prepare()
    await backend.write(Write("/core/secrets/default/a", b"{}"))
    await backend.close()
    kept = (tmp_path / FILE).rename(tmp_path / "away")
    with pytest.raises(PortsideError, match=r"is missing, and the store has values encrypted.*bring the file back"):
        await Encryption(tmp_path, SqliteBackend(tmp_path / "state.db")).prepare()
    assert not (tmp_path / FILE).exists(), "no other key takes its place"
    kept.rename(tmp_path / FILE)
    backend = SqliteBackend(tmp_path / "state.db")
    await Encryption(tmp_path, backend).prepare()
    assert (await backend.get("/core/secrets/default/a")).value == b"{}"
    await backend.close()


async def test_a_changed_file_is_in_force_within_seconds_and_a_wrong_one_changes_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    backend = SqliteBackend(tmp_path / "state.db")
    encryption = Encryption(tmp_path, backend)
    await encryption.prepare()
    await backend.write(Write("/core/secrets/default/a", b"{}"))
    tried = []

    async def reread() -> int:
        tried.append(1)
        return 0

    task = asyncio.create_task(encryption.run(SYSTEM, reread))
    await until(lambda: read_state(tmp_path).get("done"))
    found = yaml.safe_load((tmp_path / FILE).read_text())
    providers = found["resources"][0]["providers"]
    write_private(tmp_path / FILE, "nonsense")
    await until(lambda: "no EncryptionConfiguration" in read_state(tmp_path).get("error", ""))
    assert (await backend.get("/core/secrets/default/a")).value == b"{}"
    providers[0]["secretbox"]["keys"].insert(0, new_key("key2"))
    text = written(found["resources"])
    write_private(tmp_path / FILE, text)
    await until(lambda: read_state(tmp_path).get("file") == fingerprint(text.encode()) and read_state(tmp_path)["done"])
    assert len(tried) == 2 and read_state(tmp_path)["error"] == ""
    stored = b"".join(p.read_bytes() for p in tmp_path.glob("state.db*"))
    assert b":key2:" in stored and b":key1:" not in stored
    assert SECRET not in json.dumps(read_state(tmp_path))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await backend.close()
