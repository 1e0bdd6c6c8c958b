"""The published schema, and what is said about files that do not fit it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from leanmq_topology.document.json_schema import FORMAT, check_shape, topology_schema
from leanmq_topology.topology import sections
from leanmq_topology.topology.model import FORMAT as MODEL_FORMAT
from leanmq_topology.topology.sections import Fields, Section
from tests.unit.document.files import HEADER, find_mistakes, place, read, write

EXAMPLE = """\
leanmq: 1                          # format version; an unknown one is refused
name: shop                         # who owns what this file declares
broker:
  url: ${LEANMQ_URL:-embedded:}
  namespace: shop                  # default: name
  durability: memory               # memory | disk | replicated:N | replicated_disk:N
defaults:
  queue:   {ttl: 7d}
  handler: {concurrency: 4}
messages:
  order.placed:
    version: 1
    schema: schemas/order_placed.schema.json   # a path, relative to this file, or the schema itself
    compatibility: backward
    examples: [{order_id: A-1, total: 99.5, notify: true}]
  quote.asked: {schema: {type: object, required: [sku], properties: {sku: {type: string}}}}
  quote.given: {schema: {type: object, required: [price], properties: {price: {type: number}}}}
queues:
  billing:
    accepts: [order.placed]        # message types; left out: any JSON object, with a warning
    ttl: 1d
    max_deliveries: 5
    retry: {backoff: exponential, delay: 1s, max_delay: 5m, jitter: full, never: [ValueError]}
    visibility_timeout: 30s
    dead_letter: {ttl: 14d, max_length: 10000, alert_at: 1}
    lifecycle: {prevent_delete: true}
  emails: {accepts: [order.placed], max_length: 100000, overflow: reject, deduplication: {window: 10m, key: /order_id}}
  quotes: {accepts: [quote.asked]}
  audit-log: {keep_acked: 30d}
routes:
  order-events:
    type: fanout                   # every target gets its own durable copy, retries and dead letters
    accepts: [order.placed]
    to:
      billing: {}
      emails: {match: {data.notify: true, data.total: {minimum: 50}}}
  get-quote: {type: request, request: quote.asked, reply: quote.given, queue: quotes, timeout: 5s}
  audit:     {type: topic, to: {audit-log: {topics: ["user.*", "*.critical"]}}}
  ticker:    {type: ephemeral}     # Redis Pub/Sub: at most once, nothing stored
handlers:
  charge: {queue: billing, call: "shop.billing:charge", concurrency: 8, timeout: 2m}
  bulk:   {queue: emails, call: "shop.mail:send_all", batch: {size: 100, wait: 50ms}, on_false: retry}
  quote:  {queue: quotes, call: "shop.quotes:quote"}
  keep:   {queue: audit-log, call: "shop.audit:keep"}
