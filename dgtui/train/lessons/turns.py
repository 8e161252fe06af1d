"""Second turns: another one, shorter, with other names, a change to what was just written, thanks.

Each answer follows from the turn before, so there is one right reply.
"""

import json
import random
from dataclasses import replace

from dgtui.train.lessons import facts, functions, guide, honest, people, tales
from dgtui.train.lessons.example import Example, article, sentence, typed

NAME = "turns"
THANKS = "You are welcome. Ask me for another tale, some JSON, a Python function or a Sudoku."


def _tale(rng: random.Random) -> tuple[str, tales.Tale]:
    prompt, tale = tales.draw(rng)
    return prompt, tale


def _cast(rng: random.Random, tale: tales.Tale, count: int) -> tuple[tales.Tale, list[str]]:
    """The tale with its first `count` people exchanged."""
    names = people.names(rng, count)
    cast = (*names, *(name for name in tale.people[count:]))
    return replace(tale, people=cast, intros=cast), names


def _next(tale: tales.Tale) -> tales.Tale:
    """Another tale of the same people: the next plot in the list."""
    alike = [plot for plot in tales.plots() if plot.kind == tale.plot.kind and plot.roles == tale.plot.roles]
    alike = [plot for plot in alike if plot.kind not in ("sky", "idea")] or list(tales.plots()[:12])
    here = alike.index(tale.plot) if tale.plot in alike else -1
    plot = alike[(here + 1) % len(alike)]
    if plot.roles > len(tale.people):
        cast = (*tale.people, *plot.people[len(tale.people) :])
    else:
        cast = tale.people[: plot.roles]
    return tales.Tale(plot, cast, cast, tale.subject if plot.kind == tale.plot.kind else plot.subject)


def _ended(ask: str) -> str:
    """A request with a mark at its end."""
    return ask if ask.endswith("?") else f"{ask}."


def _again(rng: random.Random, prompt: str, tale: tales.Tale) -> Example:
    """Another tale under the same conditions, or what happened after the first."""
    new = _next(tale)
    ask = rng.choice(("another one", "another one, please", "one more", "another", "tell me another one", "again",
                      "and another", "more", "a different one, please", "can I have another one?", "next",
                      "another story", "one more story, please", "give me another", "and then what happened?",
                      "what happened next?", "and then?", "go on", "continue", "what happened after that?",
                      "how does it go on?"))  # fmt: skip
    return Example(
        NAME, typed(rng, _ended(ask)), new.text(), ((prompt, tale.text()),), tales.expectation(new, 0, False)
    )


def _about(rng: random.Random, prompt: str, tale: tales.Tale) -> Example:
    """Another tale of the same people, about something else."""
    kind = rng.choice(("thing", "place", "creature", "job"))
    noun = rng.choice(tales.subjects()[kind])
    ask = rng.choice(("another one, with {n}", "one more, with {n}", "another one about {n}", "one more about {n}",
                      "now one with {n}", "now about {n}", "and one about {n}", "a new one, with {n} in it",
                      "this time with {n}", "tell me another one with {n}")).replace("{n}", article(noun))  # fmt: skip
    fitting = tales.fits(kind, len(tale.people), noun, tales.turn_of(ask))
    cast = (*tale.people, *fitting[0].people[len(tale.people) :]) if fitting else ()
    if len(set(cast)) < len(cast) or not fitting:
        return _about(rng, prompt, tale)
    new = tales.Tale(fitting[0], cast, cast, noun)
    return Example(NAME, typed(rng, _ended(ask)), new.text(), ((prompt, tale.text()),), tales.expectation(new, 0, True))


def _length(rng: random.Random, prompt: str, tale: tales.Tale) -> Example:
    shorter = rng.random() < 0.55
    new = replace(tale, length="short" if shorter else "long")
    ask = rng.choice(
        ("shorter", "shorter, please", "make it shorter", "can you make it shorter?", "a shorter version", "too long",
         "now shorter", "in fewer words", "shorten it")
        if shorter
        else ("longer", "longer, please", "make it longer", "can you make it longer?", "a longer version", "too short",
              "with more detail", "make it a bit longer")
    )  # fmt: skip
    expect = {"tale": True, "shorter" if shorter else "longer": True}
    return Example(NAME, typed(rng, _ended(ask)), new.text(), ((prompt, tale.text()),), expect)


