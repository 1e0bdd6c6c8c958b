"""The rules of the language beyond its shape: one function, one complaint, and all of them run to the end."""

from __future__ import annotations

from collections.abc import Callable

from leanmq_topology.diagnostics import Diagnostic
from leanmq_topology.topology.draft import Draft, Findings
from leanmq_topology.topology.rules import broker, contracts, graph, names, policy, references, topics

Rule = Callable[[Draft], Findings]

RULES: tuple[Rule, ...] = (
    names.check_names,
    names.check_look_alikes,
    names.check_shared_names,
    references.check_message_types,
    references.check_queues,
    references.check_then,
    references.check_then_type,
    references.check_one_handler_a_queue,
    references.check_accepted_types,
    references.check_common_types,
    references.check_moved,
    references.check_calls,
    graph.check_cycles,
    graph.check_routes_to_routes,
    graph.check_queue_count,
    graph.check_subscriber_count,
    graph.check_unhandled_queues,
    graph.check_unused_queues,
    graph.check_unused_types,
    policy.check_delay_within_ttl,
    policy.check_delay_within_timeout,
    policy.check_retry_delays,
    policy.check_retry_steps,
    policy.check_retries_within_ttl,
    policy.check_visibility_timeout,
    policy.check_prefetch,
    policy.check_route_size,
    policy.check_accepts_given,
    policy.check_ttl_given,
    policy.check_never,
    policy.check_never_spelling,
    contracts.check_examples,
    contracts.check_matches,
    topics.check_topics,
    broker.check_url,
    broker.check_password,
    broker.check_secret_places,
)


def check_rules(draft: Draft) -> list[Diagnostic]:
    """Everything the rules have to say about one topology; what `defaults` do to many queues, once."""
    return list(dict.fromkeys(found for rule in RULES for found in rule(draft)))
