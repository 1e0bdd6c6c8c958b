"""The seam between this package and a server.

A broker operation is a value: it says what to do and how to read the answer. Two thin connections, one
blocking and one asyncio, carry such values out, so no delivery rule is written twice. What a broker can do
stands in small role protocols; what it cannot do is declared in `Capabilities` and never degrades silently.
"""

from __future__ import annotations

from leanmq_topology.brokers.protocol.adopting import Adopter, Moved, OldEntry
from leanmq_topology.brokers.protocol.applying import (
    Applier,
    ApplyLock,
    LockHeld,
    LockLost,
    NotEmpty,
    OwnedByAnother,
    Written,
)
from leanmq_topology.brokers.protocol.broadcasting import (
    LOOK_CALL,
    AsyncListener,
    BlockingListener,
    Broadcaster,
    Hear,
    Heard,
    Publication,
)
from leanmq_topology.brokers.protocol.broker import Broker
from leanmq_topology.brokers.protocol.looking import (
    Browser,
    DeadEntry,
    Inspector,
    MessagePlace,
    OverdueStretch,
    Roster,
    WaitingEntry,
    WorkerState,
)
from leanmq_topology.brokers.protocol.operating import NoRoom, Operator, Purge, Replayed, Revival, Undone
from leanmq_topology.brokers.protocol.operation import (
    AsyncConnection,
    BlockingConnection,
    Operation,
    PipelinedConnection,
    Told,
    carry_out_all,
    tell,
)
from leanmq_topology.brokers.protocol.pairing import ByHand, Declared, Expired, Pair, PairKeeper
from leanmq_topology.brokers.protocol.receiving import Part, Receiver
from leanmq_topology.brokers.protocol.requesting import Arrived, Correspondent, Reply
from leanmq_topology.brokers.protocol.searching import SearchedStretch, Searcher, Shelf
from leanmq_topology.brokers.protocol.sending import (
    Duplicate,
    DurableSender,
    Flush,
    Full,
    Sender,
    SendResult,
    Stale,
    Stored,
    Unconfirmed,
)
from leanmq_topology.brokers.protocol.settling import (
    Dying,
    HandedBack,
    OutputsSent,
    Retrying,
    Settler,
)
from leanmq_topology.brokers.protocol.upkeep import Examiner, Maintainer, QueueHealth, Stretch, Swept, Upkeep
from leanmq_topology.plan.live_state import AppliedRecord, Damage, QueueState

__all__ = [
    "LOOK_CALL",
    "Adopter",
    "AppliedRecord",
    "Applier",
    "ApplyLock",
    "Arrived",
    "AsyncConnection",
    "AsyncListener",
    "BlockingConnection",
    "BlockingListener",
    "Broadcaster",
    "Broker",
    "Browser",
    "ByHand",
    "Correspondent",
    "Damage",
    "DeadEntry",
    "Declared",
    "Duplicate",
    "DurableSender",
    "Dying",
    "Examiner",
    "Expired",
    "Flush",
    "Full",
    "HandedBack",
    "Hear",
    "Heard",
    "Inspector",
    "LockHeld",
    "LockLost",
    "Maintainer",
    "MessagePlace",
    "Moved",
    "NoRoom",
    "NotEmpty",
    "OldEntry",
    "Operation",
    "Operator",
    "OutputsSent",
    "OverdueStretch",
    "OwnedByAnother",
    "Pair",
    "PairKeeper",
    "Part",
    "PipelinedConnection",
    "Publication",
    "Purge",
    "QueueHealth",
    "QueueState",
    "Receiver",
    "Replayed",
    "Reply",
    "Retrying",
    "Revival",
    "Roster",
    "SearchedStretch",
    "Searcher",
    "SendResult",
    "Sender",
    "Settler",
    "Shelf",
    "Stale",
    "Stored",
    "Stretch",
    "Swept",
    "Told",
    "Unconfirmed",
    "Undone",
    "Upkeep",
    "WaitingEntry",
    "WorkerState",
    "Written",
    "carry_out_all",
    "tell",
]
