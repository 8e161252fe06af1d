"""Lessons as token ids."""

import itertools
import random

import pytest
from checkpoints import tokenizer

from dgtui.train.lessons import guide, stream
from dgtui.train.taught import CONTINUED_SHARE, SPANS_SHARE, Encoder


def test_a_share_of_the_replies_is_continued_and_none_loses_a_token() -> None:
    encoder, rng = Encoder(tokenizer()), random.Random(3)
    assert guide.NAME not in SPANS_SHARE
    counts = {True: 0, False: 0}
    for example in itertools.islice(stream(guide.make, rng, "train"), 600):
        item = encoder.item(example, rng)
        if item is None:
            continue
        reply = [*encoder.ids(example.response), encoder.turn_end]
        whole = [*item.prefix, *item.reply]
        assert whole[-len(reply) :] == reply
        if item.spans is None:
            counts[bool(item.cuts) or len(item.reply) < len(reply)] += 1
        else:
            assert len(item.reply) >= len(reply), "a reply with pinned parts is whole"
    assert counts[True] / sum(counts.values()) == pytest.approx(CONTINUED_SHARE, abs=0.08)
