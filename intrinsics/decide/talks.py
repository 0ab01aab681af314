"""Conversations with an assistant and calls of tools, made of parts: who wants what, was it answered, does the call fit, what may it break."""

import json

from rows import Asked, choice, predicate, score
from voice import Voice, assistant, user

# A question, an answer to it, and its subject.
TALKS = (
    ("How long should I boil an egg?", "About seven minutes for a soft yolk.", "cooking"),
    ("What goes well with grilled fish?", "A salad with lemon and some white bread.", "cooking"),
    ("Can I freeze bread dough?", "Yes, for up to three months in a closed bag.", "cooking"),
    ("Which train goes to Lyon in the morning?", "There is one at 7:40 from platform 3.", "travel"),
    ("Do I need a visa for Iceland?", "Not as a citizen of the European Union.", "travel"),
    ("Where can I leave my suitcase in Rome?", "There are lockers at the main station.", "travel"),
    ("How do I undo my last commit?", "Use git reset with HEAD~1.", "programming"),
    ("Why does my loop never end?", "The counter is not increased inside of it.", "programming"),
    ("What does a compiler do?", "It turns source code into machine code.", "programming"),
    ("My knee hurts after running, what helps?", "Rest it for some days and cool it.", "health"),
    ("How much sleep does a child need?", "At six years about ten hours a night.", "health"),
    ("Is coffee bad for the heart?", "In small amounts it is not for most people.", "health"),
    ("Who won the match last night?", "The home team, by two goals to one.", "sports"),
    ("How many players has a volleyball team?", "Six on the court.", "sports"),
    ("When does the marathon begin?", "At nine o'clock at the old bridge.", "sports"),
    ("How do I open a savings account?", "Go to a branch with your passport.", "money"),
    ("Is it better to rent or to buy a flat?", "It depends on how long you will stay.", "money"),
    ("What is inflation?", "A general rise of prices over time.", "money"),
    ("Which instrument has 88 keys?", "The piano.", "music"),
    ("Who composed the Moonlight Sonata?", "Ludwig van Beethoven.", "music"),
    ("How do I tune a guitar?", "Turn the pegs until each string has its note.", "music"),
    ("When should I plant tulips?", "In autumn, before the first frost.", "gardening"),
    ("Why are the leaves of my tomatoes yellow?", "They probably get too much water.", "gardening"),
    ("How often must I mow the lawn?", "Once a week in spring.", "gardening"),
    ("Will it rain tomorrow?", "Yes, in the afternoon with some thunder.", "weather"),
    ("How cold will the night be?", "Around four degrees below zero.", "weather"),
    ("Is there snow in the mountains?", "Above 1,500 metres there is half a metre.", "weather"),
    ("What was the French Revolution?", "The end of the monarchy in France, from 1789 on.", "history"),
    ("When did the Berlin Wall fall?", "In November 1989.", "history"),
    ("Who built the pyramids of Giza?", "Workers of the pharaohs, some 4,500 years ago.", "history"),
    ("How does a vaccine work?", "It shows the body a harmless part of the germ.", "science"),
    ("Why is the sky blue?", "Air scatters blue light more than red light.", "science"),
    ("What is a black hole?", "A place whose gravity lets no light escape.", "science"),
    ("What is the past tense of go?", "It is went.", "language"),
    ("How do I say thank you in Italian?", "You say grazie.", "language"),
    ("Is it affect or effect?", "Affect is mostly the verb, effect the noun.", "language"),
)
REFUSALS = "I am sorry, I cannot help with that. | I do not know. | I have no information about this. || I am unable to answer that. || Unfortunately I cannot say."
PLEASED = (
    "Thanks, that helps a lot! | Great, thank you. | Perfect. | That is just what I needed. || Wonderful, thanks! || Very good, that was helpful."
)
DISPLEASED = "That is not what I asked. | No, this is wrong. | You did not understand me. | That does not help at all. || This is nonsense. || Your answer is of no use."
REQUESTS = "Write it shorter, please. | Translate it into Spanish. | Give me an example. | Repeat that in simple words. || Make a list of it. || Explain it to a child."
GREETINGS = "Hello! | Good morning. | Hi, how are you? | Good evening! || Hey there. || Greetings!"
FAREWELLS = "Goodbye! | See you tomorrow. | That was all, bye. | Good night. || Until next time! || So long."
ACTS = {"question": None, "request": REQUESTS, "thanks": PLEASED, "complaint": DISPLEASED, "greeting": GREETINGS, "farewell": FAREWELLS}
ASK_ACT = "What is the last message of the user? | What does the user do in the last message? | Kind of the last message | Classify the user's last words. || The user's last message is || How would you call the last message?"
ASK_SUBJECT = "What is the conversation about? | Subject | Which topic is it? | Topic of the talk || What do they talk about? || Theme"
SATISFIED = "How satisfied is the user? | Satisfaction || Is the user content? || How content does the user sound?"


def talk(voice: Voice) -> tuple[object, list[Asked]]:
    """A question, an answer that is one, is none, or is another question's, and how the user takes it."""
    rng, pick = voice.rng, voice.pick
    mine = [t for i, t in enumerate(TALKS) if (i % 6 == 4) == (voice.split == "test") or voice.split == "valid"]
    question, answer, subject = rng.choice(mine)
    kind = rng.choice(("right", "right", "refused", "beside"))
    beside = rng.choice([t for t in mine if t[2] != subject])
    said = {"right": answer, "refused": pick(REFUSALS), "beside": beside[1]}[kind]
    act = rng.choice(list(ACTS))
    last = question if act == "question" else pick(ACTS[act])
    messages = [user(question), assistant(said)] if act != "question" else []
    if act == "greeting":
        messages = []
    messages.append(user(last))
    asked = [choice(pick(ASK_ACT), rng.sample(list(ACTS), rng.randint(3, 6)), act)]
    if act not in asked[0][0]["criteria"]:
        asked[0][0]["criteria"][0] = act
    asked += [predicate(f"The user's last message is a {a}.".replace("a thanks", "a thank-you"), a == act) for a in rng.sample(list(ACTS), 2)]
    if act != "greeting":
        subjects = sorted({t[2] for t in TALKS} - {subject} - ({beside[2]} if kind == "beside" else set()))
        asked.append(choice(pick(ASK_SUBJECT), rng.sample([subject, *(more := rng.sample(subjects, rng.randint(1, 9)))], len(more) + 1), subject))
        asked.append(predicate(f"The user asks about {subject}.", True))
        asked.append(predicate(f"The user asks about {more[0]}.", False))
    if act not in ("question", "greeting"):
        asked.append(predicate(rng.choice(("The assistant answered the question.", "Did the assistant answer the question?")), kind == "right"))
        asked.append(predicate(rng.choice(("The assistant refused or did not know.", "Did the assistant decline to answer?")), kind == "refused"))
        named = {"right": "it answers the question", "refused": "it does not answer", "beside": "it answers something else"}
        asked.append(choice("What does the assistant do?", rng.sample(list(named.values()), 3), named[kind]))
    if act in ("thanks", "complaint"):
        levels = rng.choice((("not at all", "very"), ("dissatisfied", "neutral", "satisfied")))
        asked.append(score(pick(SATISFIED), levels, 0 if act == "complaint" else len(levels) - 1))
    state: object = messages
    if voice.chance(0.2) and len(messages) > 1:
        state = "\n".join(f"{m['role'].capitalize()}: {m['content']}" for m in messages)
    return state, rng.sample(asked, min(5, len(asked)))


