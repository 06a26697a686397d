"""NetworkPolicies become chains and sets that say exactly who may talk."""

from __future__ import annotations

from typing import Any

from portside.net.policy import PolicyRules, render_policies, survey

Json = dict[str, Any]


def pod(name: str, ip: str, namespace: str = "d", node: str = "n1", **more: Any) -> Json:
    ports = [{"name": "web", "containerPort": more.pop("port", 8080)}]
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": ports}], **more},
        "status": {"podIP": ip, "phase": "Running"},
    }


def policy(selector: Json, namespace: str = "d", name: str = "p", **spec: Any) -> Json:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"podSelector": selector, **spec}}


def space(name: str, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}}


PODS = [pod("a", "10.244.0.1"), pod("b", "10.244.1.1", node="n2"), pod("c", "10.244.0.3", "other", port=9090)]
SPACES = [space("d", team="x"), space("other", team="y")]


def rendered(*policies: Json, pods: list[Json] = PODS) -> PolicyRules:
    return render_policies(policies, survey(pods, SPACES), "n1")


def lines(rules: PolicyRules, ip: str, outward: bool = False) -> list[str]:
    pointer = (rules.outward if outward else rules.inward)[ip]
    return rules.chains[pointer.removeprefix("goto ")]


def test_a_selected_pod_of_this_node_is_closed_but_for_what_rules_allow() -> None:
    rules = rendered(policy({}))
    assert set(rules.inward) == {"10.244.0.1"}  # the other pod of the namespace runs elsewhere
    assert lines(rules, "10.244.0.1") == ["drop"]
    assert rules.outward == {}


def test_peers_are_sets_that_follow_pods_while_the_rules_stay() -> None:
    from_team = {"namespaceSelector": {"matchLabels": {"team": "y"}}, "podSelector": {"matchLabels": {"app": "c"}}}
    wanted = policy({}, ingress=[{"from": [from_team, {"podSelector": {}}], "ports": [{"port": 80}]}])
    rules = rendered(wanted)
    *allowed, last = lines(rules, "10.244.0.1")
    assert last == "drop"
    sets = [line.split("@")[1].split()[0] for line in allowed]
    assert [rules.members[name] for name in sets] == [{"10.244.0.3"}, {"10.244.0.1", "10.244.1.1"}]
    assert all(line.endswith("tcp dport 80 accept") for line in allowed)
    more = rendered(wanted, pods=[*PODS, pod("e", "10.244.1.9", node="n2")])
    assert more.chains == rules.chains
    assert more.members[sets[1]] == {"10.244.0.1", "10.244.1.1", "10.244.1.9"}


def test_named_ports_mean_the_target_pods_own_port() -> None:
    inward = rendered(policy({}, ingress=[{"ports": [{"port": "web"}, {"port": "none"}]}]))
    assert lines(inward, "10.244.0.1") == ["tcp dport 8080 accept", "drop"]
    everywhere = {"namespaceSelector": {}}
    outward = rendered(policy({}, egress=[{"to": [everywhere], "ports": [{"port": "web"}]}]))
    line, _ = lines(outward, "10.244.0.1", outward=True)
    name = line.split("@")[1].split()[0]
    assert outward.members[name] == {
        "10.244.0.1 . tcp . 8080",
        "10.244.1.1 . tcp . 8080",
        "10.244.0.3 . tcp . 9090",
    }


def test_blocks_ranges_and_protocols() -> None:
    block = {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}
    ports = [{"protocol": "UDP", "port": 53, "endPort": 60}, {"protocol": "SCTP"}]
    rules = rendered(policy({}, policyTypes=["Egress"], egress=[{"to": [block], "ports": ports}]))
    assert lines(rules, "10.244.0.1", outward=True) == [
        "ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 } udp dport 53-60 accept",
        "ip daddr 10.0.0.0/8 ip daddr != { 10.1.0.0/16 } meta l4proto sctp accept",
        "drop",
    ]
    six = rendered(policy({}, ingress=[{"from": [{"ipBlock": {"cidr": "fd00::/8"}}]}]))
    assert lines(six, "10.244.0.1") == ["drop"]


def test_policies_add_up_and_an_empty_rule_allows_everything() -> None:
    rules = rendered(policy({}, name="a"), policy({}, name="b", ingress=[{}]))
    assert lines(rules, "10.244.0.1") == ["accept", "drop"]


def test_pods_without_a_network_of_their_own_are_left_alone() -> None:
    hosted, ended = pod("h", "10.0.0.1", hostNetwork=True), pod("e", "10.244.0.8")
    ended["status"]["phase"] = "Succeeded"
    rules = rendered(policy({}, ingress=[{"from": [{"podSelector": {}}]}]), pods=[*PODS, hosted, ended])
    assert set(rules.inward) == {"10.244.0.1"}
    assert all("10.0.0.1" not in members and "10.244.0.8" not in members for members in rules.members.values())
