"""One JSON object a line: cuts a byte stream into lines, with a bound on how long a line may be."""

# VDSM's limit. It holds for the line with its LF, however the stream is cut into reads (VDSM's own bound is
# soft by one read), so that the same bytes always give the same messages.
LINE_LIMIT_BYTES = 1024 * 1024


class LineSplitter:
    """Bytes in, complete lines out; memory is bounded by ``LINE_LIMIT_BYTES``.

    A line that grows over the limit is reported once, at the moment it does, as ``None``; its rest is dropped up
    to the next LF, and the line after that is read as usual.
    """

    __slots__ = ("_discarding", "_limit", "_partial")

    def __init__(self, limit_bytes: int = LINE_LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._partial = bytearray()
        self._discarding = False

    def receive_data(self, data: bytes) -> list[bytes | None]:
        """The lines that end in this piece, without their LF; ``None`` stands for one that was too long."""
        lines: list[bytes | None] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            self._finish_line(piece, lines)
        self._keep_partial(rest, lines)
        return lines

    def _finish_line(self, piece: bytes, lines: list[bytes | None]) -> None:
        if self._discarding:
            self._discarding = False
        elif len(self._partial) + len(piece) >= self._limit:
            self._partial.clear()
            lines.append(None)
        elif self._partial:
            self._partial += piece
            lines.append(bytes(self._partial))
            self._partial.clear()
        else:
            lines.append(piece)

    def _keep_partial(self, rest: bytes, lines: list[bytes | None]) -> None:
        if self._discarding or not rest:
            return
        if len(self._partial) + len(rest) >= self._limit:
            self._partial.clear()
            self._discarding = True
            lines.append(None)
        else:
            self._partial += rest
