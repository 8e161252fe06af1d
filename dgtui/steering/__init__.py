"""Steering without a screen: versions of a reply, proposals for spans of a file, and the search that fills gaps."""
