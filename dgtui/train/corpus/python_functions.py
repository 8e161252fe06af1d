"""Small Python functions: one operation, a name and constants taken from the prompt."""

import ast
import random

from dgtui.train.lessons.example import Example

NAME = "python"

# (what it does, argument, body); {n}, {m}: a number, {w}: a word of the prompt
_OPERATIONS: tuple[tuple[str, str, str], ...] = (
    ("adds {n} to a number", "x", "return x + {n}"),
    ("subtracts {n} from a number", "x", "return x - {n}"),
    ("multiplies a number by {n}", "x", "return x * {n}"),
    ("divides a number by {n}", "x", "return x / {n}"),
    ("squares a number and adds {n}", "x", "return x * x + {n}"),
    ("tells if a number is even", "x", "return x % 2 == 0"),
    ("tells if a number is odd", "x", "return x % 2 == 1"),
    ("tells if a number is larger than {n}", "x", "return x > {n}"),
    ("tells if a number is smaller than {n}", "x", "return x < {n}"),
    ("tells if a number can be divided by {n}", "x", "return x % {n} == 0"),
    ("keeps a number between {n} and {m}", "x", "return max({n}, min({m}, x))"),
    ("returns the larger of a number and {n}", "x", "return max(x, {n})"),
    ("adds {n} to every item of a list", "items", "return [x + {n} for x in items]"),
    ("multiplies every item of a list by {n}", "items", "return [x * {n} for x in items]"),
    ("keeps the items of a list that are larger than {n}", "items", "return [x for x in items if x > {n}]"),
    ("keeps the items of a list that are smaller than {n}", "items", "return [x for x in items if x < {n}]"),
    ("keeps the even items of a list", "items", "return [x for x in items if x % 2 == 0]"),
    ("counts the items of a list that are larger than {n}", "items", "return sum(x > {n} for x in items)"),
    ("counts how often {n} is in a list", "items", "return items.count({n})"),
    ("adds up a list", "items", "return sum(items)"),
    ("returns the largest item of a list", "items", "return max(items)"),
    ("returns the smallest item of a list", "items", "return min(items)"),
    ("returns the mean of a list", "items", "return sum(items) / len(items)"),
    ("returns the first {n} items of a list", "items", "return items[:{n}]"),
    ("returns the last {n} items of a list", "items", "return items[-{n}:]"),
    ("turns a list around", "items", "return items[::-1]"),
    ("sorts a list", "items", "return sorted(items)"),
    ("sorts a list from large to small", "items", "return sorted(items, reverse=True)"),
    ("turns a text around", "text", "return text[::-1]"),
    ("makes a text upper case", "text", "return text.upper()"),
    ("makes a text lower case", "text", "return text.lower()"),
    ("counts the words of a text", "text", "return len(text.split())"),
    ("returns the first {n} letters of a text", "text", "return text[:{n}]"),
    ("repeats a text {n} times", "text", "return text * {n}"),
    ('tells if a text starts with "{w}"', "text", 'return text.startswith("{w}")'),
    ('puts "{w}" before a text', "text", 'return "{w}" + text'),
    ('counts how often "{w}" is in a text', "text", 'return text.count("{w}")'),
    ('joins a list with "{w}"', "items", 'return "{w}".join(items)'),
)
_VERBS = "apply change check count do find get give make pick run show take test turn use work".split()
_NOUNS = "all data it item line list number one part text thing value word words".split()
_WORDS = "and apple blue cat dog end fish go green hat hello key lake my no old red see sun the tree up yes".split()
_ASKS = (
    "Write a Python function {name} that {what}.",
    "Write the Python function {name}: it {what}.",
    "I need a Python function called {name} that {what}.",
)


def make(rng: random.Random) -> Example:
    """A request that names the function and what it does, and the function."""
    what, argument, body = rng.choice(_OPERATIONS)
    n = rng.randint(2, 99)
    values = {"n": str(n), "m": str(n + rng.randint(1, 99)), "w": rng.choice(_WORDS)}
    for key, value in values.items():
        what, body = what.replace("{" + key + "}", value), body.replace("{" + key + "}", value)
    function = f"{rng.choice(_VERBS)}_{rng.choice(_NOUNS)}"
    prompt = rng.choice(_ASKS).format(name=function, what=what)
    return Example(NAME, prompt, f"def {function}({argument}):\n    {body}")


def check(example: Example, reply: str) -> bool:
    """The reply is the same function, whatever its spacing."""
    try:
        return ast.dump(ast.parse(reply)) == ast.dump(ast.parse(example.response))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
