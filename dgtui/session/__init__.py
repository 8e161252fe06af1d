"""Conversations: how they are kept, how turns become a prompt, runs on disk. Imports neither torch nor the screen."""
