"""``python3 -m sidecar.guest``: see ``main``."""

import sys

from sidecar.guest.main import main

sys.exit(main())
