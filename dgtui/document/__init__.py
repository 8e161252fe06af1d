"""Files: bytes as they were read, edits of spans, review, saving, recovery. Imports neither torch nor the screen."""
