"""Every rule with the file that breaks it: the code, the address, and the very words the caret underlines.

Rows carry the number of the bad-input catalogue (D17 to D36) where they come from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from leanmq_topology.topology.rules.graph import MAX_QUEUES, MAX_SUBSCRIBERS
from tests.unit.topology.drafts import HEADER, TYPES, check, errors, shorten, warnings


class Row(NamedTuple):
    name: str
    text: str
    expected: list[tuple[str, str, str]]


ERRORS = [
    # Bounds of one value
    Row(
        "D17 a lease under a second",
        "queues: {a: {visibility_timeout: 500ms}}",
        [("LMQ404", "queues.a.visibility_timeout", "500ms")],
    ),
    Row(
        "D17 a lease over twelve hours",
        "queues: {a: {visibility_timeout: 13h}}",
        [("LMQ404", "queues.a.visibility_timeout", "13h")],
    ),
    Row("a ttl beyond ten years", "queues: {a: {ttl: 3651d}}", [("LMQ404", "queues.a.ttl", "3651d")]),
    Row("D16 a ttl of nothing", "queues: {a: {ttl: 0s}}", [("LMQ404", "queues.a.ttl", "0s")]),
    Row(
        "D16 a duration in words",
        "queues: {a: {ttl: 10 minutes}}",
        [("LMQ402", "queues.a.ttl", "10 minutes")],
    ),
    Row("a clock time", "queues: {a: {delay: 1:30}}", [("LMQ402", "queues.a.delay", "1:30")]),
    Row(
        "a size without a unit",
        'queues: {a: {max_message_size: "1024"}}',
        [("LMQ403", "queues.a.max_message_size", '"1024"')],
    ),
    Row(
        "a size beyond the limit",
        "queues: {a: {max_message_size: 17MiB}}",
        [("LMQ404", "queues.a.max_message_size", "17MiB")],
    ),
    Row(
        "topic patterns that are none, each with its reason",
        'routes: {r: {type: topic, to: {a: {topics: ["user.*", "a..b", "us*", "b c"]}}}}\nqueues: {a: {}}',
        [
            ("LMQ426", "routes.r.to.a.topics[1]", '"a..b"'),
            ("LMQ426", "routes.r.to.a.topics[2]", '"us*"'),
            ("LMQ426", "routes.r.to.a.topics[3]", '"b c"'),
        ],
    ),
    Row(
        "every wrong item of a list",
        "queues: {a: {retry: {steps: [1s, soon, 2s, later]}}}",
        [("LMQ402", "queues.a.retry.steps[1]", "soon"), ("LMQ402", "queues.a.retry.steps[3]", "later")],
    ),
    Row(
        "a wrong value in the defaults, once",
        "defaults: {queue: {ttl: ever}}\nqueues: {a: {}, b: {}}",
        [("LMQ402", "defaults.queue.ttl", "ever")],
    ),
    # Values that contradict each other
    Row(
        "D17 a delay as long as the ttl",
        "queues: {a: {ttl: 1h, delay: 1h}}",
        [("LMQ406", "queues.a.delay", "1h")],
    ),
    Row(
        "a delay as long as a request is waited for",
        "queues: {a: {accepts: [placed], delay: 5s}}\n"
        "routes: {r: {type: request, request: placed, reply: paid, queue: a, timeout: 5s}}",
        [("LMQ406", "queues.a.delay", "5s")],
    ),
    Row(
        "a delay beyond the ttl of the defaults",
        "defaults: {queue: {ttl: 1m}}\nqueues: {a: {delay: 2m}}",
        [("LMQ406", "queues.a.delay", "2m")],
    ),
    Row(
        "D17 a first retry delay over the longest",
        "queues: {a: {retry: {delay: 10m}}}",
        [("LMQ407", "queues.a.retry.delay", "10m")],
    ),
    Row(
        "retry steps and a formula",
        "queues: {a: {retry: {steps: [1s], delay: 2s}}}",
        [("LMQ408", "queues.a.retry.delay", "delay")],
    ),
    Row(
        "less prefetch than concurrency",
        'queues: {a: {}}\nhandlers: {h: {queue: a, call: "m.n:f", concurrency: 8, prefetch: 4}}',
        [("LMQ410", "handlers.h.prefetch", "4")],
    ),
    Row(
        "less prefetch than a batch holds",
        'queues: {a: {}}\nhandlers: {h: {queue: a, call: "m.n:f", batch: {size: 8}, prefetch: 4}}',
        [("LMQ410", "handlers.h.prefetch", "4")],
    ),
    # Names
    Row("D18 an empty name", 'queues: {"": {}}', [("LMQ301", "queues.", '""')]),
    Row("D18 65 characters", f"queues: {{{'a' * 65}: {{}}}}", [("LMQ301", f"queues.{'a' * 65}", "a" * 65)]),
    Row("D18 a colon", 'queues: {"a:b": {}}', [("LMQ301", "queues.a:b", '"a:b"')]),
    Row("D18 braces", 'queues: {"{x}": {}}', [("LMQ301", "queues.{x}", '"{x}"')]),
    Row("D18 a space", "queues: {a b: {}}", [("LMQ301", "queues.a b", "a b")]),
    Row("D18 only dots", "queues: {..: {}}", [("LMQ301", "queues...", "..")]),
    Row("D18 a line break", 'queues: {"a\\nb": {}}', [("LMQ301", "queues.a\nb", '"a\\nb"')]),
    Row("D18 a zero", 'queues: {"a\\0b": {}}', [("LMQ301", "queues.a\0b", '"a\\0b"')]),
    Row("D18 an emoji", "queues: {🐇: {}}", [("LMQ301", "queues.🐇", "🐇")]),
    Row("D18 a direction mark", 'queues: {"a\\u200f": {}}', [("LMQ301", "queues.a\u200f", '"a\\u200f"')]),
    Row("D18 upper case", "queues: {Billing: {}}", [("LMQ301", "queues.Billing", "Billing")]),
    Row("a namespace with a brace", "broker: {namespace: 'a{b'}", [("LMQ301", "broker.namespace", "'a{b'")]),
    Row(
        "D18 one word in two Unicode forms",
        'queues: {"caf\\u00e9": {}, "cafe\\u0301": {}}',
        [
            ("LMQ301", "queues.caf\u00e9", '"caf\\u00e9"'),
            ("LMQ301", "queues.cafe\u0301", '"cafe\\u0301"'),
            ("LMQ302", "queues.cafe\u0301", '"cafe\\u0301"'),
        ],
    ),
    Row(
        "D18 wide letters",
        'queues: {ab: {}, "\\uff41\\uff42": {}}',
        [
            ("LMQ301", "queues.\uff41\uff42", '"\\uff41\\uff42"'),
            ("LMQ302", "queues.\uff41\uff42", '"\\uff41\\uff42"'),
        ],
    ),
    Row(
        "D19 a queue and a route of one name",
        "queues: {a: {}, b: {}}\nroutes: {b: {type: fanout, to: {a: {}}}}",
        [("LMQ303", "routes.b", "b")],
    ),
    # References
    Row(
        "D20 a route to an unknown queue",
        "queues: {billing: {}}\nroutes: {r: {type: fanout, to: {biling: {}}}}",
        [("LMQ305", "routes.r.to.biling", "biling")],
    ),
    Row(
        "D20 a handler for no queue",
        'queues: {billing: {}}\nhandlers: {h: {queue: biling, call: "m.n:f"}}',
        [("LMQ305", "handlers.h.queue", "biling")],
    ),
    Row(
        "D20 unknown types",
        "queues: {a: {accepts: [placed, plcaed]}}\nroutes: {r: {type: fanout, accepts: [payd], to: {a: {}}}}",
        [("LMQ304", "queues.a.accepts[1]", "plcaed"), ("LMQ304", "routes.r.accepts[0]", "payd")],
    ),
    Row(
        "an unknown type in the defaults",
        "defaults: {queue: {accepts: [nope]}}\nqueues: {a: {}, b: {}}",
        [("LMQ304", "defaults.queue.accepts[0]", "nope")],
    ),
    Row(
        "unknown types and an unknown queue of a request",
        "routes: {r: {type: request, request: x.a, reply: x.b, error: x.c, queue: q}}",
        [
            ("LMQ304", "routes.r.request", "x.a"),
            ("LMQ304", "routes.r.reply", "x.b"),
            ("LMQ304", "routes.r.error", "x.c"),
            ("LMQ305", "routes.r.queue", "q"),
        ],
    ),
    Row(
        "an unknown target of then",
        'queues: {a: {}}\nhandlers: {h: {queue: a, call: "m.n:f", then: b}}',
        [("LMQ306", "handlers.h.then", "b")],
    ),
    Row(
        "a queue with two handlers",
        'queues: {a: {}}\nhandlers: {h: {queue: a, call: "m.n:f"}, i: {queue: a, call: "m.n:g"}}',
        [("LMQ307", "handlers.i.queue", "a")],
    ),
    Row(
        "D21 a route to itself",
        "queues: {a: {}}\nroutes: {r: {type: fanout, to: {a: {}, r: {}}}}",
        [("LMQ308", "routes.r.to.r", "r")],
    ),
    Row(
        "D21 two routes to each other",
        "routes: {r: {type: fanout, to: {s: {}}}, s: {type: fanout, to: {r: {}}}}",
        [("LMQ308", "routes.r.to.s", "s")],
    ),
    Row(
        "a return value for a queue of several types",
        "queues: {a: {accepts: [paid]}, b: {accepts: [placed, paid]}}\n"
        'handlers: {h: {queue: a, call: "m.n:f", then: b}}',
        [("LMQ336", "handlers.h.then", "b")],
    ),
    Row(
        "a return value for a route of several types",
        "queues: {a: {accepts: [paid]}, b: {accepts: [placed, paid]}}\n"
        "routes: {r: {type: fanout, to: {b: {}}}}\n"
        'handlers: {h: {queue: a, call: "m.n:f", then: r}}',
        [("LMQ336", "handlers.h.then", "r")],
    ),
    Row(
        "a return value for an ephemeral route",
        'queues: {a: {}}\nroutes: {r: {type: ephemeral}}\nhandlers: {h: {queue: a, call: "m.n:f", then: r}}',
        [("LMQ336", "handlers.h.then", "r")],
    ),
    Row(
        "a route to another route",
        "queues: {a: {}}\nroutes: {r: {type: fanout, to: {s: {}}}, s: {type: fanout, to: {a: {}}}}",
        [("LMQ335", "routes.r.to.s", "s")],
    ),
    Row(
        "a route that accepts what its queue refuses",
        "queues: {a: {accepts: [placed]}}\nroutes: {r: {type: fanout, accepts: [placed, paid], to: {a: {}}}}",
        [("LMQ309", "routes.r.accepts[1]", "paid")],
    ),
    Row(
        "queues without a type in common",
        "queues: {a: {accepts: [placed]}, b: {accepts: [paid]}}\n"
        "routes: {r: {type: fanout, to: {a: {}, b: {}}}}",
        [("LMQ330", "routes.r", "r")],
    ),
    # Calls: judged by their text
    Row(
        "a path for a call",
        'queues: {a: {}}\nhandlers: {h: {queue: a, call: "shop/billing.py:charge"}}',
        [("LMQ310", "handlers.h.call", '"shop/billing.py:charge"')],
    ),
    Row(
        "a private function",
        'queues: {a: {}}\nhandlers: {h: {queue: a, call: "shop.billing:_charge"}}',
        [("LMQ311", "handlers.h.call", '"shop.billing:_charge"')],
    ),
    Row(
        "a function of Python itself",
        'queues: {a: {}}\nhandlers: {h: {queue: a, call: "os:system"}}',
        [("LMQ312", "handlers.h.call", '"os:system"')],
    ),
    Row(
        "middleware that cannot be called",
        'middleware: ["shop.tracing:Trace", "trace"]',
        [("LMQ310", "middleware[1]", '"trace"')],
    ),
    # Retry
    Row(
        "no name of a class",
        "queues: {a: {retry: {never: [ValueError, not-a-name, int]}}}",
        [("LMQ416", "queues.a.retry.never[1]", "not-a-name"), ("LMQ416", "queues.a.retry.never[2]", "int")],
    ),
    # The broker
    Row("an unknown scheme", "broker: {url: 'amqp://host'}", [("LMQ418", "broker.url", "'amqp://host'")]),
    Row("no scheme", "broker: {url: localhost}", [("LMQ418", "broker.url", "localhost")]),
    Row("no host", "broker: {url: 'redis://'}", [("LMQ418", "broker.url", "'redis://'")]),
    Row("no socket", "broker: {url: 'unix://'}", [("LMQ418", "broker.url", "'unix://'")]),
    Row("no such port", "broker: {url: 'redis://h:99999'}", [("LMQ418", "broker.url", "'redis://h:99999'")]),
    Row("no such database", "broker: {url: 'redis://h/abc'}", [("LMQ418", "broker.url", "'redis://h/abc'")]),
    Row(
        "an address for the embedded broker",
        "broker: {url: 'embedded://host'}",
        [("LMQ418", "broker.url", "'embedded://host'")],
    ),
    Row("D24 a format of the future", "leanmq: 2\nname: shop\nqueues: {A: {}}", [("LMQ202", "leanmq", "2")]),
]


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row.name)
def test_a_mistake_is_reported_once_where_it_stands(row: Row, tmp_path: Path):
    text = row.text if row.text.startswith("leanmq") else TYPES + row.text

    assert errors(check(tmp_path, text)) == row.expected


MOVED = [
    Row(
        "D23 the new name is unknown",
        "{queues.x: queues.nope}",
        [("LMQ334", "moved.queues.x", "queues.nope")],
    ),
    Row("D23 the old name still exists", "{queues.a: queues.b}", [("LMQ334", "moved.queues.a", "queues.b")]),
    Row(
        "D23 a name used twice",
        "{queues.x: queues.a, queues.y: queues.a}",
        [("LMQ334", "moved.queues.y", "queues.a")],
    ),
    Row(
        "D23 a chain",
        "{queues.x: queues.y, queues.y: queues.a}",
        [("LMQ334", "moved.queues.x", "queues.y")],
    ),
    Row("another kind", "{queues.x: routes.r}", [("LMQ334", "moved.queues.x", "routes.r")]),
    Row("no address", "{x: queues.a}", [("LMQ334", "moved.x", "queues.a")]),
    Row("what cannot move", "{handlers.x: handlers.h}", [("LMQ334", "moved.handlers.x", "handlers.h")]),
]


@pytest.mark.parametrize("row", MOVED, ids=lambda row: row.name)
def test_a_move_that_cannot_be_made_is_refused(row: Row, tmp_path: Path):
    text = (
        HEADER
        + f"queues: {{a: {{}}, b: {{}}}}\nroutes: {{r: {{type: fanout, to: {{a: {{}}}}}}}}\nmoved: {row.text}"
    )

    found = [item for item in errors(check(tmp_path, text)) if item[0] != "LMQ401"]

    assert found == row.expected


WARNINGS = [
    Row(
        "topic patterns that others cover already",
        "queues: {a: {accepts: [placed, paid]}}\n"
        'routes: {r: {type: topic, to: {a: {topics: ["user.*", "user.#", "b.#.*", "b.*.#"]}}}}',
        [("LMQ427", "routes.r.to.a.topics[0]", '"user.*"'), ("LMQ427", "routes.r.to.a.topics[3]", '"b.*.#"')],
    ),
    Row("no accepts", "queues: {a: {}}", [("LMQ414", "queues.a", "a")]),
    Row(
        "a route brings messages nobody handles",
        "queues: {a: {accepts: [placed]}, b: {accepts: [placed, paid]}}\n"
        "routes: {r: {type: fanout, to: {a: {}, b: {}}}}\n"
        'handlers: {h: {queue: a, call: "m.n:f"}}',
        [("LMQ331", "queues.b", "b")],
    ),
    Row(
        "a queue nothing uses",
        "queues: {a: {accepts: [placed, paid]}, b: {accepts: [paid]}}\n"
        'handlers: {h: {queue: a, call: "m.n:f"}}',
        [("LMQ332", "queues.b", "b")],
    ),
    Row(
        "a circle that a handler can cut",
        "queues: {a: {accepts: [placed]}, b: {accepts: [paid]}}\nroutes: {r: {type: fanout, to: {a: {}}}}\n"
        'handlers: {h: {queue: a, call: "m.n:f", then: r}, i: {queue: b, call: "m.n:f", then: b}}',
        [("LMQ308", "routes.r.to.a", "a"), ("LMQ308", "handlers.i.then", "then")],
    ),
    Row("a type nothing accepts", "queues: {a: {accepts: [placed]}}", [("LMQ333", "messages.paid", "paid")]),
    Row(
        "a lease longer than any run",
        "queues: {a: {accepts: [placed, paid], visibility_timeout: 1h}}\n"
        'handlers: {h: {queue: a, call: "m.n:f"}}',
        [("LMQ409", "queues.a.visibility_timeout", "1h")],
    ),
    Row(
        "no shorter lease than that of 1 s is possible, and the default is nobody's choice",
        "queues: {a: {accepts: [placed], visibility_timeout: 1s}, b: {accepts: [paid]}}\n"
        'handlers: {h: {queue: a, call: "m.n:f", timeout: 500ms}, i: {queue: b, call: "m.n:f", timeout: 5s}}',
        [],
    ),
    Row(
        "retries that outlast the ttl",
        "queues: {a: {accepts: [placed, paid], ttl: 15s}}",
        [("LMQ422", "queues.a.ttl", "15s")],
    ),
    Row(
        "a misspelt exception of Python",
        "queues: {a: {accepts: [placed, paid], retry: {never: [ValueEror, PaymentError]}}}",
        [("LMQ417", "queues.a.retry.never[0]", "ValueEror")],
    ),
    Row(
        "large messages for many queues",
        "queues: {a: {accepts: [placed, paid], max_message_size: 3MiB},"
        " b: {accepts: [placed, paid], max_message_size: 4MiB}}\n"
        "routes: {r: {type: fanout, to: {a: {}, b: {}}}}",
        [("LMQ413", "routes.r.to", "to")],
    ),
    Row(
        "a password in the file",
        "broker: {url: 'redis://:hunter2@host'}\nqueues: {a: {accepts: [placed, paid]}}",
        [("LMQ419", "broker.url", "'redis://:***@host'")],
    ),
]


@pytest.mark.parametrize("row", WARNINGS, ids=lambda row: row.name)
def test_what_is_seldom_meant_is_a_warning(row: Row, tmp_path: Path):
    found = check(tmp_path, TYPES + row.text)

    assert errors(found) == []
    assert warnings(found) == row.expected


def test_ten_thousand_queues_are_enough(tmp_path: Path):
    names = "".join(f"  q{number}: {{accepts: [placed, paid]}}\n" for number in range(MAX_QUEUES + 1))

    assert errors(check(tmp_path, TYPES + "queues:\n" + names)) == [("LMQ411", "queues", "queues")]


def test_a_thousand_subscribers_are_enough(tmp_path: Path):
    numbers = range(MAX_SUBSCRIBERS + 1)
    queues = "".join(f"  q{number}: {{}}\n" for number in numbers)
    targets = "".join(f"      q{number}: {{}}\n" for number in numbers)
    text = f"{HEADER}queues:\n{queues}routes:\n  r:\n    type: fanout\n    to:\n{targets}"

    assert errors(check(tmp_path, text)) == [("LMQ412", "routes.r.to", "to")]


def test_queues_without_any_handler_in_the_file_are_consumed_elsewhere(tmp_path: Path):
    text = "queues: {a: {accepts: [placed, paid]}}\nroutes: {r: {type: fanout, to: {a: {}}}}"

    assert check(tmp_path, TYPES + text) == []


def test_strict_asks_for_a_ttl_and_for_messages_that_fit_their_route(tmp_path: Path):
    names = [f"q{number}" for number in range(5)]
    text = (
        f"queues: {{{', '.join(f'{name}: {{accepts: [placed, paid]}}' for name in names)}}}\n"
        f"routes: {{r: {{type: fanout, to: {{{', '.join(f'{name}: {{}}' for name in names)}}}}}}}"
    )

    assert check(tmp_path, TYPES + text) == []
    assert warnings(check(tmp_path, TYPES + text, strict=True)) == [
        *(("LMQ415", f"queues.{name}", name) for name in names),
        ("LMQ413", "routes.r.to", "to"),
    ]


def test_the_closest_name_is_suggested(tmp_path: Path):
    text = "queues: {billing: {accepts: [plced]}}\nroutes: {r: {type: fanout, to: {biling: {}}}}"

    assert [item.suggestion for item in check(tmp_path, TYPES + text) if item.is_error] == [
        "did you mean 'placed'?",
        "did you mean 'billing'?",
    ]


def test_a_circle_is_printed_in_the_direction_messages_take(tmp_path: Path):
    text = """
