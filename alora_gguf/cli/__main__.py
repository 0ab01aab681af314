"""python -m alora_gguf.cli"""

import sys

from . import main

if __name__ == "__main__":  # not in the processes that multiprocessing starts
    sys.exit(main())
