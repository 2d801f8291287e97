"""A broker for the lab's hosts, on a machine of its own that is cabled to each of them."""

import json
import secrets
from pathlib import Path

from tests.broker import VHOST, Broker
from tests.bus.permissions import ADMIN, ADMIN_HOST, ADMIN_VHOST, HOST, READER, read_permissions
from tests.lab.namespaces import Namespaces

ADDRESS = "10.77.0.100"

# A lab host's own, and gone after the test: the rest of /var is the machine's.
BUS_DIRECTORY = "/run/sidecar/bus"


class LabBroker:
    """The broker's machine, with RabbitMQ on it and the users of docs/bus.md; guests have no way there.

    Attributes:
        inside: its namespaces.
        node: RabbitMQ, listening on the lab's network, also over TLS.
    """

    def __init__(self, directory: Path) -> None:
        self.inside = Namespaces("broker", [])
        self.node = Broker(directory, ADDRESS, self.inside, tls=True)
        self._has_vhosts = False

    def start(self) -> None:
        """Namespaces and RabbitMQ; the cables are laid by the lab."""
        self.inside.start()
        # To listen there before the first cable is laid.
        self.inside.run(["ip", "address", "add", ADDRESS, "dev", "lo"])
        self.node.start()
        self.node.remove_vhost(VHOST)
        for user in read_permissions():
            self.node.add_user(user, secrets.token_hex(8), "", "", "", vhost=None)

    def stop(self) -> None:
        """Ends everything on it, at once."""
        self.inside.stop()

    def clean(self) -> None:
        """Has RabbitMQ run, and takes away every queue and whoever is connected."""
        if self.node.pid is None:
            self.node.start()
        self.node.resume()
        for vhost in (VHOST, ADMIN_VHOST):
            if self._has_vhosts:
                self.node.remove_vhost(vhost)
            self.node.add_vhost(vhost)
        self._has_vhosts = True
        for user, (vhost, permissions) in read_permissions().items():
            self.node.allow(user, permissions, vhost)

    def url(self, user: str, *, tls: bool = False) -> str:
        """The transport URL of a user of the document's."""
        return self.node.url(user, read_permissions()[user][0], tls=tls)

    def host_section(self, *, admin: bool = False, tls: bool = False) -> str:
        """``[bus]`` of a host's configuration."""
        values: dict[str, object] = {"url": self.url(HOST, tls=tls), "directory": BUS_DIRECTORY}
        if admin:
            values |= {"admin": True, "admin_url": self.url(ADMIN_HOST, tls=tls)}
        return _render(values) + (self._render_tls() if tls else "")

    def client_section(self) -> str:
        """``[bus]`` of a file for ``sidecarctl --bus``, of somebody who may do everything."""
        return _render({"url": self.url(READER), "admin_url": self.url(ADMIN)})

    def _render_tls(self) -> str:
        certificates = self.node.certificates
        assert certificates is not None
        return f"[bus.oslo_messaging_rabbit]\nssl = true\nssl_ca_file = {json.dumps(str(certificates.ca))}\n"


def _render(values: dict[str, object]) -> str:
    return "[bus]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