queues: {a: {}, b: {}}
routes: {r: {type: fanout, to: {a: {}}}}
handlers:
  h: {queue: a, call: "m.n:f", then: b}
  i: {queue: b, call: "m.n:g", then: r}
"""
    messages = [item.message for item in check(tmp_path, HEADER + text) if item.code == "LMQ308"]

    assert messages == ["messages go round until a handler returns None: r -> a -> b -> r"]


def test_every_circle_is_reported(tmp_path: Path):
    text = """
routes:
  a: {type: fanout, to: {b: {}, c: {}}}
  b: {type: fanout, to: {a: {}}}
  c: {type: fanout, to: {c: {}}}
"""
    circles = [
        item.message.partition(": ")[2] for item in check(tmp_path, HEADER + text) if item.code == "LMQ308"
    ]

    assert sorted(circles) == ["a -> b -> a", "c -> c"]


def test_a_long_chain_of_handlers_is_no_circle_and_no_trouble(tmp_path: Path):
    numbers = range(3000)
    queues = "".join(f"  q{number}: {{accepts: [placed]}}\n" for number in numbers)
    handlers = "".join(
        f'  h{number}: {{queue: q{number}, call: "m.n:f", then: q{number + 1}}}\n' for number in numbers[:-1]
    )
    found = check(tmp_path, f"{TYPES}queues:\n{queues}handlers:\n{handlers}")

    assert [item.code for item in found if item.is_error] == []


def test_two_handlers_are_told_about_fanout_and_about_each_other(tmp_path: Path):
    text = """
