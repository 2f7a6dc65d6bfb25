"""Entry point of `python -m zeroseg_jax VERB`, the same as the console script `zeroseg`."""

import sys

from zeroseg_jax.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
