"""The tests mean the cpu where they name no device; a GPU in the machine must not change that."""

import os

os.environ.setdefault("GROUNDUP_DEVICE", "cpu")
