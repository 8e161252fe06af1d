"""Screens: chat, help, conversations, versions."""
