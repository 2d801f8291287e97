"""Negotiates the guest-agent API version of libvirt guests anew on every arrival.

The package has three rings (docs/architecture.md): ``protocol`` and ``record`` are pure, ``engine`` is the
asyncio part that owns domains, and ``adapters`` and ``cli`` are the edges.
"""

__version__ = "0.1.0"
