"""Deletes a checkpoint from the hub cache, or an NF4 copy. No other module deletes weights.

Only folders directly in these two caches are deleted. A folder that is a link is not, because its target may be
anything. Links inside a folder are deleted, not followed.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path

from dgtui.errors import ModelNotFound, RunFailed, reason
from dgtui.model import catalog
from dgtui.model.shards import shown


def remove_copy(copy: catalog.Nf4Copy) -> None:
    """Delete an NF4 copy. Raises `RunFailed` if it is a link, or cannot be deleted."""
    _refuse_links(copy.path.parent, copy.path)
    if copy.path.parent != catalog.copies_dir():
        raise RunFailed(f"{shown(copy.path)} is not in dgtui's cache")
    _delete(copy.path)


def remove_checkpoint(name: str) -> None:
    """Delete all versions of a hub id from the hub cache, including unfinished downloads.

    huggingface_hub does it, because it knows which blobs other checkpoints share. A folder that it does not recognise,
    for example after a download that broke early, is deleted directly.

    Raises:
        ModelNotFound: It is not in the cache.
        RunFailed: Its folder is a link, or cannot be deleted.
    """
    folder = catalog.hub_folder(name)
    _refuse_links(folder)
    if not folder.is_dir():
        raise ModelNotFound(
            f"{shown(name)} is not in the hub cache", hint="run dgtui model list to see the available models"
        )
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.utils import logging

    logging.set_verbosity(logging.ERROR)
    whole = folder.parent.resolve() / folder.name
    found = scan_cache_dir(folder.parent)
    for repo in found.repos:
        if repo.repo_path == whole:
            # One repository only: copies of it have the same commits, so a commit alone would be ambiguous.
            alone = replace(found, repos=frozenset({repo}))
            strategy = alone.delete_revisions(*(revision.commit_hash for revision in repo.revisions))
            if strategy.repos == {whole} and not strategy.blobs:
                strategy.execute()
    if folder.exists():
        _delete(folder)


def _refuse_links(*folders: Path) -> None:
    for folder in folders:
        if folder.is_symlink():
            raise RunFailed(
                f"{shown(folder)} is a link, so it is not deleted", hint="delete the link and its target by hand"
            )


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise RunFailed(f"{shown(error.filename or folder)} cannot be deleted: {reason(error)}") from error
