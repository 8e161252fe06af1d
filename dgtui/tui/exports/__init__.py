"""Recorded runs for the replay screen, and their export to SVG pictures, web pages and asciinema casts."""
