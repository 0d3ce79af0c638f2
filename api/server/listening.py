"""Bind the listening sockets once, in the supervisor; every worker inherits them.

They listen as soon as the first worker does, which is when it can answer. Until then a client is
refused, and a gateway goes to the next host at once, instead of waiting for an answer.
"""

import errno
import os
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

_EVERY_IPV4 = "0.0.0.0"  # noqa: S104 - what an operator may ask for
_EVERY_IPV6 = "::"
UNSENT_BYTES = 128 * 1024
"""What the kernel takes of an answer that has not left yet;
by default up to 4 MB, of each slow reader.
"""
TAKEN_IN_WITHIN_S: Final = 0.05
"""Who has connected when nobody may any more. Workers with much to do took 2 to 20 ms."""
_LOOKED_EVERY_S: Final = 0.0002
_UNACKED: Final = slice(24, 28)
"""Of `struct tcp_info`, linux/tcp.h; of a socket that listens: how many wait to be accepted."""


class ListenError(Exception):
    """The address cannot be served; the text says why, for an operator."""


def listen_on(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """A socket to listen on for each host, all on one port; 0 takes a free one.

    Raises ListenError.
    """
    listeners: list[socket.socket] = []
    with ExitStack() as opened:
        for host in dict.fromkeys(hosts):
            # Beside a socket for every IPv4 address, the one for IPv6 must not claim them too.
            listener = bind(host, port, is_alone=_EVERY_IPV4 not in hosts)
            listeners.append(opened.enter_context(listener))
            port = listener.getsockname()[1]
        opened.pop_all()
    return listeners


def bind(host: str, port: int, *, is_alone: bool = True) -> socket.socket:
    """Return an inheritable socket to listen on, IPv4 or IPv6 as the host asks;
    port 0 takes a free one.

    `::` means every address of both families where the system has it so (net.ipv6.bindv6only is 0,
    as by default), unless it is not alone. Raises ListenError.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        is_dual = (
            family == socket.AF_INET6
            and address[0] == _EVERY_IPV6
            and is_alone
            and _is_dual_stack()
        )
        listener = _bound(family, address, is_dual=is_dual)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ListenError(
                f"port {port} on {host} is in use: end what listens there, or name another (--port)"
            ) from error
        if error.errno == errno.EACCES:
            raise ListenError(
                f"this user may not listen on port {port} of {host}: name one from 1024 on (--port)"
            ) from error
        # Of a socket, Python adds to the system's words what it was doing.
        is_named = isinstance(error, socket.gaierror) or error.errno is None
        reason = error.strerror if is_named else os.strerror(error.errno or 0)
        raise ListenError(f"cannot listen on port {port} of {host}: {reason}") from error
    listener.set_inheritable(True)
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    return listener


def is_listening(listener: socket.socket) -> bool:
    """Whether a worker accepts from it, or did: one that is replaced leaves it as it is."""
    return bool(listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def refuse(listener: socket.socket) -> None:
    """Let nobody connect any more, once the workers have taken in who has; in 50 ms at most.

    Of the socket itself, whoever else has a descriptor of it. A connection that is not accepted by
    then is reset, with the request that was sent on it.
    """
    until = time.monotonic() + TAKEN_IN_WITHIN_S
    with suppress(OSError):  # not every system can
        while _has_waiting(listener) and time.monotonic() < until:
            time.sleep(_LOOKED_EVERY_S)
        listener.shutdown(socket.SHUT_RDWR)


def _has_waiting(listener: socket.socket) -> bool:
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _UNACKED.stop)
    return int.from_bytes(info[_UNACKED], sys.byteorder) > 0


def url_of(listener: socket.socket) -> str:
    """Where a client finds it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bound(family: int, address: Any, *, is_dual: bool) -> socket.socket:
    """As `socket.create_server` makes it, but for listening."""
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not is_dual))
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def _is_dual_stack() -> bool:
    """Whether the system lets a socket of IPv6 take IPv4 too, if nobody says otherwise."""
    with socket.socket(socket.AF_INET6) as any_socket:
        return socket.has_dualstack_ipv6() and not any_socket.getsockopt(
            socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
        )
