"""Messages that go to an oVirt agent for others, and the one of them that is answered."""

import asyncio
import secrets
from collections.abc import Callable, Mapping

from sidecar.errors import MessageNotAllowedError, NoAnswerError, Refusal, RefusalCode
from sidecar.protocol.ovirt_reader import REPLY_ID_LIMIT

# The one message whose end the agent reports, with a completion.
_COMPLETED = "lifecycle-event"


class OvirtMessages:
    """Sends for one channel; ``write`` writes one message, or raises and writes nothing."""

    def __init__(self, write: Callable[[str, Mapping[str, object]], None]) -> None:
        self._write = write
        self._completions: dict[str, asyncio.Future[None]] = {}

    async def send(self, message: str, arguments: Mapping[str, object], timeout_s: float) -> object:
        """See ``Channel``: a ``lifecycle-event`` waits for its ``completion``, nothing else is ever answered.

        Raises:
            MessageNotAllowedError: It may not be sent; nothing was.
            NotSentError: The channel is not connected; nothing was sent.
            NoAnswerError: No completion within ``timeout_s``, or the agent went away: its hooks may have run.
        """
        if message != _COMPLETED:
            self._write(message, arguments)
            return None
        reply_id = _reply_id(arguments)
        if reply_id in self._completions:
            raise MessageNotAllowedError(
                Refusal(RefusalCode.BAD_ARGUMENTS, message, "its reply_id is being waited for")
            )
        completion = self._completions[reply_id] = asyncio.get_running_loop().create_future()
        try:
            self._write(message, {**arguments, "reply_id": reply_id})
            async with asyncio.timeout(timeout_s):
                await completion
        except TimeoutError as error:
            raise NoAnswerError(f"no completion within {timeout_s:g} s") from error
        finally:
            del self._completions[reply_id]
        return {"done": True}

    def complete(self, reply_id: str) -> None:
        """The agent says that it is done with what carried this."""
        completion = self._completions.get(reply_id)
        if completion is not None and not completion.done():
            completion.set_result(None)

    def give_up(self, why: str) -> None:
        """Nobody will complete what is under way."""
        for completion in self._completions.values():
            if not completion.done():
                completion.set_exception(NoAnswerError(f"no completion: {why}"))


def _reply_id(arguments: Mapping[str, object]) -> str:
    reply_id = arguments.get("reply_id", secrets.token_hex(16))
    if not isinstance(reply_id, str) or len(reply_id) > REPLY_ID_LIMIT:
        why = f"reply_id has to be a text of up to {REPLY_ID_LIMIT} characters"
        raise MessageNotAllowedError(Refusal(RefusalCode.BAD_ARGUMENTS, _COMPLETED, why))
    return reply_id
