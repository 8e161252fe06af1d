"""The algorithm: token ids in, events out. Knows no text, no files, no screen, no transformers."""
