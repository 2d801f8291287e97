"""What the log tells of a domain's record: one line a row that changed, as often as the record is written."""

import logging

from sidecar.record.agreement import Agreement, ChannelRow, ToolsRow

logger = logging.getLogger(__name__)


class RecordLog:
    """See the module; ``note`` is told of each agreement that stands in the XML now."""

    def __init__(self, label: str, recorded: Agreement | None) -> None:
        """``recorded`` is what stood there before us, of the same QEMU process: no news."""
        self._label = label
        self._channels = {} if recorded is None else {row.name: row for row in recorded.channels}
        self._tools = None if recorded is None else recorded.tools

    def note(self, agreement: Agreement) -> None:
        """Log what differs from the agreement before."""
        for row in agreement.channels:
            if self._channels.get(row.name) != row:
                self._channels[row.name] = row
                self._log_channel(row)
        if agreement.tools != self._tools:
            self._tools = agreement.tools
            self._log_tools(agreement.tools)

    def _log_channel(self, row: ChannelRow) -> None:
        verdict = f"{row.state} {row.version}" if row.state == "agreed" else row.state
        reason = f", {row.reason}" if row.reason else ""
        offer = "none" if row.guest is None else row.guest
        logger.info("%s: %s: %s (guest %s, host %s%s)", self._label, row.name, verdict, offer, row.host, reason)

    def _log_tools(self, row: ToolsRow | None) -> None:
        if row is None:
            logger.info("%s: tools: none any more", self._label)
            return
        logger.info(
            "%s: tools: %s by %s (upgradable: %s, up to date: %s)",
            self._label,
            row.version,
            row.source,
            row.upgradable,
            row.up_to_date,
        )