lifespan: "shop.resources:open"
middleware: ["shop.tracing:Trace"]
moved: {queues.mail: queues.emails}
environments: {prod: {broker: {durability: replicated:1}}}   # chosen with --env
"""  # noqa: E501 - as the reference prints it


def test_whole_language_in_one_example_has_nothing_wrong(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE)
    assert find_mistakes(path) == []
    assert find_mistakes(path, environment="prod") == []


def test_editor_finds_nothing_wrong_with_the_example_as_it_is_written() -> None:
    Draft7Validator.check_schema(topology_schema())
    assert list(Draft7Validator(topology_schema()).iter_errors(yaml.safe_load(EXAMPLE))) == []


@pytest.mark.parametrize(
    "text",
    [
        "queues: {a: {max_length: '${N}', overflow: '${O:-reject}', ttl: '${T}'}}",
        "queues: {a: {lifecycle: {prevent_delete: '${P:-true}'}, keep_acked: '${K}'}}",
        "handlers: {a: {queue: '${Q}', call: '${C}', prefetch: '${P}', concurrency: '${N}'}}",
        "x-a: 1\nqueues: {a: {x-b: 1, retry: {x-c: 1}}}",
    ],
)
def test_editor_accepts_variables_and_extensions_everywhere(text: str) -> None:
    values = yaml.safe_load(HEADER + text)
    assert list(Draft7Validator(topology_schema()).iter_errors(values)) == []


@pytest.mark.parametrize(
    "text",
    [
        "queues: {Billing: {}}",
        "queues: {a: {ttl: 10 minutes}}",
        "queues: {a: {ttl: 10}}",
        "queues: {a: {max_message_size: 1.5MiB}}",
        "queues: {a: {tll: 1d}}",
        "queues: {a: {max_deliveries: 1001}}",
        "handlers: {a: {queue: b, call: os.system}}",
        "routes: {a: {type: fanout}}",
        "routes: {a: {type: ephemeral, to: {b: {}}}}",
        "broker: {durability: replicated}",
    ],
)
def test_editor_marks_what_is_wrong(text: str) -> None:
    values = yaml.safe_load(HEADER + text)
    assert list(Draft7Validator(topology_schema()).iter_errors(values))


def test_every_key_is_described_in_full_sentences() -> None:
    for path, key in _walk_keys(topology_schema(), ()):
        description = key.get("description", "")
        assert description.endswith("."), path
        assert len(description) > 12, path
        assert description[0].isupper() or description[0] == "`", path


def test_every_mapping_refuses_unknown_keys_and_leaves_extensions_free() -> None:
    schema = topology_schema()
    closed = [schema, *(item for item in schema["definitions"].values() if "properties" in item)]
    for item in closed:
        if "allOf" in item:  # a route's keys are closed by its type
            continue
        assert item["additionalProperties"] is False
        assert "^x-" in item["patternProperties"]


@pytest.mark.parametrize(
    ("definition", "fields"),
    [
        ("queue", sections.QUEUE),
        ("handler_fields", sections.HANDLER),
        ("broker", sections.BROKER),
        ("retry", sections.RETRY),
        ("dead_letter", sections.DEAD_LETTER),
        ("deduplication", sections.DEDUPLICATION),
        ("lifecycle", sections.LIFECYCLE),
        ("batch", sections.BATCH),
        ("topic_target", sections.TARGET),
    ],
)
def test_schema_knows_the_keys_that_are_read_and_no_others(definition: str, fields: Fields) -> None:
    declared = topology_schema()["definitions"][definition]["properties"]
    assert set(declared) == set(fields)
    for key, field in fields.items():
        if isinstance(field, Section):
            assert set(topology_schema()["definitions"][key]["properties"]) == set(field.fields)


def test_format_is_the_one_of_the_model() -> None:
    assert topology_schema()["properties"]["leanmq"]["enum"] == [FORMAT] == [MODEL_FORMAT]


def test_schema_is_a_fresh_copy_each_time() -> None:
    topology_schema()["properties"].clear()
    assert "queues" in topology_schema()["properties"]


def test_valid_file_does_not_import_the_explaining_engine(tmp_path: Path) -> None:
    path = write(tmp_path, EXAMPLE)
    program = (
        "import sys\n"
        "from leanmq_topology.document.loading import read_document\n"
        "from leanmq_topology.document.json_schema import check_shape\n"
        "document, found = read_document([sys.argv[1]], environ={})\n"
        "assert not found and not check_shape(document)\n"
        "print('jsonschema' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("text", "where", "words", "hint"),
    [
        ("brokr: {}", ("LMQ203", 3, 1), "unknown key 'brokr'", "did you mean 'broker'?"),
        ("queues: {a: {dlq: {}}}", ("LMQ203", 3, 14), "'dlq' in queues.a", "did you mean 'dead_letter'?"),
        ("queues: {a: {max-length: 1}}", ("LMQ203", 3, 14), "max-length", "did you mean 'max_length'?"),
        ("queues: {a: {qqq: 1}}", ("LMQ203", 3, 14), "qqq", "allowed here: accepts, ttl"),
        (
            "routes: {a: {type: fanout, to: {b: {}}, timeout: 5s}}",
            ("LMQ203", 3, 41),
            "unknown key 'timeout' in a route of type fanout",
            "allowed here: accepts",
        ),
        ("messages: {a: {}}", ("LMQ204", 3, 12), "messages.a needs the key 'schema'", "add schema: "),
        ("routes: {a: {}}", ("LMQ204", 3, 10), "routes.a needs the key 'type'", "fanout, topic"),
        ("routes: {a: {type: fanuot}}", ("LMQ206", 3, 20), "not 'fanuot'", "did you mean 'fanout'?"),
        ("routes: {a: {type: topic, to: {b: {}}}}", ("LMQ204", 3, 32), "needs the key 'topics'", "topics"),
        ("routes: {a: {type: fanout, to: {}}}", ("LMQ208", 3, 32), "to must not be empty", None),
        ("queues: {a: }", ("LMQ205", 3, 10), "a must be a mapping, not empty", "write a: {}"),
        ("queues: []", ("LMQ205", 3, 9), "queues must be a mapping, not a list", None),
        ("queues: {a: {accepts: b}}", ("LMQ205", 3, 23), "must be a list, not a string", "write [b]"),
        ("queues: {a: {accepts: [1]}}", ("LMQ205", 3, 24), "accepts[0] must be a string", "in quotes"),
        ("queues: {a: {accepts: [b, b]}}", ("LMQ208", 3, 23), "lists something twice", "once"),
        ("queues: {a: {ttl: 10}}", ("LMQ205", 3, 19), "a duration such as 30s or 7d, or none", "write 10s"),
        ("queues: {a: {delay: 10}}", ("LMQ205", 3, 21), "such as 30s or 7d, not a number", "write 10s"),
        ("queues: {a: {max_message_size: 9}}", ("LMQ205", 3, 32), "a size such as 64KiB", "write 9B"),
        ("queues: {a: {max_length: 1.5}}", ("LMQ205", 3, 26), "a whole number, not 1.5", None),
        ("queues: {a: {max_length: '5'}}", ("LMQ205", 3, 26), "not a string", "remove the quotes"),
        ("queues: {a: {max_length: true}}", ("LMQ205", 3, 26), "a whole number, not true", None),
        ("queues: {a: {max_deliveries: 0}}", ("LMQ207", 3, 30), "from 1 to 1,000, not 0", "write 1"),
        ("queues: {a: {max_crashes: 999}}", ("LMQ207", 3, 27), "from 1 to 100, not 999", "write 100"),
        ("queues: {a: {keep_acked: 0}}", ("LMQ207", 3, 26), "must be 1 or more, not 0", "write 1"),
        ("queues: {a: {keep_acked: [1]}}", ("LMQ205", 3, 26), "a whole number or a duration", None),
        (
            "queues: {a: {overflow: drop-oldest}}",
            ("LMQ206", 3, 24),
            "overflow must be one of",
            "'drop_oldest'",
        ),
        ("queues: {a: {lifecycle: {prevent_delete: yes}}}", ("LMQ205", 3, 42), "true or false", "write true"),
        ("queues: {a: {deduplication: {}}}", ("LMQ204", 3, 14), "needs the key 'window'", "window: 10m"),
        ("handlers: {a: {queue: b}}", ("LMQ204", 3, 12), "handlers.a needs the key 'call'", "package.module"),
        (
            "handlers: {a: {queue: b, call: c, prefetch: x}}",
            ("LMQ205", 3, 45),
            "a whole number or auto",
            None,
        ),
        ("messages: {a: {schema: 4}}", ("LMQ205", 3, 24), "must be a path or a JSON Schema", None),
        ("defaults: {queue: {tll: 1d}}", ("LMQ203", 3, 20), "in defaults.queue", "did you mean 'ttl'?"),
        ("environments: {p: 3}", ("LMQ205", 3, 19), "p must be a mapping, not a number", None),
        ("environments: [a]", ("LMQ205", 3, 15), "environments must be a mapping", None),
        ("environments: {p: {queues: {a: {ttl: 4}}}}", ("LMQ205", 3, 38), "a duration", "write 4s"),
    ],
)
def test_violation_is_said_once_in_plain_words_at_its_place(
    text: str, where: object, words: str, hint: str | None, tmp_path: Path
) -> None:
    (found,) = find_mistakes(write(tmp_path, HEADER + text + "\n"))
    assert place(found) == where
    assert words in found.message
    assert (found.suggestion is None) if hint is None else (hint in (found.suggestion or ""))
    assert not re.search(r"\{'|\$ref|schema_path|is not valid under", found.message)


def test_one_typo_among_many_queues_is_explained_alone(tmp_path: Path) -> None:
    queues = "".join(f"  q{n}: {{ttl: 1d, retry: {{delay: 1s}}}}\n" for n in range(2000))
    path = write(tmp_path, HEADER + "queues:\n" + queues + "  last: {tll: 1d}\n")
    document = read(path)
    (found,) = check_shape(document)
    assert place(found) == ("LMQ203", 2004, 10)


def _walk_keys(
    schema: dict[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    for keyword in ("properties", "definitions"):
        for name, item in schema.get(keyword, {}).items():
            yield (*path, name), item
            yield from _walk_keys(item, (*path, name))
