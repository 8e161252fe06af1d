"""How exactly does a model continue a tale whose beginning has settled, with noise behind it?

    python scripts/next_token.py MODEL [--count 8]

For every token of held-out tales: all tokens before it are right, all others are noise. Prints how often the likeliest
token is wrong, and how often it is then the token before, or the one after, instead.
"""

import argparse
import itertools
import random

import torch

from dgtui.model import catalog
from dgtui.model.denoiser import TransformersDenoiser
from dgtui.model.loader import load
from dgtui.model.open_checkpoint import open_checkpoint
from dgtui.model.parts import LoadOptions
from dgtui.train.lessons import stream, tales


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a name from `dgtui model list` or a folder")
    parser.add_argument("--count", type=int, default=8, help="tales")
    args = parser.parse_args()
    loaded = load(open_checkpoint(catalog.resolve(args.model)), LoadOptions(device="cpu"))
    denoiser, tokenizer = TransformersDenoiser(loaded.model, loaded.stop_ids), loaded.tokenizer
    draw = torch.Generator().manual_seed(1)
    total = wrong = before = after = 0
    for example in itertools.islice(stream(tales.make, random.Random("next"), "held-out"), args.count):
        tokenizer.forget_names()
        denoiser.encode(tokenizer.chat(example.messages()))
        reply = [*tokenizer.encode(example.response), loaded.info.turn_end_id]
        for at in range(1, len(reply)):
            canvas = torch.randint(denoiser.vocab_size, (1, loaded.info.canvas_length), generator=draw)
            canvas[0, :at] = torch.tensor(reply[:at])
            best = int(denoiser.logits(canvas, None)[0, at].argmax())
            total, wrong = total + 1, wrong + (best != reply[at])
            before += best == reply[at - 1] != reply[at]
            after += [best] == reply[at + 1 : at + 2] != [reply[at]]
    print(f"{wrong} of {total} wrong ({wrong / total:.1%}): {before} are the token before, {after} the one after")


if __name__ == "__main__":
    main()
