"""Training data for the tutorial's router: 300 mails to a bicycle shop, a JSON line each.

python examples/mails.py > mails.jsonl
"""

import json
import random

TEAMS = {
    "workshop": "repairs and inspections",
    "orders": "parcels, delivery, what is in stock",
    "billing": "invoices, payments, refunds",
    "rental": "bicycles for some days",
}
SAID = {
    "workshop": [
        "the brakes of my bicycle squeak since Monday",
        "the chain jumps off whenever I change gear",
        "I need an inspection before the summer tour",
        "the back wheel is no longer round",
        "can you replace a broken spoke until Friday",
        "the light flickers although the battery is new",
        "my saddle has come loose",
        "somebody has bent my handlebar",
    ],
    "orders": [
        "the helmet that I ordered has not come",
        "is the blue child's bicycle in stock again",
        "the parcel with the tyres was left in the rain",
        "I got two left pedals",
        "please send the lock to my office in place of my home",
        "the tracking page has shown nothing for a week",
        "half of the box was empty",
        "do you deliver to the islands",
    ],
    "billing": [
        "you have charged my card twice",
        "the invoice for the bell shows the wrong amount",
        "the discount for members is missing on my bill",
        "I need a receipt with our tax number",
        "I have paid, and now there is a reminder",
        "which bank account should I pay to",
        "there is a fee on the bill that nobody told me about",
        "my voucher was not accepted at the till",
    ],
    "rental": [
        "we would like two e-bikes for the weekend",
        "can I return the cargo bike a day later",
        "how much is a tandem for three days",
        "is there a child seat for the rented bicycle",
        "do I need an identity card to rent",
        "we have to cancel our reservation for Saturday",
        "where do we pick up the bicycles that we booked",
        "may the rented bicycle cross the border",
    ],
}
REFUND = ["please give me my money back", "I expect a refund", "I want to be paid back"]
TONES = [
    ["thank you very much", "have a nice day", "I have always liked your shop"],
    ["this is a little annoying", "I had expected better", "that should not happen"],
    ["this is an outrage", "I am furious", "I have never been treated so badly"],
]
HELLO = ["Hello", "Dear team", "Good morning", "Hi"]


def row(rng: random.Random) -> dict:
    """A mail, two or three questions about it, and what is right."""
    team, tone, refund = rng.choice(list(TEAMS)), rng.randrange(3), rng.random() < 0.4
    parts = [rng.choice(SAID[team]), *([rng.choice(REFUND)] if refund else []), rng.choice(TONES[tone])]
    mail = f"{rng.choice(HELLO)}, " + ". ".join(part if i == 0 else part[0].upper() + part[1:] for i, part in enumerate(parts)) + "."
    questions = {
        "team": {"type": "choice", "instructions": "Who should take this mail?", "criteria": TEAMS},
        "refund": {"type": "predicate", "instructions": "The customer wants the money back."},
        "anger": {"type": "score", "instructions": "How angry is the customer?", "criteria": ["calm", "annoyed", "furious"]},
    }
    right = {"team": team, "refund": refund, "anger": tone}
    asked = ["team", *rng.sample(["refund", "anger"], rng.choice((1, 2)))]
    return {"state": mail, "questions": {name: questions[name] for name in asked}, "right": {name: right[name] for name in asked}}


if __name__ == "__main__":
    chance = random.Random(1)
    for _ in range(300):
        print(json.dumps(row(chance)))
