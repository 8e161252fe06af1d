"""Nothing that loads or runs a model may fetch: said to the libraries before they are imported, when they ask."""

import logging
import os


def go_offline() -> None:
    """Call before transformers or bitsandbytes is imported."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    # On some processors bitsandbytes looks for a kernel on the hub, and says that it got none
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
