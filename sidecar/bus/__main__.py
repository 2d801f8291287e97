"""``python -m sidecar.bus``: what ``sidecard`` starts beside itself."""

import sys

from sidecar.bus.process import main
from sidecar.bus.thread_end import watch_threads

watch_threads()
sys.exit(main())
