"""A certificate authority for one test, and a server's certificate of its making."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: the authority that clients trust, and a server's certificate and key."""

    ca: Path
    certificate: Path
    key: Path


def make_certificates(directory: Path, address: str) -> Certificates:
    """A server's certificate for an IP address, and the authority behind it, in a new directory."""
    directory.mkdir(parents=True)
    made = Certificates(directory / "ca.pem", directory / "server.pem", directory / "server-key.pem")
    ca_key, request, extensions = directory / "ca-key.pem", directory / "server.csr", directory / "extensions"
    extensions.write_text(f"subjectAltName = IP:{address}\n")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl("req", "-x509", "-days", "2", "-subj", "/CN=tests", *new_key, "-keyout", ca_key, "-out", made.ca)
    _openssl("req", "-subj", "/CN=broker", *new_key, "-keyout", made.key, "-out", request)
    authority = ("-CA", made.ca, "-CAkey", ca_key, "-CAcreateserial")
    _openssl("x509", "-req", "-days", "2", "-in", request, *authority, "-extfile", extensions, "-out", made.certificate)
    return made


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)
