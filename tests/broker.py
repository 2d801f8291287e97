"""A RabbitMQ node of the tests' own: real, with nothing of the machine's, and gone without a trace afterwards.

Several may run at once. Every port is the node's own, and on loopback but for AMQP, which listens where it is told to.
"""

import random
import re
import secrets
import shutil
import socket
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

from tests.broker_home import LOOPBACK, Account, BrokerHome, Ports
from tests.certificates import Certificates, make_certificates
from tests.lab.waiting import wait_for
from tests.places import Here, Place, Process

# The wrapper in /usr/sbin changes to the user rabbitmq, whom a lab host and a private directory do not know.
SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
CONTROL = "/usr/lib/rabbitmq/bin/rabbitmqctl"
PROGRAMS = (SERVER, "/usr/bin/epmd", "/usr/bin/erl_call", "/usr/bin/setpriv", "/usr/bin/openssl")
VHOST = "sidecar"
OPERATOR = "operator"

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 20.0
CALL_TIMEOUT_S = 20.0
STARTED = b"Server startup complete"

# Below what the kernel gives to outgoing connections: a node that starts again finds its ports as it left them.
PORTS = range(20000, 32000)


def reason_against() -> str | None:
    """Why no broker can run on this machine, or ``None``."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed (contrib/setup): {' '.join(missing)}" if missing else None


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a user may do in a vhost: RabbitMQ's three regular expressions, unanchored as RabbitMQ takes them."""

    configure: str
    write: str
    read: str


ALL = Permissions(".*", ".*", ".*")


