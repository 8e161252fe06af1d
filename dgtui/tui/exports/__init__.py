"""A recorded run, for the replay screen and for exports: SVG pictures, web pages and asciinema casts."""
