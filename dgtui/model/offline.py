"""Forbids the libraries to download anything while a model is loaded or run. They read this when imported."""

import logging
import os


def go_offline() -> None:
    """Call before transformers or bitsandbytes is imported."""
    os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    # On some processors bitsandbytes looks for a kernel on the hub, and warns that it found none
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
