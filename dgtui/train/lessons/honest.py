"""Prompts outside the small model's world: the reply says honestly what it is and what it can do instead.

Only the prompts are varied. The reply follows from the sort of prompt: a question, a request, a greeting, another
language, or words that ask for nothing. No prompt here may be a request of another lesson.
"""

import random
import re
from functools import cache

from dgtui.train.lessons import people
from dgtui.train.lessons.example import DATA, Example, sentence

NAME = "other"

_SKILLS = (
    "tell a short tale with your own names, turn a sentence into JSON, write a small Python function, solve a Sudoku, "
    "or explain dgtui."
)
QUESTION = f"I am the small model that ships inside dgtui, so I cannot answer that. I can {_SKILLS}"
REQUEST = f"I am the small model that ships inside dgtui, so I cannot do that. I can {_SKILLS}"
FRAGMENT = f"I am the small model that ships inside dgtui, and I am not sure what you mean. I can {_SKILLS}"
GREETING = f"Hello! I am the small model that ships inside dgtui. I can {_SKILLS}"
FOREIGN = f"I am the small model that ships inside dgtui, and I only know a little English. I can {_SKILLS}"
REPLIES = (QUESTION, REQUEST, FRAGMENT, GREETING, FOREIGN)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip() for phrase in text.split(","))


