"""Text files: reading, editing byte spans, review, saving and crash recovery. Imports no torch and no screen."""
