"""What a RabbitMQ node of the tests' own reads and writes: files below one directory, and nothing of the machine's."""

import secrets
from dataclasses import dataclass
from pathlib import Path

from tests.certificates import Certificates

LOOPBACK = "127.0.0.1"

# One core's worth, and nobody but this machine may speak Erlang to it.
_ERLANG_ARGUMENTS = "+S 1:1 -start_epmd false -kernel inet_dist_use_interface {127,0,0,1}"

_CONFIGURATION = """\
listeners.tcp.1 = {address}:{port}
loopback_users = none
default_vhost = {vhost}
default_user = {operator}
default_pass = {password}
log.console = true
log.console.level = info
log.file = false
disk_free_limit.absolute = 1MB
vm_memory_high_watermark.absolute = 2GB
"""

_TLS_CONFIGURATION = """\
listeners.ssl.1 = {address}:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_none
ssl_options.fail_if_no_peer_cert = false
"""


@dataclass(frozen=True, slots=True)
class Ports:
    """All that a node listens on; ``epmd`` and ``erlang`` on loopback only."""

    amqp: int
    tls: int
    epmd: int
    erlang: int


@dataclass(frozen=True, slots=True)
class Account:
    """The user that a fresh node has, and its vhost."""

    user: str
    password: str
    vhost: str


class BrokerHome:
    """The directory of one node."""

    def __init__(self, directory: Path, node: str, ports: Ports) -> None:
        self._directory, self._node, self._ports = directory, node, ports

    def lay_out(self, address: str, account: Account, tls: Certificates | None) -> None:
        """Write the configuration; AMQP listens at ``address``, and over TLS with a certificate."""
        home = self._directory / "home"
        home.mkdir(parents=True)
        cookie = home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        (self._directory / "rabbitmq-env.conf").touch()
        (self._directory / "enabled_plugins").write_text("[].\n")
        text = _CONFIGURATION.format(
            address=address,
            port=self._ports.amqp,
            vhost=account.vhost,
            operator=account.user,
            password=account.password,
        )
        if tls is not None:
            text += _TLS_CONFIGURATION.format(
                address=address, port=self._ports.tls, ca=tls.ca, certificate=tls.certificate, key=tls.key
            )
        (self._directory / "rabbitmq.conf").write_text(text)

    def environment(self) -> dict[str, str]:
        """Of every program of the node's, so that none looks elsewhere."""
        directory = self._directory
        return {
            "HOME": str(directory / "home"),
            "ERL_EPMD_PORT": str(self._ports.epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_CRASH_DUMP": "/dev/null",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_CONF_ENV_FILE": str(directory / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "advanced.config"),
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_QUORUM_DIR": str(directory / "quorum"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_PLUGINS_EXPAND_DIR": str(directory / "plugins"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(directory / "feature_flags"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "config"),
            "RABBITMQ_SCHEMA_DIR": str(directory / "schema"),
            "RABBITMQ_PID_FILE": str(directory / "pid"),
            "RABBITMQ_DIST_PORT": str(self._ports.erlang),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _ERLANG_ARGUMENTS,
            # The script becomes the node then, instead of staying in front of it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }
