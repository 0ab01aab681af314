"""Training data for the tutorial's intrinsic: the mood of the last message, a JSON line each.

python examples/sentiment.py > sentiment.jsonl
"""

import itertools
import json
import random

MOODS = {
    "positive": (
        [
            "I loved {x}",
            "{X} made my day",
            "{X} was better than I had hoped",
            "thank you so much for {x}",
            "I could not be happier with {x}",
            "what a lovely surprise {x} was",
            "everything about {x} was just right",
            "I would do {x} again tomorrow",
            "{X} works like a charm",
            "my friends keep praising {x}",
            "I am still smiling about {x}",
            "{X} was worth every penny",
            "never had a smoother time than with {x}",
        ]
    ),
    "negative": (
        [
            "I hated {x}",
            "{X} ruined my day",
            "{X} was worse than I had feared",
            "I want my money back for {x}",
            "I could not be angrier about {x}",
            "what a mess {x} was",
            "nothing about {x} was right",
            "I would never do {x} again",
            "{X} broke after a minute",
            "my friends keep complaining about {x}",
            "I am still upset about {x}",
            "{X} was not worth a penny",
            "never had a worse time than with {x}",
        ]
    ),
    "neutral": (
        [
            "when does {x} begin",
            "{X} is on Tuesday",
            "I read a note about {x}",
            "could you tell me the price of {x}",
            "{X} takes about an hour",
            "there are two kinds of {x}, as far as I know",
            "I am comparing {x} with others",
            "where do I find {x}",
            "{X} was mentioned yesterday",
            "please add {x} to my list",
            "the sign says that {x} is upstairs",
            "somebody asked about {x}",
            "my sister lives near {x}",
        ]
    ),
}
THINGS = [
    "the concert",
    "the train ride",
    "this phone",
    "the new bakery",
    "our hotel",
    "the film",
    "the swimming course",
    "that jacket",
    "the museum",
    "the delivery",
    "the garden tour",
    "your support line",
    "the coffee here",
    "the update",
    "the language class",
    "this bicycle",
    "the festival",
    "the repair",
    "that restaurant",
    "the meeting",
    "my new desk",
    "the weekend trip",
    "the app",
    "the haircut",
    "this book",
]
BEFORE = ["", "Well, ", "To be honest, ", "You know, ", "Quick note: ", "Hello! "]
EARLIER = [
    [],
    [("Can you help me plan my week?", "Of course. What is on your list?")],
    [("Do you like music?", "I enjoy talking about it. And you?")],
    [("What is the weather like?", "I cannot see it from here, I am afraid.")],
]


def main() -> None:
    rng = random.Random(7)
    lines = []
    for mood, sayings in MOODS.items():
        for saying, thing in rng.sample(list(itertools.product(sayings, THINGS)), 220):
            said = saying.format(x=thing, X=thing[0].upper() + thing[1:])
            before = rng.choice(BEFORE)
            text = before + (said if before else said[0].upper() + said[1:]) + rng.choice([".", ".", "!", ""])
            messages = []
            for asked, answered in rng.choice(EARLIER):
                messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
            lines.append({"messages": [*messages, {"role": "user", "content": text}], "output": mood})
    rng.shuffle(lines)
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
