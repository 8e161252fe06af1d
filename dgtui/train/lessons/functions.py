"""Small Python functions in many phrasings, as fenced code, with a docstring or a test if requested."""

import random
from dataclasses import dataclass

from dgtui.train.lessons import people
from dgtui.train.lessons.example import DATA, Example, sentence, typed

NAME = "python"


@dataclass(frozen=True, slots=True)
class Function:
    """What it does (verb first), its usual name, its parameters, its body and tests; {n} and {w} are drawn."""

    what: tuple[str, ...]
    name: str
    parameters: str
    body: tuple[str, ...]
    tests: tuple[str, ...]

    def code(self, name: str, docstring: bool, test: bool, summary: str) -> str:
        """The function as a fenced block; `summary` is the docstring's text."""
        lines = [f"def {name}({self.parameters}):"]
        if docstring:
            lines.append(f'    """{summary}"""')
        lines += [f"    {line}" for line in self.body]
        if test:
            lines += ["", "", f"assert {self.tests[0].replace('f(', f'{name}(')}"]
        return "```python\n" + "\n".join(lines) + "\n```"


def functions() -> list[Function]:
    """All functions of the data file."""
    found: list[Function] = []
    what: tuple[str, ...] = ()
    head = ""
    body: list[str] = []
    tests: list[str] = []
    for line in [*(DATA / "functions.txt").read_text(encoding="utf-8").splitlines(), "= end"]:
        if line.startswith("= "):
            if what:
                name, _, parameters = head.partition("(")
                found.append(Function(what, name, parameters.rstrip(")"), tuple(body), tuple(tests)))
            what, head, body, tests = tuple(part.strip() for part in line[2:].split("|")), "", [], []
        elif line.startswith("> "):
            tests.append(line[2:])
        elif line.startswith("def "):
            head = line[4:].strip()
        elif line.strip() and not line.startswith("#"):
            body.append(line)
    return found


FUNCTIONS = functions()
_WORDS = "and apple blue cat dog end fish go green hat hello key lake my no old red see sun the tree up yes".split()
VERBS = "apply change check count do find get give make pick run show take test turn use work solve".split()
NOUNS = "all data it item line list number one part text thing value word words result".split()
ASKS = (
    "Write a Python function that {s}.", "Write a function in Python that {s}.", "python function that {s}",
    "Can you write me a function in Python which {s}?", "I need a Python function that {s}.", "How do I {b} in Python?",
    "Write Python code that {s}.", "Give me a Python function which {s}.", "function to {b}, in python", "python: {b}",
    "Could you code a function that {s}, in Python?", "Please write a small Python function that {s}.",
    "I want a function that {s}.", "Write a function to {b}.", "make a python function that {s}",
    "Python function to {b}",
    "Show me how to {b} in Python.", "code that {s} please (python)", "In Python, how can I {b}?",
    "Implement a Python function that {s}.",
)  # fmt: skip
_NAMED = (
    "Write a Python function {n} that {s}.", "Write the Python function {n}: it {s}.",
    "def {n}({p}): please write it, it {s}",
    "I need a Python function called {n} that {s}.", "Write a function {n}({p}) in Python that {s}.",
    "write a function `{n}({p})` that {s}", "Implement {n}({p}) in Python. It {s}.",
)  # fmt: skip


def base(what: str) -> str:
    """ "adds two numbers" as "add two numbers"."""
    verb, _, rest = what.partition(" ")
    known = {"checks": "check", "is": "be", "has": "have", "does": "do", "reverses": "reverse", "counts": "count"}
    if verb in known:
        plain = known[verb]
    elif verb.endswith(("sses", "shes", "ches", "xes")):
        plain = verb[:-2]
    elif verb.endswith("ies"):
        plain = verb[:-3] + "y"
    else:
        plain = verb.removesuffix("s")
    return f"{plain} {rest}"


def filled(rng: random.Random) -> tuple[Function, str]:
    """A function with random numbers and words, and one phrasing of what it does."""
    chosen = rng.choice(FUNCTIONS)
    n = rng.randint(2, rng.choice((9, 99)))
    values = {"{n}": str(n), "{m}": str(n + rng.randint(1, 99)), "{w}": rng.choice(_WORDS)}

    def put(text: str) -> str:
        for mark, value in values.items():
            text = text.replace(mark, value)
        return text

    what = tuple(map(put, chosen.what))
    done = Function(
        what, put(chosen.name), chosen.parameters, tuple(map(put, chosen.body)), tuple(map(put, chosen.tests))
    )
    return done, rng.choice(what)


def new_name(rng: random.Random) -> str:
    """A name for a function, which has to be copied."""
    verb, noun, invented = rng.choice(VERBS), rng.choice(NOUNS), people.invented(rng).lower()
    return rng.choice((f"{verb}_{noun}", f"{verb}_{noun}", verb, invented, f"{verb}_{invented}"))


def make(rng: random.Random) -> Example:
    """A request for a function and the function."""
    function, what = filled(rng)
    name = function.name
    if rng.random() < 0.35:
        name = name if rng.random() < 0.4 else new_name(rng)
        prompt = rng.choice(_NAMED).replace("{n}", name).replace("{p}", function.parameters).replace("{s}", what)
    else:
        prompt = typed(rng, rng.choice(ASKS).replace("{s}", what).replace("{b}", base(what)))
    docstring, test = rng.random() < 0.2, rng.random() < 0.25
    extra = {
        (True, False): "with a docstring",
        (False, True): "with a test",
        (True, True): "with a docstring and a test",
    }
    if docstring or test:
        asked = extra[docstring, test]
        end = prompt[-1] if prompt[-1] in ".?" else ""
        prompt = (
            f"{prompt.rstrip('.?')}, {asked}{end}"
            if rng.random() < 0.7
            else f"{prompt.rstrip('.?')}. {sentence(asked)}."
        )
    code = function.code(name, docstring, test, sentence(function.what[0]) + ".")
    expect: dict[str, object] = {"asserts": list(function.tests)}
    if docstring:
        expect["contains"] = ['"""']
    return Example(NAME, prompt, code, expect=expect)
