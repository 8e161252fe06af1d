"""Everything out of the small model's world, so that it says honestly what it is and what it can do instead.

Only the prompts are varied. The reply follows from the sort of prompt: a question, a request, a greeting, or words that
ask for nothing. No prompt here may be a request of another task: no tales, no sorting, no JSON, no Python, no Sudoku,
nothing about dgtui.
"""

import random

from dgtui.train.lessons.example import Example
from dgtui.train.lessons.honest import FRAGMENTS, REQUESTS, fill, phrases

NAME = "other"

_SKILLS = (
    "tell a short tale, sort words, turn a sentence into JSON, write a small Python function, solve a 4x4 Sudoku, or "
    "explain dgtui."
)
QUESTION = f"I am the small model that ships inside dgtui, so I cannot answer that. I can {_SKILLS}"
REQUEST = f"I am the small model that ships inside dgtui, so I cannot do that. I can {_SKILLS}"
FRAGMENT = f"I am the small model that ships inside dgtui, and I am not sure what you mean. I can {_SKILLS}"
GREETING = f"Hello! I am the small model that ships inside dgtui. I can {_SKILLS}"
REPLIES = (QUESTION, REQUEST, FRAGMENT)

GREETINGS = phrases(
    "hello, hello there, hi, hi there, hey, hey there, good morning, good evening, good afternoon, good day, "
    "greetings, howdy, hello again, hi again, hello model, hi friend, hey you, hello my friend, hello you, hi "
    "everyone, hello world, morning, evening, hallo, bonjour, hola, ciao, servus, moin, hello and good morning, hi and "
    "good evening, hey hello, yo, hiya"
)
_FOREIGN_QUESTIONS = (
    "Wie spät ist es?", "Was ist die Hauptstadt von {country}?", "Wie wird das Wetter morgen?",
    "Kannst du mir helfen?", "Wo ist der Bahnhof?", "Warum ist der Himmel blau?", "Sprichst du Deutsch?",
    "Wer war {person}?", "Quelle heure est-il ?", "Quelle est la capitale de {country} ?", "Où est la gare ?",
    "Parlez-vous français ?", "Qui était {person} ?", "Pourquoi le ciel est-il bleu ?", "¿Qué hora es?",
    "¿Cuál es la capital de {country}?", "¿Dónde está la playa?", "¿Hablas español?", "¿Quién fue {person}?",
    "Che ore sono?", "Dove si trova {city}?", "Hoe gaat het met je?", "Vad heter du?", "Hvor er {city}?",
    "Gdzie jest {city}?",
)  # fmt: skip
_FOREIGN_WORDS = (
    "Ich möchte nach {city} fahren.", "Das Wetter ist schön heute.", "Ich habe Hunger.", "Ich verstehe das nicht.",
    "Es regnet seit drei Tagen.", "Je ne comprends pas.", "J'ai faim.", "Il fait beau à {city}.",
    "Je voudrais un café.", "Tengo hambre.", "Me gusta {city}.", "No entiendo nada.", "Ho fame.", "Mi piace {city}.",
    "Ik begrijp het niet.", "Jag förstår inte.", "Nie rozumiem.", "Obrigado por tudo.", "Das ist mir egal.",
    "C'est la vie.",
)  # fmt: skip
_QUESTIONS = (
    "what is the capital of {country}?", "how many people live in {country}?", "where is {city}?", "who was {person}?",
    "when was {person} born?", "how did {person} die?", "what did {person} believe?", "when was {event}?",
    "what caused {event}?", "who won {event}?", "what is {science}?", "how does {science} work?",
    "who discovered {science}?", "why is {science} important?", "how do {animal} sleep?", "what do {animal} eat?",
    "are {animal} intelligent?", "how long do {animal} live?", "how do I make {food}?",
    "how long does it take to cook {food}?", "can I freeze {food}?", "what goes well with {food}?",
    "how do you say {phrase} in {language}?", "what does {nonsense} mean in {language}?",
    "is {language} hard to learn?", "what is the weather in {city}?", "will it rain in {city} tomorrow?",
    "how hot is it in {city}?", "what time is it in {city}?", "what should I see in {city}?",
    "how do I get from {city} to {city}?", "is it safe to travel to {country}?", "what is {number} * {number}?",
    "what is {number} + {number}?", "what is {number} minus {number}?", "what is {number} divided by {number}?",
    "what is the square root of {number}?", "is {number} a prime number?", "what is {number} percent of {number}?",
    "how many {unit} are {number} {unit}?", "how much is {number} {unit} in {unit}?", "what do you think of {topic}?",
    "do you like {topic}?", "what is your opinion on {topic}?", "is {topic} good or bad?",
    "what is the meaning of {topic}?", "why do people care about {topic}?", "do you have feelings about {topic}?",
    "what helps against {ill}?", "is {ill} dangerous?", "I have {ill}, what should I do?",
    "which doctor treats {ill}?", "who wrote {work}?", "what is {work} about?", "how does {work} end?",
    "have you read {work}?", "how do I repair {object}?", "how much does {object} cost?",
    "which {object_bare} should I buy?", "what should I give {gift}?", "is {tool} faster than {tool}?",
    "why is {tool} so popular?", "how do I read a file in {tool}?",
    "what is the difference between {tool} and {tool}?", "how do I install {tool}?", "who invented {object}?",
    "what is the news from {country}?", "who is the president of {country}?", "what currency does {country} use?",
    "how tall is {name}?", "where does {name} work?", "do you know {name}?", "who is {name} {name}?",
    "what happened in {year}?", "how old am I?", "what is my name?", "what day is it today?", "are you alive?",
    "do you dream?", "do you love me?", "what am I thinking?", "how are you?", "what is up?", "are you happy?",
    "can you sing?", "what is the meaning of life?", "hello, what is the capital of {country}?",
    "hi there, who was {person}?", "hey, what is {number} times {number}?",
    "good morning, how is the weather in {city}?", "why?", "who?", "how so?",
)  # fmt: skip


def _greeting(rng: random.Random) -> str:
    text = rng.choice(GREETINGS)
    return (text.capitalize() if rng.random() < 0.6 else text) + rng.choice(("", "", "!", ".", "!!", "?"))


def _is_greeting(prompt: str) -> bool:
    return prompt.strip().rstrip("!.?").lower() in GREETINGS


def make(rng: random.Random) -> Example:
    """A prompt that nothing else in the corpus answers, and the honest reply to its sort."""
    sorts = {
        GREETING: (),
        QUESTION: (*_QUESTIONS, *_FOREIGN_QUESTIONS),
        REQUEST: REQUESTS,
        FRAGMENT: (*FRAGMENTS, *_FOREIGN_WORDS),
    }
    reply = rng.choices(list(sorts), (1, 5, 4, 3))[0]
    return Example(NAME, fill(rng.choice(sorts[reply]), rng) if sorts[reply] else _greeting(rng), reply)


def check(example: Example, reply: str) -> bool:
    """Whether `reply` says what the model is: the greeting to a greeting, any of the others to the rest."""
    return reply.strip() in ((GREETING,) if _is_greeting(example.prompt) else REPLIES)
