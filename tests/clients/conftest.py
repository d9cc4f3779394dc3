"""Makes every name under localhost and example.com lead to this machine, as DNS does for the page's readers.

So clients are given real URLs and send real Host headers, and none needs a transport of its own.
"""

import socket

_getaddrinfo = socket.getaddrinfo


def _resolve(host, *args, **kwargs):
    name = host.decode() if isinstance(host, bytes) else host
    if name and name.endswith((".localhost", ".example.com")):
        host = "127.0.0.1"
    return _getaddrinfo(host, *args, **kwargs)


socket.getaddrinfo = _resolve