GREETINGS = phrases(
    "hello, hello there, hi, hi there, hey, hey there, good morning, good evening, good afternoon, good day, "
    "greetings, howdy, hello again, hi again, hello model, hi friend, hey you, hello my friend, hello you, hi "
    "everyone, hello world, morning, evening, hello and good morning, hi and good evening, hey hello, yo, hiya, hello "
    "dgtui, hi dgtui, hello little model, how are you, hi how are you, hello how are you, hey what is up, nice to meet "
    "you, good to see you, hello anyone there, is anybody there, hello hello, heya, sup, hey nice to meet you, hi it "
    "is me, hello how do you do, good evening to you, good morning to you, hi machine, greetings machine, salutations"
)
_FILL: dict[str, tuple[str, ...]] = {
    "country": phrases(
        "France, Germany, Spain, Italy, Portugal, Poland, Norway, Sweden, Finland, Denmark, Iceland, Ireland, Greece, "
        "Turkey, Egypt, Morocco, Kenya, Nigeria, Ghana, South Africa, India, China, Japan, Korea, Vietnam, Thailand, "
        "Indonesia, Australia, New Zealand, Canada, Mexico, Cuba, Brazil, Argentina, Chile, Peru, Bolivia, Colombia, "
        "Austria, Hungary, Romania, Bulgaria, Serbia, Croatia, Ukraine, Estonia, Latvia, Mongolia, Nepal, Iran, Iraq, "
        "Jordan, Belgium, Switzerland"
    ),
    "city": phrases(
        "Paris, Berlin, London, Rome, Madrid, Lisbon, Vienna, Prague, Warsaw, Oslo, Athens, Cairo, Lagos, Nairobi, "
        "Delhi, Mumbai, Beijing, Shanghai, Tokyo, Kyoto, Seoul, Hanoi, Bangkok, Sydney, Toronto, Chicago, Boston, New "
        "York, Lima, Quito, Zurich, Hamburg, Munich, Naples, Seville, Dublin, Glasgow, Istanbul, Tehran, Moscow, Kyiv, "
        "Helsinki"
    ),
    "person": phrases(
        "Napoleon, Cleopatra, Newton, Einstein, Marie Curie, Darwin, Shakespeare, Goethe, Mozart, Beethoven, Bach, "
        "Picasso, Van Gogh, Galileo, Aristotle, Plato, Socrates, Caesar, Lincoln, Gandhi, Mandela, Ada Lovelace, Alan "
        "Turing, Tesla, Edison, Columbus, Magellan, Jane Austen, Tolstoy, Kafka, Confucius, Leonardo da Vinci, "
        "Florence Nightingale, Genghis Khan, Queen Victoria, Brontal Veska, Doctor Kelmond, Lady Parrowin, Captain "
        "Istrel, Madame Quorry"
    ),
    "event": phrases(
        "the French Revolution, the First World War, the Second World War, the moon landing, the fall of Rome, the "
        "Cold War, the Black Death, the Renaissance, the Great Depression, the Russian Revolution, the Battle of "
        "Hastings, the Thirty Years War, the invention of printing, the fall of the Berlin Wall, the opening of the "
        "Suez Canal, the last election, the Olympic Games"
    ),
    "science": phrases(
        "photosynthesis, gravity, a black hole, the speed of light, a quark, DNA, evolution, plate tectonics, an "
        "electron, magnetism, relativity, quantum mechanics, a vaccine, an enzyme, osmosis, the ozone layer, a "
        "supernova, radioactivity, a semiconductor, a virus, a bacterium, mitosis, an isotope, superconductivity, dark "
        "matter, the water cycle, a tsunami, an eclipse, inflation, a catalyst, the periodic table, an ecosystem, a "
        "hormone, a neuron, a laser, a fractal, game theory, blockchain"
    ),
    "animal": phrases(
        "elephants, whales, penguins, spiders, sharks, giraffes, bees, ants, camels, bats, dolphins, octopuses, "
        "snakes, crocodiles, parrots, kangaroos, koalas, wolves, tigers, horses, jellyfish, salmon, turtles, zebras, "
        "gorillas"
    ),
    "food": phrases(
        "pancakes, lasagne, risotto, goulash, ramen, sushi, apple pie, sourdough, curry, chili, pizza, tacos, hummus, "
        "falafel, paella, tiramisu, cheesecake, omelette, pesto, dumplings, kimchi, guacamole, borscht, ratatouille, "
        "banana bread, lentil stew, waffles"
    ),
    "tool": phrases(
        "Rust, Java, C, C++, Go, Haskell, Kotlin, Swift, PHP, Ruby, Perl, Lua, Scala, Julia, Fortran, COBOL, "
        "TypeScript, SQL, Bash, Assembly, Prolog, Lisp, Erlang, Elixir, R, MATLAB"
    ),
    "code": phrases(
        "a web server, a binary tree, a linked list, a calculator, a login form, a regular expression for e-mail "
        "addresses, a quicksort, a chess engine, a hash map, a parser, a query that joins two tables, a unit test, a "
        "Dockerfile, a shader, a makefile"
    ),
    "language": phrases(
        "French, German, Spanish, Italian, Latin, Japanese, Chinese, Russian, Arabic, Hindi, Dutch, Swedish, Polish, "
        "Turkish, Greek, Korean, Portuguese, Finnish, Czech, Welsh"
    ),
    "phrase": phrases(
        "good morning, I love you, where is the station, how much is this, thank you for dinner, the bill please, I am "
        "lost, see you tomorrow, happy birthday, my suitcase is gone, two coffees please, the train is late, I do not "
        "understand"
    ),
    "topic": phrases(
        "love, the ocean, autumn, football, climate change, politics, religion, money, taxes, school, marriage, cars, "
        "coffee, the stars, freedom, death, robots, the stock market, housing, jazz, opera, modern art, yoga, "
        "gardening, chess, cycling, knitting, fishing, philosophy, happiness, social media, insomnia, the weather, "
        "childhood, home, war, peace, snow, my boss, my mother"
    ),
    "ill": phrases(
        "a headache, a fever, a sore throat, back pain, a rash, high blood pressure, a broken toe, hay fever, a cough, "
        "migraine, toothache, a burn, diabetes, anaemia, a cold, nausea, asthma"
    ),
    "work": phrases(
        "Hamlet, Faust, Moby Dick, War and Peace, the Odyssey, Don Quixote, the Magic Flute, Guernica, the Mona Lisa, "
        "Star Wars, Casablanca, the Matrix, Frankenstein, Dracula, Pride and Prejudice, the Ninth Symphony"
    ),
    "form": phrases(
        "a poem, a haiku, a song, an essay, a sonnet, a speech, an e-mail, a cover letter, a business plan, a blog "
        "post, a limerick, a press release, a rap, a tweet, a letter of complaint, a wedding toast, a summary, a "
        "slogan"
    ),
    "gift": phrases(
        "my sister, my father, a colleague, a neighbour, a ten year old, my wife, my husband, a teacher, a student, an "
        "old friend"
    ),
    "object": phrases(
        "a bicycle, a dishwasher, a router, a printer, a roof, a fridge, a violin, a phone, a tent, a washing machine, "
        "a guitar, a laptop, a car, a lawn mower, a heat pump, a camera, a sofa, a tap, a zip, a watch"
    ),
    "unit": phrases(
        "miles, kilometres, grams, pounds, litres, gallons, inches, metres, hours, seconds, euros, dollars, acres, "
        "knots"
    ),
}
_SYLLABLES = _words("bla zor fip qua xen mu tra lo wib gno ske vra pli du hek oom yst arg nif jub cro tez")
_LOOSE = _words(
    "apple bridge window suddenly purple engine because nevertheless thirteen umbrella maybe forgotten yesterday "
    "marble tuesday station potato silence concrete whisper banana velvet thunder invoice pencil asymmetry gravel "
    "honey carousel ledger monday perhaps always never under beyond through quickly slowly orange copper ribbon saddle "
    "anchor barrel candle dragon eagle feather goose hammer island jacket kettle ladder mirror needle oyster pepper "
    "quarrel rocket shovel trumpet uncle vinegar walnut yogurt zigzag ok no yes what nothing something whatever test "
    "testing asdf lol hmm aha wow ouch seriously exactly anyway sorry really"
)
_PASTED = phrases(
    "the committee met on Thursday to discuss the new parking rules, heavy rain is expected along the coast until "
    "Saturday, shares fell by two percent after the report was published, the patient was discharged in good "
    "condition, passengers are kindly asked to keep their luggage with them, the tenant shall pay the rent on the "
    "third working day, our team has won six of its last nine matches, the museum will be closed for repairs until "
    "further notice, please find the invoice for the month of June attached, the new bypass will cost eleven million "
    "euros, researchers have described a beetle from the island of Borneo, stir the sauce until it thickens and add "
    "the cream, whereas the parties have agreed to the terms below, the defendant denied all of the charges, the "
    "concert was sold out within four minutes, ERROR connection refused at line 214, warning: unused variable in main, "
    "dear Sir or Madam, kind regards, the lift on platform nine is out of order, the figures include seasonal workers, "
    "see appendix B for a full list of parts, the vote was postponed for the second time, all rights reserved"
)
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm", "1234567890", "!?.,;:-_")
_EMOJI = "🙂😀😂🥰👍🎉🔥🐶🌧🍕🚀❤✨🤔😴👀"

