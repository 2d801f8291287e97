"""Calls of other hosts' operations, for who must not hang: oslo.messaging waits for a broker as long as it takes.

Each call runs in a thread of its own and is given up in time; the thread stays behind, and keeps no process from
ending. The way to the broker is tried first with a call of nobody, which the broker itself refuses at once: so what is
sent late is, as a rule, a call that changes nothing. A broker can still stop between that and the call, or hold it, or
the host can. That is why a call carries the time at which it is given up (``oslo.EXPIRES``): a host that has it later
does not begin what changes something.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import cache
from threading import Thread
from typing import Any, TypeVar

from sidecar.api.operations import OPERATIONS
from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.bus import oslo
from sidecar.errors import BusDownError, HostSilentError, HostUnknownError

# isort: split
# Behind our module, which says what it may import.
import oslo_messaging

T = TypeVar("T")

# A broker that is there takes milliseconds; three attempts of oslo.messaging's at one that restarts.
CONNECT_S = 5.0

# oslo.messaging tells itself that an answer is late, a little after we would.
MARGIN_S = 0.5

# No host is called so: it is no hostname.
_NOBODY = "nobody at all"

_NO_WAY = "no connection to the message broker"

# ACCESS_REFUSED and NOT_ALLOWED, of AMQP 0-9-1.
_REFUSAL = re.compile(r"\((?:403|530)\)")

# Before the fault itself oslo.messaging says what it did, and after it what it will do.
_FAULT = re.compile(
    r"(?:Connection failed: |.* is unreachable: |.* tries: |\(0, 0\): )?(.*?)(?: \(retrying in .*|\. Trying again.*)?"
)

_CODES = {"UnsupportedVersion": ProblemCode.UNSUPPORTED_VERSION, "NoSuchMethod": ProblemCode.UNKNOWN_OPERATION}


class _FaultLog(logging.Handler):
    """What oslo.messaging said last of its connections: while it tries again and again it says nothing else."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last: str | None = None
        logging.getLogger("oslo.messaging").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.last = _name_fault(record.getMessage())


class Caller:
    """One user's way to the broker, and one topic; for any thread."""

    def __init__(self, topic: str, url: str, options: Mapping[str, Any]) -> None:
        """Nothing is connected yet. Raises ``ConfigurationError``: URL or options are wrong."""
        self._topic = topic
        self._transport = oslo.make_rpc_transport(url, options)
        self._faults = _FaultLog()
        self._attempt: Future[None] | None = None

    def connect(self, within_s: float | None = None) -> None:
        """Have the way to the broker and back, and the right to send; by trying it.

        Raises:
            BusDownError: There is none, or the broker refuses this user; with what was found.
        """
        limit_s = CONNECT_S if within_s is None else within_s
        attempt = self._attempt
        if attempt is None or attempt.done():
            self._faults.last = None
            # One that still waits for the broker will do for everybody who comes meanwhile.
            attempt = self._attempt = _start(self._call_nobody)
        try:
            attempt.result(limit_s)
        except TimeoutError:
            raise BusDownError(f"{_NO_WAY}: {self._faults.last or f'no answer within {limit_s:g} s'}") from None
        except Exception as error:
            fault = _name_fault(str(error))
            what = "the message broker refuses this user" if _REFUSAL.search(fault) else _NO_WAY
            raise BusDownError(f"{what}: {fault}") from error

    def _call_nobody(self) -> None:
        with suppress(oslo_messaging.MessageUndeliverable):
            # Once more where the connection turns out to be one that broke meanwhile.
            self._call(_NOBODY, "1.0", "host", {}, CONNECT_S, retries=1)

    def call(self, hostname: str, version: str, operation: str, arguments: Mapping[str, Any], timeout_s: float) -> Any:
        """The document that an operation of a host's results in; sent once.

        Raises:
            ProblemError: The host's; or internal: it failed otherwise.
            HostUnknownError: Nobody serves it there; nothing was sent.
            HostSilentError: It was sent, or may have been, and there is no answer.
        """
        call = _start(lambda: self._call(hostname, version, operation, arguments, timeout_s))
        try:
            return call.result(timeout_s + MARGIN_S)
        except oslo_messaging.MessageUndeliverable:
            raise HostUnknownError("nobody of this name serves it on the bus") from None
        except (TimeoutError, oslo_messaging.MessagingTimeout):
            raise HostSilentError(f"no answer within {timeout_s:g} s") from None
        except oslo_messaging.RemoteError as error:
            raise _read_error(operation, error) from error
        except ProblemError as error:
            # As it came it carries the other host's traceback.
            raise ProblemError(error.problem.code, error.problem.detail, **error.problem.extra) from None
        except Exception as error:
            raise HostSilentError(f"the message broker failed: {_name_fault(str(error))}") from error

    def _call(
        self,
        hostname: str,
        version: str,
        operation: str,
        arguments: Mapping[str, Any],
        timeout_s: float,
        retries: int = 0,
    ) -> Any:
        client = oslo_messaging.get_rpc_client(
            self._transport,
            oslo.make_target(self._topic, hostname, version),
            timeout=timeout_s,
            version_cap=version,
            retry=retries,
            # The broker says so when there is no queue, instead of dropping it.
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
        )
        return client.call({oslo.EXPIRES: time.time() + timeout_s}, operation, **arguments)


@cache
def find_caller(topic: str, url: str, options: tuple[tuple[str, Any], ...]) -> Caller:
    """The process's one ``Caller`` for this: what waits for a broker, waits once. Raises as ``Caller`` does."""
    return Caller(topic, url, dict(options))


def _read_error(operation: str, error: Any) -> ProblemError:
    """What oslo.messaging raised at the host instead of an answer."""
    code = _CODES.get(error.exc_type)
    if code is None:
        row = OPERATIONS.get(operation)
        changes = row is not None and row.changes
        told = f"{operation}: a fault of the daemon's own; its log tells more"
        return ProblemError(ProblemCode.OUTCOME_UNKNOWN if changes else ProblemCode.INTERNAL, told)
    return ProblemError(code, f"{operation}: {str(error.value).splitlines()[0]}")


def _name_fault(text: str) -> str:
    """The fault in what oslo.messaging says of it, as one line."""
    line = next(iter(text.splitlines()), "")
    found = _FAULT.fullmatch(line)
    return found[1] if found else line


def _start(call: Callable[[], T]) -> "Future[T]":
    """Make a blocking call in a daemon thread."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=run, name="bus-call", daemon=True).start()
    return done
