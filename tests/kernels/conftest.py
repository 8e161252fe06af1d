"""Kernels run in Triton's interpreter, mended."""

import interpreter

interpreter.install()
