"""How many actors are requested of an autoscaler, and how long their nodes are waited for."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fixtures.growing import GrowingCluster
from vlray.cluster.capacity import Node, ResourcePlan
from vlray.cluster.growth import Size, plan_actors
from vlray.config.cluster import ClusterSection
from vlray.settings.labels import matches

HEAD = Node(0, 0)
CPU = Node(2, 0)
GPU = Node(4, 1)


def planned(
    cluster: GrowingCluster, *, on_cpu: bool = False, shards: int = 100, **options: object
) -> tuple[ResourcePlan, int]:
    plan, growth = plan_actors(
        ClusterSection.model_validate(options), shards, cluster, on_cpu=on_cpu
    )
    return plan, growth.most if growth else 0


def test_a_cluster_scaled_to_zero_is_asked_for_gpus_and_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = GrowingCluster([HEAD], [HEAD, GPU])
    with caplog.at_level(logging.INFO):
        plan, most = planned(cluster)
    assert plan == ResourcePlan(1, 4, 1, 1)  # begins with the first node
    assert most == 100  # and uses all that join, up to one for each shard
    assert cluster.requests == [({"CPU": 1, "GPU": 1}, 100)]
    assert "waiting for nodes: 1 GPUs are requested (1 actors x 1)" in caplog.text
    assert "(0 of 30 minutes)" in caplog.text


def test_a_run_begins_on_the_nodes_that_live_and_asks_for_the_rest() -> None:
    cluster = GrowingCluster([HEAD, GPU])
    plan, most = planned(cluster, actors=8)
    assert (plan.actors, most) == (1, 8)
    assert cluster.requests == [({"CPU": 1, "GPU": 1}, 8)]


def test_cpu_nodes_that_live_are_no_substitute_for_gpus_that_are_gone() -> None:
    with pytest.raises(ValueError, match=r"in 0.01 seconds: 1 GPUs .*device cpu extracts on CPUs"):
        planned(GrowingCluster([HEAD, CPU]), wait=0.01)
    cluster = GrowingCluster([HEAD, CPU])
    assert planned(cluster, on_cpu=True) == (ResourcePlan(2, 1, 0, 1), 100)
    assert cluster.requests == [({"CPU": 1}, 100)]


def test_a_request_is_withdrawn_when_nothing_came_of_it() -> None:
    cluster = GrowingCluster([HEAD])
    with pytest.raises(ValueError, match=r"too few nodes have joined in 0.01"):
        planned(cluster, wait=0.01, actors=3)
    assert cluster.requests == [({"CPU": 1, "GPU": 1}, 3), ({"CPU": 1, "GPU": 1}, 0)]


@pytest.mark.parametrize("options", [{"wait": 0}, {"address": "local"}, {}])
def test_a_cluster_that_does_not_grow_is_asked_for_nothing(options: dict[str, object]) -> None:
    cluster = GrowingCluster([HEAD], on_demand=bool(options))
    with pytest.raises(ValueError, match=r"1 CPUs are requested .* has 0; lower"):
        planned(cluster, **options)
    assert cluster.requests == []


def test_labels_that_no_node_has_are_named() -> None:
    with pytest.raises(ValueError, match=r"no living node has the labels kind=big \(--cluster"):
        planned(GrowingCluster([], on_demand=False), label_selector={"kind": "big"})


@given(st.integers(1, 50), st.integers(1, 50), st.booleans())
def test_whole_requests_end_at_the_largest_that_is_served(
    room: int, most: int, explicit: bool
) -> None:
    size, requests = Size(most, explicit=explicit), []
    for _ in range(14):
        size.adjust(0, size.value if size.value > room else 0)
        requests.append(size.value)
    assert requests[-1] == min(room, most)
    assert requests[0] == (most if explicit else 1)


def test_partial_requests_are_as_large_as_useful() -> None:
    size = Size(70, explicit=False)
    size.adjust(0, None)
    assert size.value == 70


@pytest.mark.parametrize(
    ("condition", "fitting"),
    [("a", "a"), ("!a", "bc-"), ("in(a,b)", "ab"), ("in(a, b)", "ab"), ("!in(a,b)", "c-")],
)
def test_label_selectors_choose_the_nodes_that_ray_chooses(condition: str, fitting: str) -> None:
    labels = {name: {"kind": name} for name in "abc"} | {"-": {}}
    chosen = [name for name in labels if matches({"kind": condition}, labels[name])]
    assert chosen == list(fitting)


@pytest.mark.parametrize("condition", ["", "in()", "not in (a)", "!", "a b"])
def test_what_is_no_label_selector_is_refused(condition: str) -> None:
    with pytest.raises(ValueError, match=r"is not a label selector; write LABEL=VALUE"):
        ClusterSection(label_selector={"kind": condition})
