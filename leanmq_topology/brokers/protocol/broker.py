"""Everything a topology needs of a server."""

from __future__ import annotations

from typing import Protocol

from leanmq_topology.brokers.protocol.adopting import Adopter
from leanmq_topology.brokers.protocol.applying import Applier
from leanmq_topology.brokers.protocol.broadcasting import Broadcaster
from leanmq_topology.brokers.protocol.looking import Browser, Inspector, Roster
from leanmq_topology.brokers.protocol.operating import Operator
from leanmq_topology.brokers.protocol.pairing import ByHand, PairKeeper
from leanmq_topology.brokers.protocol.receiving import Receiver
from leanmq_topology.brokers.protocol.requesting import Correspondent
from leanmq_topology.brokers.protocol.searching import Searcher
from leanmq_topology.brokers.protocol.sending import DurableSender, Sender
from leanmq_topology.brokers.protocol.settling import Settler
from leanmq_topology.brokers.protocol.upkeep import Examiner, Maintainer


class Broker(
    Sender,
    DurableSender,
    Broadcaster,
    Receiver,
    Correspondent,
    Settler,
    Maintainer,
    Examiner,
    Inspector,
    Browser,
    Searcher,
    Roster,
    Operator,
    PairKeeper,
    ByHand,
    Adopter,
    Applier,
    Protocol,
):
    """Everything a topology needs of a server."""
