"""Ingresses become routes in the right order, and nothing a person wrote can change the proxy's settings."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from portside.base.pki import ensure_ingress_server, ensure_pki
from portside.net.haproxy import Ports, configuration, pair
from portside.net.ingress import Plan, plan

Json = dict[str, Any]
CLASSES = {
    "portside": {"spec": {"controller": "portside.io/ingress"}},
    "other": {"spec": {"controller": "example.com/other"}},
}


def service(name: str, ip: str = "10.96.0.5") -> Json:
    ports = [{"name": "http", "port": 80}]
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"clusterIP": ip, "ports": ports}}


SERVICES = {("d", name): service(name, ip) for name, ip in (("a", "10.96.0.5"), ("b", "10.96.0.6"), ("h", "None"))}


def to(target: str, **port: Any) -> Json:
    return {"service": {"name": target, "port": port or {"number": 80}}}


def ingress(name: str, *rules: tuple[str, str, str, str], made: str = "2026-01-01T00:00:00Z", **spec: Any) -> Json:
    found = [
        {"host": host, "http": {"paths": [{"path": path, "pathType": kind, "backend": to(target)}]}}
        for host, path, kind, target in rules
    ]
    body = {"ingressClassName": "portside", "rules": found} | spec
    return {"metadata": {"name": name, "namespace": "d", "creationTimestamp": made}, "spec": body}


def planned(*ingresses: Json, slices: list[Json] | None = None, secrets: Any = None) -> Plan:
    return plan(ingresses, CLASSES, SERVICES, slices or [], secrets or {})


def test_routes_are_asked_from_the_most_particular() -> None:
    made = planned(
        ingress(
            "x",
            ("", "/", "Prefix", "a"),
            ("*.example.com", "/", "Prefix", "a"),
            ("w.example.com", "/a", "Prefix", "a"),
            ("w.example.com", "/a", "Exact", "b"),
            ("w.example.com", "/a/long/", "Prefix", "b"),
        )
    )
    assert [(r.host, r.path, r.exact) for r in made.routes] == [
        ("w.example.com", "/a/long", False),
        ("w.example.com", "/a", True),
        ("w.example.com", "/a", False),
        ("*.example.com", "/", False),
        ("", "/", False),
    ]


def test_only_our_class_is_served_by_name_or_annotation() -> None:
    rule = ("a.example.com", "/", "Prefix", "a")
    old = ingress("old", rule, ingressClassName=None)
    old["metadata"]["annotations"] = {"kubernetes.io/ingress.class": "portside"}
    assert len(planned(old).routes) == 1
    for name in ("other", "none", None):
        assert planned(ingress("x", rule, ingressClassName=name)).routes == []


def test_the_older_ingress_keeps_a_host_and_path() -> None:
    rule = ("a.example.com", "/", "Prefix")
    made = planned(ingress("new", (*rule, "b"), made="2026-02-01T00:00:00Z"), ingress("old", (*rule, "a")))
    assert [made.backends[r.backend].servers for r in made.routes] == [("10.96.0.5:80",)]
    assert made.problems == [(("d", "new"), "a.example.com/ belongs to an older Ingress")]


def test_backends_by_port_name_headless_and_missing() -> None:
    piece = {
        "metadata": {"name": "h-1", "namespace": "d", "labels": {"kubernetes.io/service-name": "h"}},
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.244.0.9"]}, {"addresses": ["10.244.0.8"], "conditions": {"ready": False}}],
    }
    made = planned(
        ingress("n", defaultBackend=to("a", name="http")),
        ingress("h", ("h.example.com", "/", "Prefix", "h")),
        ingress("m", ("m.example.com", "/", "Prefix", "nobody")),
        slices=[piece],
    )
    assert made.backends[made.default].servers == ("10.96.0.5:80",)
    assert [made.backends[r.backend].servers for r in made.routes] == [("10.244.0.9:8080",), ()]
    assert made.problems == [(("d", "m"), "service nobody does not exist")]


def test_what_could_change_the_configuration_is_left_out() -> None:
    for path in ("/a b", "/a'b", "/a\nbackend x", '/a"', "/a#b", "/a\\b"):
        made = planned(ingress("x", ("a.example.com", path, "Prefix", "a")))
        assert made.routes == []
        assert made.problems[0][1].startswith("path ")
    for host in ("a b.example.com", "a\nb", "a}", "**.example.com"):
        assert planned(ingress("x", (host, "/", "Prefix", "a"))).routes == []


def test_the_configuration_says_what_the_routes_say() -> None:
    made = planned(ingress("x", ("*.example.com", "/a", "Prefix", "a"), ("b.example.com", "/", "Exact", "b")))
    text = configuration(made, Ports(8080, 8443), Path("/c/list"))
    assert "  bind *:8080\n" in text
    assert "  bind *:8443 ssl crt-list /c/list\n" in text
    first, second = (r.backend for r in made.routes)
    assert f"use_backend {first} if {{ var(txn.host) -m str b.example.com }} {{ path -m str '/' }}\n" in text
    host = "{ var(txn.host) -m reg ^[^.]+\\.example\\.com$ }"
    assert f"use_backend {second} if {host} {{ path -m str '/a' }}\n" in text
    assert f"use_backend {second} if {host} {{ path -m beg '/a/' }}\n" in text
    assert "server s0 10.96.0.6:80" in text
    assert "default_backend nothing" in text


def test_a_certificate_and_a_key_that_are_no_pair_are_not_used(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path)
    ensure_ingress_server(pki, ["a.example.com"])

    def secret(certificate: str, key: str) -> Json:
        texts = {"tls.crt": pki.certificate(certificate).read_bytes(), "tls.key": pki.key(key).read_bytes()}
        return {"data": {name: base64.b64encode(text).decode() for name, text in texts.items()}}

    assert pair(secret("ingress-default", "ingress-default")) is not None
    assert pair(secret("ingress-default", "admin")) is None
    assert pair({"data": {"tls.crt": "!!", "tls.key": ""}}) is None
    assert pair({}) is None