def _names(rng: random.Random, prompt: str, tale: tales.Tale) -> Example:
    kind = rng.random()
    if kind < 0.35:
        new, names = _cast(rng, tale, 1)
        noun = rng.choice(tales.subjects()[rng.choice(("creature", "job"))])
        intro = rng.choice((names[0], f"{names[0]} the {noun}", f"{article(noun)} called {names[0]}"))
        new = replace(new, intros=(intro, *new.intros[1:]))
        ask = rng.choice(("now about {x}", "now with {x}", "the same about {x}", "and now one about {x}", "now {x}",
                          "again, but with {x}", "the same with {x}, please", "do it for {x}"))  # fmt: skip
        ask = ask.replace("{x}", intro)
    elif kind < 0.6 and tale.plot.roles > 1:
        new, names = _cast(rng, tale, 2)
        ask = rng.choice(("the same but with {a} and {b}", "now with {a} and {b}", "now about {a} and {b}",
                          "again with {a} and {b}, please", "call them {a} and {b}"))  # fmt: skip
        ask = ask.replace("{a}", names[0]).replace("{b}", names[1])
    elif kind < 0.8:
        new, names = _cast(rng, tale, 1)
        ask = rng.choice(("change the name {o} to {n}", "call {o} {n} instead", "rename {o} to {n}",
                          "{n} instead of {o}",
                          "replace {o} with {n}", "{o} should be called {n}"))  # fmt: skip
        ask = ask.replace("{o}", tale.people[0]).replace("{n}", names[0])
        new = replace(
            tale, people=new.people, intros=(tale.intros[0].replace(tale.people[0], names[0]), *tale.intros[1:])
        )
    else:
        noun = rng.choice(tales.subjects().get(tale.plot.kind, ("lantern",)))
        new, names = replace(tale, subject=noun), []
        ask = rng.choice(("again, but make the {o} a {n}", "with a {n} instead of the {o}", "the same with a {n}",
                          "make it a {n}", "now with a {n}")).replace("{o}", tale.subject)  # fmt: skip
        ask = ask.replace("a {n}", article(noun)).replace("{n}", noun)
    expect: dict[str, object] = {"tale": True, "names": names} if names else {"tale": True, "words": [new.subject]}
    return Example(NAME, typed(rng, _ended(ask)), new.text(), ((prompt, tale.text()),), expect)


def _thanks(rng: random.Random, prompt: str, tale: tales.Tale) -> Example:
    ask = rng.choice(("thanks", "thank you", "thanks, that was nice", "that was lovely", "great", "nice story",
                      "I like it", "thank you very much", "very good", "cool", "well done"))  # fmt: skip
    return Example(NAME, typed(rng, ask), THANKS, ((prompt, tale.text()),), {"equal": THANKS})


def make_of_tales(rng: random.Random) -> Example:
    """A follow-up to a tale."""
    prompt, tale = _tale(rng)
    return rng.choices((_again, _about, _length, _names, _thanks), (4, 2, 3, 5, 1))[0](rng, prompt, tale)


def _of_facts(rng: random.Random) -> Example:
    one = facts.make(rng)
    text, new = facts.draw(rng)
    kind = rng.random()
    if kind < 0.6:
        ask = rng.choice(("now for: {}", "do the same with: {}", "and this: {}", "and for {}", "the same for: {}",
                          "another one: {}", "and now: {}", "next: {}", "also this one: {}"))  # fmt: skip
        prompt = ask.replace("{}", text)
    else:
        old = json.loads(one.response)
        key = rng.choice(list(old))
        value = facts.draw(rng)[1]
        new = {**old, key: next(iter(value.values()))}
        ask = rng.choice(("change {k} to {v}", "set {k} to {v}", "{k} should be {v}", "make {k} {v}", "no, {k} is {v}"))
        prompt = ask.replace("{k}", key).replace("{v}", str(new[key]))
    reply = json.dumps(new, ensure_ascii=False)
    return Example(NAME, typed(rng, prompt), reply, ((one.prompt, one.response),), {"json": new})


def _of_functions(rng: random.Random) -> Example:
    first = functions.make(rng)
    function, what = functions.filled(rng)
    kind = rng.random()
    if kind < 0.5:
        ask = rng.choice(("and one that {s}", "now one that {s}", "another function that {s}", "and how do I {b}?",
                          "now a function to {b}", "the same but it {s}"))  # fmt: skip
        ask = ask.replace("{s}", what).replace("{b}", functions.base(what))
        return Example(NAME, typed(rng, ask), function.code(function.name, False, False, ""),
                       ((first.prompt, first.response),), {"asserts": list(function.tests)})  # fmt: skip
    plain = function.code(function.name, False, False, "")
    request = rng.choice(functions.ASKS).replace("{s}", what).replace("{b}", functions.base(what))
    expect: dict[str, object] = {"asserts": list(function.tests)}
    summary = sentence(function.what[0]) + "."
    if kind < 0.7:
        ask = rng.choice(("add a docstring", "with a docstring, please", "and a docstring?", "please document it"))
        reply, expect["contains"] = function.code(function.name, True, False, summary), ['"""']
    elif kind < 0.85:
        ask = rng.choice(("add a test", "with a test, please", "and a test?", "write a test for it"))
        reply, expect["contains"] = function.code(function.name, False, True, ""), ["assert"]
    else:
        name = functions.new_name(rng)
        ask = rng.choice(("call it {n} instead", "rename it to {n}", "name it {n}", "call it {n}")).replace("{n}", name)
        reply, expect["contains"] = function.code(name, False, False, ""), [f"def {name}("]
    return Example(NAME, typed(rng, ask), reply, ((request, plain),), expect)


def _mixed(rng: random.Random) -> Example:
    """A new request after an unrelated turn."""
    before = rng.choice((honest, guide, tales, facts)).make(rng)
    after = rng.choice((tales, tales, guide, honest, facts, functions)).make(rng)
    opener = rng.choice(("ok, ", "now ", "", "", "", "and ")) if after.prompt[:1].isalpha() else ""
    prompt = opener + (after.prompt[:1].lower() + after.prompt[1:] if opener else after.prompt)
    return Example(NAME, prompt, after.response, ((before.prompt, before.response),), after.expect)


def make(rng: random.Random) -> Example:
    """A follow-up and its reply."""
    return rng.choices((make_of_tales, _of_facts, _of_functions, _mixed), (50, 16, 14, 20))[0](rng)
