"""What the daemon and ``sidecar.bus``, the process beside it that talks to the message bus, say to each other.

One JSON object a line, over the process's stdin and stdout. ``word`` says what it is; the other keys by word:

==========  =====================================================================================================
daemon to bus
----------------------------------------------------------------------------------------------------------------
begin       First, once. ``hostname``; ``version``: the API's that is served; ``section``: ``[bus]`` as it stands;
            ``log_level``
offer       ``offer``: this host's, a ``HostView``'s document; each time it changes, and once after ``begin``.
            ``announce``: whether every host is to be told now, or only who asks
level       ``level``: of the log, from now on
event       ``event``: one event's document
answer      ``id`` of a ``call``, and ``result`` or ``problem``
ask         ``id``, ``what`` (an ``Ask``), and what that needs; answered by ``done``
==========  =====================================================================================================

==========  =====================================================================================================
bus to daemon
----------------------------------------------------------------------------------------------------------------
ready       First, once. ``after``: the id of the newest event that is on disk, ``null`` when there is none
call        ``id``, ``operation``, ``arguments``, ``version``; somebody on the bus calls an operation. ``deadline``
            (of the machine's monotonic clock; may be missing): what changes something is not begun later
seen        ``offer``: another host's
forgotten   ``hostname``: an operator somewhere had that host forgotten
status      ``BusStatus``, when it changes, and every 10 seconds: who is silent for long hangs
done        ``id`` of an ``ask``, and ``result`` or ``problem``
==========  =====================================================================================================

A ``problem`` has ``code``, ``detail`` and ``extra``, as ``api.problems.Problem`` has them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sidecar.api.problems import Problem, ProblemError

# What all guests of a host told of themselves, and some more; what is longer is a fault of ours.
LINE_LIMIT_BYTES = 64 * 1024 * 1024


class Word(StrEnum):
    """See the module."""

    BEGIN = "begin"
    OFFER = "offer"
    LEVEL = "level"
    EVENT = "event"
    ANSWER = "answer"
    ASK = "ask"
    READY = "ready"
    CALL = "call"
    SEEN = "seen"
    FORGOTTEN = "forgotten"
    STATUS = "status"
    DONE = "done"


class Ask(StrEnum):
    """What the daemon asks of the bus; each with ``timeout_s``.

    ``CALL``: ``host``, ``operation``, ``arguments``: an operation of another host's; its result.
    ``COLLECT``: ``expected`` (hostnames): every host's ``summary``, as soon as all that are expected have answered, or
    else the time is over; a list of documents, in no order, this host's own not among them.
    ``FORGET``: ``hostname``: tell every host; ``null``.
    """

    CALL = "call"
    COLLECT = "collect"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class BusStatus:
    """How the bus does.

    Attributes:
        connected: What this host told the fleet came back to it within the last half minute.
        waiting: Events on disk that the broker has not taken yet.
        notified: Events that it took, since the process began.
        dropped: Events that were given up, since the outbox was made, because there were too many of them.
    """

    connected: bool = False
    waiting: int = 0
    notified: int = 0
    dropped: int = 0


def render_line(word: Word, **values: Any) -> bytes:
    """One line, its end included; raises ``ValueError`` or ``TypeError`` for what is no JSON."""
    return json.dumps({"word": word, **values}, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def parse_line(line: bytes) -> tuple[Word, dict[str, Any]]:
    """Word and values. Raises ``ValueError``: it is no line of the other end's."""
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  # what it is makes no difference to who reads
    return Word(document.pop("word", None)), document


def describe_problem(problem: Problem) -> dict[str, Any]:
    """A problem as the link carries it."""
    return {"code": problem.code, "detail": problem.detail, "extra": dict(problem.extra)}


def read_result(values: Mapping[str, Any]) -> Any:
    """The result of an ``answer`` or ``done``. Raises ``ProblemError``: it carries a problem."""
    problem = values.get("problem")
    if problem is not None:
        raise ProblemError(problem["code"], problem["detail"], **problem.get("extra", {}))
    return values.get("result")
