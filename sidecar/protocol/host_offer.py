"""What a host of the fleet says that it offers, read out of whatever came over the bus.

Source: docs/api.md, ``host``; ``api.views.HostView``, whose document it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Self, TypeVar
from uuid import UUID

import msgspec

from sidecar.api.versions import ApiVersion
from sidecar.api.views import DialectOffer
from sidecar.protocol.guest_text import clean_line
from sidecar.protocol.releases import Release
from sidecar.protocol.states import Dialect
from sidecar.protocol.versions import is_offer

VersionT = TypeVar("VersionT", int, Release)

# Printable ASCII without "/": the name is part of a queue's, and 255 bytes are DNS's and Linux's bound.
_HOSTNAME = r"^[!-.0-~]{1,255}\Z"
# Versions and aliases; the longest honest one has some twenty characters.
_Text = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,64}\Z")]


class _TermsDocument(msgspec.Struct, frozen=True):
    maximum: int | _Text
    cap: int | _Text
    supported: int | _Text | None = None


class _DialectsDocument(msgspec.Struct, frozen=True):
    ovirt: _TermsDocument
    qga: _TermsDocument


class _OfferDocument(msgspec.Struct, frozen=True):
    hostname: Annotated[str, msgspec.Meta(pattern=_HOSTNAME)]
    host_uuid: _Text
    daemon: _Text
    bridge: _Text
    dialects: _DialectsDocument


@dataclass(frozen=True, slots=True)
class Terms(Generic[VersionT]):
    """One dialect: the ``maximum`` after the ``cap``, and what would be ``supported`` without a cap of the fleet's."""

    maximum: VersionT
    cap: int | str
    supported: VersionT


@dataclass(frozen=True, slots=True)
class HostOffer:
    """A host of the fleet, and what it offers; see ``api.views.HostView``."""

    hostname: str
    host_uuid: str
    daemon: str
    bridge: str
    ovirt: Terms[int]
    qga: Terms[Release]

    @classmethod
    def parse(cls, document: object) -> Self:
        """From a ``HostView``'s document as JSON values; keys that are not known are ignored.

        Raises:
            ValueError: It is something else; the text says what is wrong in one printable line.
        """
        try:
            offer = msgspec.convert(document, _OfferDocument)
            ovirt, qga = offer.dialects.ovirt, offer.dialects.qga
            return cls(
                hostname=offer.hostname,
                host_uuid=str(UUID(offer.host_uuid)),
                daemon=offer.daemon,
                bridge=str(ApiVersion.parse(offer.bridge)),
                ovirt=_check(Terms(_read_ovirt(ovirt.maximum), ovirt.cap, _read_ovirt(_supported(ovirt)))),
                qga=_check(Terms(_read_qga(qga.maximum), qga.cap, _read_qga(_supported(qga)))),
            )
        except ValueError as error:  # msgspec's own, too
            raise ValueError(clean_line(f"no host's offer: {error}")) from error

    @property
    def standing(self) -> tuple[object, ...]:
        """What of it the fleet goes by; the maxima follow from that, where they are the fleet's doing."""
        terms = (self.ovirt.cap, self.ovirt.supported, self.qga.cap, self.qga.supported)
        return (self.hostname, self.host_uuid, self.daemon, self.bridge, *terms)

    @property
    def dialects(self) -> Mapping[str, DialectOffer]:
        """As the API shows them."""
        ovirt, qga = self.ovirt, self.qga
        return {
            Dialect.OVIRT: DialectOffer(ovirt.maximum, ovirt.cap, ovirt.supported),
            Dialect.QGA: DialectOffer(str(qga.maximum), qga.cap, str(qga.supported)),
        }

    @property
    def document(self) -> dict[str, Any]:
        """As JSON values, from which ``parse`` makes the same; there may be thousands to be made at once."""
        ovirt, qga = self.ovirt, self.qga
        return {
            "hostname": self.hostname,
            "host_uuid": self.host_uuid,
            "daemon": self.daemon,
            "bridge": self.bridge,
            "dialects": {
                "ovirt": {"maximum": ovirt.maximum, "cap": ovirt.cap, "supported": ovirt.supported},
                "qga": {"maximum": str(qga.maximum), "cap": qga.cap, "supported": str(qga.supported)},
            },
        }


def is_hostname(text: str) -> bool:
    """Whether a host of the fleet may have this name."""
    return re.match(_HOSTNAME, text) is not None


def _supported(terms: _TermsDocument) -> int | str:
    """A daemon that does not tell knows no cap of the fleet's."""
    return terms.maximum if terms.supported is None else terms.supported


def _read_ovirt(version: object) -> int:
    if not is_offer(version):
        raise ValueError(f"{version!a} is no version of oVirt's API")
    return version


def _read_qga(version: object) -> Release:
    if not isinstance(version, str):
        raise ValueError(f"{version!a} is no release")  # noqa: TRY004  # it is input, and no fault of a caller's
    return Release.parse(version)


def _check(terms: Terms[VersionT]) -> Terms[VersionT]:
    if terms.maximum > terms.supported:
        raise ValueError(f"a maximum of {terms.maximum} with only {terms.supported} supported")
    return terms
