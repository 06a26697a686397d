"""A pod's /etc/hosts and resolver settings, as the kubelet makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
MAX_SERVERS, MAX_SEARCHES = 3, 32
HOSTS_HEAD = (
    "# Kubernetes-managed hosts file.\n"
    "127.0.0.1\tlocalhost\n"
    "::1\tlocalhost ip6-localhost ip6-loopback\n"
    "fe00::0\tip6-localnet\n"
    "fe00::0\tip6-mcastprefix\n"
    "fe00::1\tip6-allnodes\n"
    "fe00::2\tip6-allrouters\n"
)


@dataclass(frozen=True, slots=True)
class Resolver:
    """The lines of a resolv.conf."""

    servers: tuple[str, ...] = ()
    searches: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv(text: str) -> Resolver:
    """The host's own settings. The last search line counts."""
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] == "search":
            searches = [w for w in words[1:] if w != "."]
        elif words[0] == "options":
            options += words[1:]
    return Resolver(tuple(servers), tuple(searches), tuple(options))


def resolver(pod: Json, *, host: Resolver, cluster_dns: Sequence[str], domain: str) -> Resolver:
    """What the pod's resolv.conf says, by dnsPolicy and dnsConfig."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "ClusterFirst" and spec.get("hostNetwork"):
        policy = "Default"
    if policy == "None":
        base = Resolver()
    elif policy == "Default" or not cluster_dns:
        base = host
    else:
        own = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)
        base = Resolver(tuple(cluster_dns), own + tuple(s for s in host.searches if s not in own), ("ndots:5",))
    extra = spec.get("dnsConfig") or {}
    options = {o.partition(":")[0]: o for o in base.options}
    for option in extra.get("options") or ():
        value = option.get("value")
        options[option["name"]] = option["name"] if value is None else f"{option['name']}:{value}"
    searches = [*base.searches, *(s for s in extra.get("searches") or () if s not in base.searches)]
    servers = [*base.servers, *(s for s in extra.get("nameservers") or () if s not in base.servers)]
    return Resolver(tuple(servers[:MAX_SERVERS]), tuple(searches[:MAX_SEARCHES]), tuple(options.values()))


def hosts_file(pod: Json, ips: Sequence[str], *, host_text: str, domain: str) -> str:
    """The pod's /etc/hosts: its own name and aliases; host-network pods get the node's file with the aliases."""
    spec = pod["spec"]
    if spec.get("hostNetwork"):
        text = "# Kubernetes-managed hosts file (host network).\n" + host_text
    else:
        text = HOSTS_HEAD
        name, full = hostname(pod), full_name(pod, domain)
        full = f"{full}\t" if full else ""
        for ip in ips:
            text += f"{ip}\t{full}{name}\n"
    if aliases := spec.get("hostAliases"):
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += "\t".join((alias["ip"], *(alias.get("hostnames") or ()))) + "\n"
    return text


def full_name(pod: Json, domain: str) -> str:
    """host.subdomain.namespace.svc.domain, "" for a pod without a subdomain."""
    spec = pod["spec"]
    if not spec.get("subdomain") or spec.get("hostnameOverride"):
        return ""
    return f"{hostname(pod)}.{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{domain}"


def hostname(pod: Json) -> str:
    """The pod's host name: its own choice or its name, at most 63 characters."""
    spec = pod["spec"]
    if override := spec.get("hostnameOverride"):
        return str(override)
    name = spec.get("hostname") or pod["metadata"]["name"]
    return str(name)[:63].rstrip("-.")