_QUESTIONS: tuple[str, ...] = (
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
    "do you dream?", "do you love me?", "what am I thinking?", "are you happy?",
    "can you sing?", "what is the meaning of life?", "hello, what is the capital of {country}?",
    "hi there, who was {person}?", "hey, what is {number} times {number}?",
    "good morning, how is the weather in {city}?", "why?", "who?", "how so?",
)  # fmt: skip
REQUESTS: tuple[str, ...] = (
    "write {form} about {topic}.", "write {form} for {gift}.", "write me {form} about {city}.",
    "compose {form} about {animal}.", "translate {phrase} into {language}.",
    "translate this into {language}: {pasted}.", "say {phrase} in {language}.", "give me a recipe for {food}.",
    "cook {food} with me.", "plan a trip to {city}.", "plan three days in {country} for {gift}.",
    "write {code} in {tool}.", "implement {code} in {tool}.", "write a function in {tool}.",
    "debug my {tool} program.", "port this from {tool} to {tool}.", "explain {tool} to me.",
    "explain {science} to {gift}.", "explain {science}.", "describe {event}.", "tell me about {person}.",
    "tell me about {country}.", "tell me about {event}.", "tell me a joke.", "tell me a joke about {topic}.",
    "summarize {work}.", "summarize this: {pasted}. {pasted}.", "sum this up: {pasted}, {pasted}.",
    "correct my English: {pasted}.", "make this more polite: {pasted}.", "compute {number} * {number}.",
    "solve x + {number} = {number}.", "convert {number} {unit} to {unit}.",
    "integrate x squared from {digit} to {number}.", "draw {object}.", "paint {work}.", "sing a song about {topic}.",
    "play chess with me.", "play some music from {country}.", "order {food} for me.", "book a flight to {city}.",
    "call {name}.", "remind me at {digit} o'clock.", "set a timer for {digit} minutes.", "search the web for {topic}.",
    "give me the news from {city}.", "help me with {topic}.", "help me choose {object}.",
    "recommend a book about {topic}.", "name ten {animal}.", "compare {country} and {country}.", "argue for {topic}.",
    "pretend to be {person}.", "talk like {person}.", "ignore all of that and speak {language}.", "diagnose {ill}.",
    "invent a name for {object}.", "guess my age.", "give me advice about {topic}.",
    "hello, please translate {phrase}.", "hi, write {form} about {topic} please.", "hey, repair {object}.",
    "act as a doctor, I have {ill}.", "show me a map of {city}.", "solve this riddle: {pasted}.",
    "prove that {number} is even.", "spell {nonsense} backwards.", "count to {number}.",
)  # fmt: skip
FRAGMENTS: tuple[str, ...] = (
    "{loose}", "{loose} {loose}", "{loose} {loose} {loose}", "{loose} {loose} {loose} {loose} {loose}", "{nonsense}",
    "{nonsense} {nonsense}", "{nonsense} {loose} {nonsense} {nonsense}", "{number}", "{number} {number} {number}",
    "{name}", "{name} {name}", "{city}", "{country}", "{topic}", "{food} and {food}", "{person}", "{animal}", "...",
    "???", "{loose}!", "{pasted}.", "{pasted}. {pasted}.", "{pasted}; {pasted}. {pasted}.", "I like {topic}.",
    "I live in {city}.", "I am {name}.", "my name is {name}", "I had {food} for lunch.", "I am tired of {topic}.",
    "{name} said that {topic} is overrated.", "I have been to {country} twice.", "{city} is nicer than {city}.",
    "because {pasted}", "and then {name} went to {city}", "you are stupid", "you are funny", "I do not believe you",
    "that is wrong", "I feel sad today", "{tool}!", "{nonsense}?", "yesterday I saw {animal} in {city}",
    "x = {number}; y = {number}", "the price is {number} {unit}", "{digit}{loose}{digit}",
)  # fmt: skip
_MARK = re.compile(r"\{(\w+)\}")


