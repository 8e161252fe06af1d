"""The algorithm: takes token ids, yields events. Independent of text, files, screens and transformers."""