class Broker:
    """One node.

    Attributes:
        address: where AMQP listens.
        port: of AMQP.
        tls_port: of AMQP over TLS; nothing listens there without ``tls``.
        node: its Erlang name.
        certificates: with ``tls``, its CA (``certificates.ca`` is for the clients) and its own.
    """

    def __init__(
        self, directory: Path, address: str = LOOPBACK, place: Place | None = None, *, tls: bool = False
    ) -> None:
        self.address = address
        ports = Ports(*_free_ports(4))
        self.port, self.tls_port, self._epmd_port = ports.amqp, ports.tls, ports.epmd
        self.node = f"sidecar-{secrets.token_hex(6)}@localhost"
        self.certificates: Certificates | None = make_certificates(directory / "tls", address) if tls else None
        self._place: Place = place or Here()
        self._server: Process | None = None
        self._epmd: Process | None = None
        self._passwords = {OPERATOR: secrets.token_hex(8)}
        self._log = directory / "broker.log"
        self._home = BrokerHome(directory, self.node, ports)
        account = Account(OPERATOR, self._passwords[OPERATOR], VHOST)
        self._home.lay_out(address, account, self.certificates)

    @property
    def pid(self) -> int | None:
        """The node's process, as the machine sees it; ``None``: it does not run."""
        return self._server.pid if self._server is not None else None

    @property
    def log(self) -> Path:
        """What the node said."""
        return self._log

    def start(self) -> None:
        """Returns when AMQP answers; with the data of the run before.

        Raises:
            RuntimeError: It ended instead; the message holds the end of its log.
        """
        if self._epmd is None or self._epmd.poll() is not None:
            self._epmd = self._popen(["epmd", "-port", str(self._epmd_port), "-address", LOOPBACK])
        begin = self._log.stat().st_size if self._log.exists() else 0
        self._server = self._popen([SERVER])
        wait_for(lambda: self._has_started(begin), START_TIMEOUT_S, "the broker to have started", interval_s=0.05)

    def run(self) -> None:
        """Whatever was done to it: it runs afterwards."""
        if self._server is None:
            self.start()
        else:
            self.resume()

    def stop(self, number: int = SIGTERM) -> None:
        """Ends the node and all that belongs to it."""
        self._end_server(number)
        if self._epmd is not None:
            self._epmd.signal(SIGKILL)
            self._epmd.wait(END_TIMEOUT_S)
            self._epmd = None

    def kill(self) -> None:
        """SIGKILL; ``start`` brings it back with what it had on disk."""
        self._end_server(SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: connections stay, nobody answers."""
        self._signal(SIGSTOP)

    def resume(self) -> None:
        """SIGCONT; no harm where it was not paused."""
        self._signal(SIGCONT)

    def url(self, user: str | None = None, vhost: str = VHOST, *, tls: bool = False) -> str:
        """A transport URL of oslo.messaging's; without a user the node's operator, who may do everything."""
        name = user or OPERATOR
        return f"rabbit://{name}:{self._passwords[name]}@{self.address}:{self.tls_port if tls else self.port}/{vhost}"

    def add_vhost(self, name: str) -> None:
        """A new vhost, where the operator may do everything."""
        self._evaluate(f"rabbit_vhost:add({_binary(name)}, {_binary(OPERATOR)})")
        self.allow(OPERATOR, ALL, name)

    def remove_vhost(self, name: str) -> None:
        """Takes a vhost away, with everything in it and everybody connected to it."""
        self._evaluate(f"rabbit_vhost:delete({_binary(name)}, {_binary(OPERATOR)})")

    def add_user(
        self, name: str, password: str, configure: str, write: str, read: str, vhost: str | None = VHOST
    ) -> None:
        """A new user with these permissions in one vhost; with ``vhost=None`` in none."""
        self._passwords[name] = password
        self._evaluate(
            f"rabbit_auth_backend_internal:add_user({_binary(name)}, {_binary(password)}, {_binary(OPERATOR)})"
        )
        if vhost is not None:
            self.allow(name, Permissions(configure, write, read), vhost)

    def allow(self, user: str, permissions: Permissions, vhost: str = VHOST) -> None:
        """Sets a user's permissions in a vhost."""
        words = (user, vhost, permissions.configure, permissions.write, permissions.read, OPERATOR)
        self._evaluate(f"rabbit_auth_backend_internal:set_permissions({', '.join(map(_binary, words))})")

    def queues(self, vhost: str = VHOST) -> dict[str, int]:
        """Every queue of a vhost, with how many messages wait in it."""
        answer = self._evaluate(
            '[io_lib:format("~s ~b~n", [element(4, amqqueue:get_name(Q)), element(2, hd(rabbit_amqqueue:info(Q, '
            f"[messages])))]) || Q <- rabbit_amqqueue:list({_binary(vhost)})]",
            text=True,
        )
        return {name: int(count) for name, count in (line.rsplit(" ", 1) for line in answer.splitlines())}

    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` says: a second's work, and what an operator would type."""
        return self._place.run(
            [CONTROL, "--quiet", "--node", self.node, *arguments], CALL_TIMEOUT_S, env=self._home.environment()
        ).stdout

    def _evaluate(self, expression: str, *, text: bool = False) -> str:
        """Have the node do something and put it on disk, within milliseconds."""
        code = f"R = ({expression}), disk_log:sync(latest_log), {'{ok, lists:flatten(R)}' if text else '{ok, R}'}.\n"
        done = self._call(code)
        found = re.fullmatch(r"\{ok, \{ok, ?(.*)\}\}\s*", done.stdout, re.DOTALL)
        if found is None or found[1].startswith("{error"):
            raise RuntimeError(f"{self.node}: {code}{done.stdout}{done.stderr}")
        answer = found[1]
        if not text:
            return answer
        return "" if answer == "[]" else answer.removeprefix('"').removesuffix('"').replace("\\n", "\n")

    @retry(
        retry=retry_if_exception_message(match=r"(?s).*failed to connect to node"),  # nothing was done then
        stop=stop_after_delay(CALL_TIMEOUT_S),
        wait=wait_fixed(0.2),
        reraise=True,
    )
    def _call(self, code: str) -> "subprocess.CompletedProcess[str]":
        argv = ["erl_call", "-n", self.node, "-e"]
        return self._place.run(argv, CALL_TIMEOUT_S, stdin_text=code, env=self._home.environment())

    def _popen(self, argv: Collection[str]) -> Process:
        with self._log.open("a") as log:
            return self._place.popen(list(argv), stdout=log, stderr=log, env=self._home.environment())

    def _has_started(self, begin: int) -> bool:
        said = self._log.read_bytes()[begin:]
        if self._server is None or self._server.poll() is not None:
            raise RuntimeError(f"the broker ended:\n{said.decode(errors='replace')[-4000:]}")
        return STARTED in said

    def _signal(self, number: int) -> None:
        if self._server is None:
            raise RuntimeError("the broker does not run")
        self._server.signal(number)

    def _end_server(self, number: int) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        if server.poll() is None:
            server.signal(SIGCONT)  # what is stopped does not end by a SIGTERM
            server.signal(number)
        server.wait(END_TIMEOUT_S)


def _binary(text: str) -> str:
    return '<<"{}">>'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            if port not in found and probe.connect_ex((LOOPBACK, port)) != 0:
                found.append(port)
    return found
