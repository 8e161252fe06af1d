"""dgtui: text diffusion in the terminal.

Importing the package loads nothing else: every command decides for itself what it needs.
"""

__version__ = "0.1.0"
