"""``python -m sidecar.bus``: what ``sidecard`` starts beside itself."""

import sys

from sidecar.bus.process import main

sys.exit(main())
