"""The commands of ``sidecarctl`` that ask the daemon one question, and print its answer."""

import json
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

from sidecar.api.problems import ProblemCode, ProblemError
from sidecar.api.views import (
    DoctorView,
    DomainView,
    ForgottenView,
    GuestView,
    HostView,
    MessageView,
    PreflightView,
    SentView,
)
from sidecar.cli import sheets
from sidecar.cli.talk import describe, find_named, open_client
from sidecar.cli.terminal import Screen, discard, escape, progress, warn
from sidecar.client.documents import Documents
from sidecar.errors import DaemonUnreachableError

DONE, REFUSED = 0, 1


def run(options: Namespace) -> int:
    """Run one command; the exit code.

    Raises:
        ProblemError, DaemonUnreachableError, VersionCapError: As ``sidecar.client`` does.
    """
    if options.command == "doctor":
        return _diagnose(options)
    with open_client(options) as client:
        return _COMMANDS[options.command](client.documents, options)


def _print_document(document: Any) -> None:
    print(json.dumps(document))


def _list(documents: Documents, options: Namespace) -> int:
    answer = documents.request("list")
    views = documents.read_list(DomainView, "list", answer)
    if options.json:
        _print_document(answer)
    else:
        print(sheets.render_domains(views, Screen.of_stdout()))
    return DONE


def _show(documents: Documents, options: Namespace) -> int:
    answer = documents.request("show", domain=options.domain)
    view = documents.read(DomainView, "show", answer)
    try:
        guest = documents.request("guest", domain=options.domain)
        told = sheets.render_guest(documents.read(GuestView, "guest", guest), Screen.of_stdout())
    except ProblemError as error:
        guest, told = None, escape(f"guest: not shown: {describe(error)}")
    if options.json:
        _print_document({**answer, "guest": guest})
        return DONE
    print(f"{sheets.render_domain(view, Screen.of_stdout())}\n\n{told}")
    return DONE


def _show_messages(documents: Documents, options: Namespace) -> int:
    answer = documents.request("messages", domain=options.domain, channel=options.channel)
    views = documents.read_list(MessageView, "messages", answer)
    if options.json:
        _print_document(answer)
    else:
        print(sheets.render_messages(views, Screen.of_stdout()))
    return DONE


def _can_send(documents: Documents, options: Namespace) -> int:
    answer = documents.request("can_send", domain=options.domain, message=options.message, channel=options.channel)
    view = documents.read(MessageView, "can_send", answer)
    if options.json:
        _print_document(answer)
    elif view.allowed:
        print(escape(f"{view.message} may be sent to {options.domain}, on {view.channel}"))
    if not view.allowed:
        warn(f"{options.domain}: {view.message}: {view.why} ({view.code})")
    return DONE if view.allowed else REFUSED


def _send(documents: Documents, options: Namespace) -> int:
    arguments = {"domain": options.domain, "message": options.message, "arguments": options.arguments}
    what = f"{options.domain}: {options.message}"

    def ask() -> Any:
        with progress(f"{what}: waiting for the answer, {options.timeout:g} s at most"):
            return documents.request("send", **arguments, timeout=options.timeout, channel=options.channel)

    def show(answer: Any) -> None:
        view = documents.read(SentView, "send", answer)
        if options.json:
            _print_document(answer)
        elif view.reply is None:
            print(escape(f"{view.message} was sent to {options.domain}, on {view.channel}"))
        else:
            print(json.dumps(view.reply, indent=2))

    return _change(documents, what, ask, show)


def _renegotiate(documents: Documents, options: Namespace) -> int:
    def ask() -> Any:
        return documents.request("renegotiate", domain=options.domain, channel=options.channel)

    def show(answer: Any) -> None:
        # The states below it are those on record: nobody has answered yet.
        told = escape(f"asked anew; sidecarctl wait {options.domain} tells when it is agreed")
        _print_channels(documents, options, answer, f"{told}\n\n")

    return _change(documents, f"{options.domain}: renegotiate", ask, show)