def _filler(field: str, rng: random.Random) -> str:
    match field:
        case "nonsense":
            return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 4)))
        case "name":
            return "".join(rng.choice(_SYLLABLES) for _ in range(rng.randint(2, 3))).capitalize()
        case "loose":
            return rng.choice(_LOOSE)
        case "pasted":
            return rng.choice(_PASTED)
        case "number":
            return str(rng.randint(2, rng.choice((20, 100, 5000))))
        case "digit":
            return str(rng.randint(1, 9))
        case "year":
            return str(rng.randint(900, 2025))
        case "object_bare":
            return rng.choice(_FILL["object"]).split(" ", 1)[1]
        case _:
            return rng.choice(_FILL[field])


def fill(template: str, rng: random.Random) -> str:
    text = _MARK.sub(lambda mark: _filler(str(mark[1]), rng), template)
    dress = rng.random()
    if dress < 0.55:
        return text[0].upper() + text[1:]
    if dress < 0.75:
        return text.rstrip(".?") or text
    return text


@cache
def _foreign() -> tuple[str, ...]:
    lines = (DATA / "foreign.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if not line.startswith("#"))


def _greeting(rng: random.Random) -> str:
    text = rng.choice(GREETINGS)
    if rng.random() < 0.12:
        text = f"{rng.choice(('hi', 'hello', 'hey'))}, {rng.choice(('my name is', 'I am', 'it is'))} {people.name(rng)}"
    case = rng.random()
    text = text.upper() if case < 0.05 else sentence(text) if case < 0.6 else text
    return text + rng.choice(("", "", "!", ".", "!!", "?", " :)", "..."))


def _noise(rng: random.Random) -> str:
    """Random typing, as from fingers, cats and bored people."""
    kind = rng.random()
    if kind < 0.35:
        row = rng.choice(_KEYBOARD)
        return " ".join("".join(rng.choices(row, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 5)))
    if kind < 0.5:
        return rng.choice("abcdehilmnosxz?!.") * rng.randint(2, 24)
    if kind < 0.6:
        return "".join(rng.choices(_EMOJI, k=rng.randint(1, 5)))
    if kind < 0.8:
        return " ".join([rng.choice(_LOOSE)] * rng.randint(2, 5))
    return " ".join(str(rng.randint(0, 99)) for _ in range(rng.randint(1, 8)))


def make(rng: random.Random) -> Example:
    """A prompt that no other lesson answers, and the honest reply to its sort."""
    reply = rng.choices((GREETING, FOREIGN, QUESTION, REQUEST, FRAGMENT), (2, 3, 5, 4, 3))[0]
    if reply == GREETING:
        prompt = _greeting(rng)
    elif reply == FOREIGN:
        prompt = fill(rng.choice(_foreign()), rng)
    elif reply == FRAGMENT and rng.random() < 0.4:
        prompt = _noise(rng)
    else:
        templates: dict[str, tuple[str, ...]] = {QUESTION: _QUESTIONS, REQUEST: REQUESTS, FRAGMENT: FRAGMENTS}
        prompt = fill(rng.choice(templates[reply]), rng)
    return Example(NAME, prompt, reply, expect={"equal": reply})
