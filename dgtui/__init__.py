"""dgtui: text diffusion in the terminal.

Importing the package loads nothing else: each command imports what it needs.
"""

__version__ = "0.1.0"
