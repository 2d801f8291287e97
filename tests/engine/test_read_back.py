import pytest

from sidecar.engine.notices import Happening
from sidecar.engine.ports import Activity
from sidecar.errors import RecordChangedError
from sidecar.record.agreement import Origin
from tests.engine.lone_host import LoneHost, settle

pytestmark = pytest.mark.looptime


async def test_somebody_quicker_is_no_reason_to_write_again_at_once() -> None:
    async with LoneHost().running() as host:
        domain = host.add_domain(Activity.RUNNING, origin=Origin.START)
        host.hypervisor.fail("write_record", *[RecordChangedError("it differs")] * 10)
        host.event(domain, Happening.STARTED, Origin.START)
        await settle(30)
        assert len(host.hypervisor.attempts) == 1
        await settle(3600)
        assert 2 <= len(host.hypervisor.attempts) <= 4  # put back once, and the verdict of the agent that never came