def _change(documents: Documents, what: str, ask: Callable[[], Any], show: Callable[[Any], None]) -> int:
    """Have something changed, and show the answer; once it is done, it counts as done wherever the output went.

    Raises:
        ProblemError: The daemon's; or no-answer: interrupted when something was sent already.
    """
    try:
        answer = ask()
        try:
            show(answer)
            sys.stdout.flush()
        except OSError as error:
            discard(sys.stdout)
            warn(f"{what}: it was done, and its answer could not be written: {error.strerror or error}")
    except KeyboardInterrupt:
        if not documents.has_sent:
            raise
        told = f"{what}: interrupted after it was sent: nobody knows whether it ran"
        raise ProblemError(ProblemCode.NO_ANSWER, told) from None
    return DONE


def _wait(documents: Documents, options: Namespace) -> int:
    arguments = {"domain": options.domain, "for": options.state, "timeout": options.timeout, "channel": options.channel}
    with progress(f"{options.domain}: waiting to be {options.state}, {options.timeout:g} s at most"):
        answer = documents.request("wait", **arguments)
    _print_channels(documents, options, answer)
    return DONE


def _print_channels(documents: Documents, options: Namespace, answer: Any, before: str = "") -> None:
    view = documents.read(DomainView, options.command, answer)
    if options.json:
        _print_document(answer)
    else:
        print(f"{before}{sheets.render_channels(view, Screen.of_stdout())}")


def _show_host(documents: Documents, options: Namespace) -> int:
    answer = documents.request("host")
    view = documents.read(HostView, "host", answer)
    if options.json:
        _print_document(answer)
    else:
        print(sheets.render_host(view))
    return DONE


def _forecast(documents: Documents, options: Namespace) -> int:
    if options.destination is None:
        name, where = "preflight", {"offer": options.offer}
    else:
        name, where = "preflight_to", {"host": options.destination, "timeout": options.timeout}
    answer = documents.request(name, domain=options.domain, **where)
    view = documents.read(PreflightView, name, answer)
    if options.json:
        _print_document(answer)
    else:
        print(sheets.render_preflight(view, Screen.of_stdout()))
    if view.refusal is not None:
        warn(view.refusal)
    elif not view.nothing_lost:
        lost = sum(len(channel.lost) for channel in view.channels)
        warn(f"{view.name} would lose {lost} message{'s' * (lost != 1)} on {view.destination}")
    return DONE if view.nothing_lost and view.refusal is None else REFUSED


def _look_at_fleet(documents: Documents, options: Namespace) -> int:
    from sidecar.cli import fleet

    match options.action:
        case "forget":
            return _forget(documents, options)
        case "preflight":
            return fleet.forecast(documents, options)
    return fleet.show(documents, options)


def _forget(documents: Documents, options: Namespace) -> int:
    def ask() -> Any:
        return documents.request("fleet_forget", host=options.named)

    def show(answer: Any) -> None:
        view = documents.read(ForgottenView, "fleet_forget", answer)
        if options.json:
            _print_document(answer)
        else:
            print(escape(f"{view.hostname} is forgotten, until it is heard again"))

    return _change(documents, f"{options.named}: forget", ask, show)


def _diagnose(options: Namespace) -> int:
    try:
        with open_client(options) as client:
            answer = client.documents.request("doctor", domain=options.domain)
            view = client.documents.read(DoctorView, "doctor", answer)
    except DaemonUnreachableError:
        if find_named(options):
            raise  # it may be another host's, and what is found here would be told of the wrong one
        # A daemon that is down is a fault, too, and the rest of the host can be looked at without it.
        from pathlib import Path

        from sidecar.cli.host_doctor import examine

        view = examine(Path(options.hooks_dir), options.config and Path(options.config), options.domain)
        answer = asdict(view)
    if options.json:
        _print_document(answer)
    else:
        print(sheets.render_doctor(view))
    if not view.healthy:
        found = len(view.findings)
        warn("1 fault was found" if found == 1 else f"{found} faults were found")
    return DONE if view.healthy else REFUSED


_COMMANDS: Mapping[str, Callable[[Documents, Namespace], int]] = MappingProxyType(
    {
        "list": _list,
        "show": _show,
        "messages": _show_messages,
        "can-send": _can_send,
        "send": _send,
        "renegotiate": _renegotiate,
        "wait": _wait,
        "preflight": _forecast,
        "host": _show_host,
        "fleet": _look_at_fleet,
    }
)
