"""``python -m chaos.broken BUILD serve [--worker]``: `carafe`, with one promise broken."""

import sys

from carafe.cli import main
from chaos.broken.builds import BUILDS

BUILDS[sys.argv[1]]()
sys.exit(main(sys.argv[2:]))