queues: {a: {}}
handlers:
  one: {queue: a, call: "m.n:f"}
  two: {queue: a, call: "m.n:g"}
"""
    (found,) = [item for item in check(tmp_path, HEADER + text) if item.is_error]

    assert "'one'" in found.message
    assert "(line 6)" in found.message
    assert found.suggestion == "give each handler a queue of its own, and a fanout route to both"


def test_a_match_on_the_type_keeps_others_from_a_queue_that_refuses_them(tmp_path: Path):
    text = """
queues: {a: {accepts: [placed]}, b: {accepts: [placed, paid]}}
routes:
  r: {type: fanout, accepts: [placed, paid], to: {a: {match: {type: placed}}, b: {}}}
  s: {type: fanout, accepts: [placed, paid], to: {a: {match: {type: [placed]}}, b: {}}}
"""
    assert check(tmp_path, TYPES + text) == []


def test_a_value_that_cannot_be_read_starts_no_second_complaint(tmp_path: Path):
    # 10m would be longer than the default 5m, but what was meant is not known.
    text = "queues: {a: {accepts: [placed, paid], retry: {delay: 10m, max_delay: long}}}"

    assert errors(check(tmp_path, TYPES + text)) == [("LMQ402", "queues.a.retry.max_delay", "long")]


def test_an_unset_variable_starts_no_second_complaint(tmp_path: Path):
    text = "queues:\n  a:\n    ttl: ${TTL}\n    delay: 1d\n"

    assert errors(check(tmp_path, HEADER + text)) == [("LMQ114", "queues.a.ttl", "${TTL}")]


def test_a_missing_name_does_not_hide_the_other_mistakes(tmp_path: Path):
    found = errors(check(tmp_path, "leanmq: 1\nqueues: {a: {ttl: 0s}, B: {}}"))

    assert [code for code, _, _ in found] == ["LMQ204", "LMQ404", "LMQ301"]


class TestPasswords:
    def test_a_password_is_never_shown_even_by_another_mistake_on_its_line(self, tmp_path: Path):
        text = "broker: {url: 'redis://:hunter2@host', durabilty: memory}"
        found = check(tmp_path, HEADER + text)

        assert [item.code for item in found] == ["LMQ419", "LMQ203"]
        assert not any("hunter2" in repr(item) for item in found)
        assert [item[2] for item in map(shorten, found)] == ["'redis://:***@host'", "durabilty"]

    def test_a_password_from_the_environment_is_fine_and_never_shown(self, tmp_path: Path):
        text = "broker:\n  url: ${URL}\n"

        assert check(tmp_path, HEADER + text, environ={"URL": "redis://:hunter2@host"}) == []
        found = check(tmp_path, HEADER + text, environ={"URL": "reddis://:hunter2@host"})
        assert [item.code for item in found] == ["LMQ418"]
        assert "hunter2" not in repr(found)

    def test_a_masked_password_is_none(self, tmp_path: Path):
        assert check(tmp_path, HEADER + "broker: {url: 'redis://:***@host'}") == []

    def test_a_secret_belongs_into_the_address_only(self, tmp_path: Path):
        files = {"secrets/word": "hunter2\n"}
        text = """
broker:
  url: redis://:${file:secrets/word}@host
queues:
  a: {retry: {never: ["${file:secrets/word}"]}}
"""
        found = check(tmp_path, HEADER + text, files=files)

        assert errors(found) == [("LMQ420", "queues.a.retry.never[0]", '"${file:secrets/word}"')]
        assert "hunter2" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "embedded:",
        "embedded:?ephemeral=1",
        "redis://host",
        "rediss://user:@host:6380/3?ssl_cert_reqs=none",
        "valkey://host:6379/0",
        "valkeys://host",
        "unix:///run/valkey.sock?db=1",
        "redis+sentinel://one:26379,two:26379/service/0",
        "redis+cluster://host:7000",
        "redis://[::1]:6379",
    ],
)
def test_an_address_of_a_known_form_is_accepted_without_asking_anybody(url: str, tmp_path: Path):
    assert errors(check(tmp_path, HEADER + f"broker: {{url: '{url}'}}")) == []
