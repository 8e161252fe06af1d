"""A vLLM server as the engine: the client, the check of what it serves, and steppers over it. No torch, no weights."""
