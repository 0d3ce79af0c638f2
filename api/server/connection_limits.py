"""Limit a worker's connections, and choose which idle one to close when all slots are taken.

One client must not take what others need: 2,100 connections, kept and not used, shut everybody out.
So a newcomer gets the slot of a connection that waits for nothing of ours: the longest idle one of
the peer that has the most. Whoever floods is that peer before long, and then displaces only itself.
RFC 9112 §9.3 lets a server close an idle connection at any time; clients that keep connections ask
again on another.

A connection that is being served never gives way. An eighth of the slots is out of reach for any
one peer, so that others are served even while one keeps all that it can get busy. That goes for a
gateway too, whose clients all come from its one address: a rule without exceptions needs no list of
who is trusted.
"""

from typing import Final, Protocol
from weakref import WeakKeyDictionary

from api.doors.client_address import site_of
from api.process import connections_allowed

TURNED_AWAY_AT_ONCE: Final = 32
"""Peers without a slot that are given the time to read so."""


class Guest(Protocol):
    """A connection that has a slot."""

    def give_way(self) -> None:
        """End now, and leave the slot; nothing is under way."""


class _Peer:
    __slots__ = ("connections", "idle", "site")

    def __init__(self, site: str) -> None:
        self.site = site
        self.connections = 0
        self.idle: dict[Guest, None] = {}  # in the order in which they fell idle


class ConnectionSlot:
    """What a guest has until it leaves; idle at first."""

    __slots__ = ("_guest", "_is_left", "_peer", "_slots")

    def __init__(self, slots: "ConnectionSlots", peer: _Peer, guest: Guest) -> None:
        self._slots = slots
        self._peer = peer
        self._guest = guest
        self._is_left = False
        peer.idle[guest] = None

    def busy(self) -> None:
        """The guest is being served."""
        self._peer.idle.pop(self._guest, None)

    def idle(self) -> None:
        """It is not."""
        if not self._is_left:
            self._peer.idle[self._guest] = None

    def leave(self) -> None:
        """Give the slot back; a second time is nothing."""
        if not self._is_left:
            self._is_left = True
            self.busy()
            self._slots.give_back(self._peer)


class ConnectionSlots:
    """limit: how many there are. turned_away: those that found none and have not left yet."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._limit_of_one = limit - limit // 8
        self._taken = 0
        self._peers: dict[str, _Peer] = {}
        self.turned_away: set[Guest] = set()

    def take(self, guest: Guest, address: str) -> ConnectionSlot | None:
        """A slot for a connection from this address;
        None when they are taken and nobody can give way.
        """
        peer = self._peers.get(site := site_of(address)) or _Peer(site)
        if peer.connections >= self._limit_of_one:
            _displace(peer)
        elif self._taken >= self.limit:
            _displace(max(self._peers.values(), key=_rank))
        if peer.connections >= self._limit_of_one or self._taken >= self.limit:
            return None
        self._peers[site] = peer
        self._taken += 1
        peer.connections += 1
        return ConnectionSlot(self, peer, guest)

    def give_back(self, peer: _Peer) -> None:
        """One slot of this peer is free again."""
        self._taken -= 1
        peer.connections -= 1
        if not peer.connections:
            del self._peers[peer.site]


def _rank(peer: _Peer) -> int:
    return peer.connections if peer.idle else 0


def _displace(peer: _Peer) -> None:
    for guest in peer.idle:
        guest.give_way()
        return


_slots: WeakKeyDictionary[object, ConnectionSlots] = WeakKeyDictionary()


def slots_of(worker: object, *, most: int) -> ConnectionSlots:
    """The slots of one worker of this process: `most`, or what its descriptors allow."""
    found = _slots.get(worker)
    if found is None:
        found = _slots[worker] = ConnectionSlots(min(most, connections_allowed()))
    return found
