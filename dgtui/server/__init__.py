"""Runs models on a vLLM server: the client, the check of the served model, and steppers. No torch, no weights."""