CITIES = "Paris Oslo Madrid Berlin Rome Vienna Lisbon Dublin".split()
PEOPLE = "Anna Ben Carla David Elena Farid".split()
FILES = "report.txt notes.md budget.xlsx photo.png backup.zip draft.docx".split()
# name: description, request, arguments, what it changes (0 nothing, 1 something, 2 destroys)
TOOLS: dict[str, tuple[str, str, dict[str, list[str]], int]] = {
    "get_weather": ("tells the weather of a city", "What is the weather like in {city}?", {"city": CITIES}, 0),
    "search_flights": ("finds flights to a city", "Find me a flight to {city}.", {"city": CITIES}, 0),
    "send_email": ("sends a mail to a person", "Write {person} a mail that I am late.", {"person": PEOPLE}, 1),
    "delete_file": ("deletes a file for good", "Please delete {file}.", {"file": FILES}, 2),
    "read_file": ("shows what is in a file", "What is in {file}?", {"file": FILES}, 0),
    "create_event": ("writes an appointment into the calendar", "Make an appointment with {person} on Friday.", {"person": PEOPLE}, 1),
    "list_files": ("lists the files of a folder", "Which files are there?", {"folder": ["."]}, 0),
    "rename_file": ("gives a file another name", "Rename {file} to old.", {"file": FILES}, 1),
    "drop_table": ("removes a table of the database with all rows", "Remove the table of {person} from the database.", {"person": PEOPLE}, 2),
    "get_contact": ("looks up a person's telephone number", "What is the number of {person}?", {"person": PEOPLE}, 0),
    "book_hotel": ("books a room in a city", "Book a room in {city}.", {"city": CITIES}, 1),
    "set_reminder": ("reminds the user of something", "Remind me to call {person}.", {"person": PEOPLE}, 1),
    "format_disk": ("erases a whole disk", "Erase the old disk.", {"disk": ["/dev/sdb"]}, 2),
    "translate": ("translates a text", "How do you say 'good day' in the language of {city}?", {"city": CITIES}, 0),
}
ASK_TOOL = "Which tool should be called? | Choose the tool. | Which function does the user need? | Tool for this || What should the agent call? || Which of the tools helps?"
ASK_RISK = "How dangerous is the call? | Risk of the call | What can the call break? || How risky is it? || How much harm can it do?"
RISKS = (("changes nothing", "changes something", "destroys data"), ("harmless", "some risk", "dangerous"), ("read", "write", "delete"))


def call(voice: Voice) -> tuple[object, list[Asked]]:
    """A request, and perhaps a call that fits, has another argument, or is of another tool."""
    rng, pick = voice.rng, voice.pick
    name = rng.choice(list(TOOLS))
    _description, request, arguments, risk = TOOLS[name]
    given = {a: rng.choice(values) for a, values in arguments.items()}
    message = user(request.format(**given))
    others = rng.sample([t for t in TOOLS if t != name], rng.randint(1, 9))
    if voice.chance(0.4):
        tools = rng.sample([name, *others], len(others) + 1)
        options = {t: TOOLS[t][0] for t in tools} if voice.chance(0.7) else tools
        asked = [choice(pick(ASK_TOOL), options, name)]
        asked += [predicate(f"The tool {t}, which {TOOLS[t][0]}, does what the user wants.", t == name) for t in (name, others[0])]
        return [message], asked
    fits = rng.choice(("yes", "argument", "tool")) if any(len(v) > 1 for v in arguments.values()) else rng.choice(("yes", "tool"))
    called, sent = name, dict(given)
    if fits == "argument":
        key = next(a for a, v in arguments.items() if len(v) > 1)
        sent[key] = rng.choice([v for v in arguments[key] if v != given[key]])
    elif fits == "tool":
        called = others[0]
        sent = {a: rng.choice(v) for a, v in TOOLS[called][2].items()}
        risk = TOOLS[called][3]
    written = json.dumps({"name": called, "arguments": sent})
    state: object = [message, assistant(f"<tool_call>\n{written}\n</tool_call>")]
    if voice.chance(0.4):
        state = {"request": message["content"], "call": {"name": called, "arguments": sent}}
    asked = [
        predicate(rng.choice(("The call does what the user asked for.", "Does the tool call fit the request?", "The call is right.")), fits == "yes"),
        predicate(rng.choice(("The call deletes or destroys something.", "Is data lost by the call?")), risk == 2),
        predicate(rng.choice(("The call only reads.", "The call changes nothing.")), risk == 0),
        score(pick(ASK_RISK), rng.choice(RISKS), risk),
        choice(
            "What is wrong with the call?",
            rng.sample(["nothing", "the argument", "the tool"], 3),
            {"yes": "nothing", "argument": "the argument", "tool": "the tool"}[fits],
        ),
        choice("Which tool is called?", rng.sample(list(dict.fromkeys([called, name, *others])), len({called, name, *others})), called),
    ]
    return state, rng.sample(asked, 4)
