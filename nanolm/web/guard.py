"""Which requests a page's server answers: those of its own page, and of no other site.

In: the headers Host and Origin. Out: whether. Knows no server.
"""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name: of whatever machine
        return False


def is_own_page(host: str | None, origin: str | None, loopback: bool = True) -> bool:
    """Whether a request was sent by the page itself, or by a program.

    loopback: the host has to be this machine's own: a name that another site was given for this address (DNS rebinding)
    is refused. The port may be another one, of a tunnel.
    """
    try:
        name = urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return False
    return (is_loopback(name) or not loopback) and origin in (None, f"http://{host}", f"https://{host}")
