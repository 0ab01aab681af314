"""Mails to a firm, written by hand in parts: what happened, what is wanted, how angry, how soon, and questions about each."""

from rows import Asked, choice, predicate, score
from voice import Voice

# What happened, by the team that it is for: `train | train || valid || test`.
TEAMS = {
    "billing": (
        "invoices, charges, payments",
        (
            "I was charged twice this month. | My invoice shows the wrong amount. | You took 40 euros from my card and I do not know why. | The "
            "discount was not applied to my bill. | My payment was declined although there is money on the account. | I need a corrected invoice "
            "with our tax number. | The price on the receipt is not the one on your website. || There is a fee on my statement that nobody told me about. || "
            "My last bill is far too high. | I have paid the same invoice two times."
        ),
    ),
    "shipping": (
        "parcels, delivery, addresses",
        (
            "My parcel has not arrived. | The courier left the box in the rain. | Tracking has said 'in transit' for nine days. | I gave the wrong "
            "street, can the address still be changed? | Half of the order is missing from the box. | The package went to my neighbour, who is away. | "
            "Nobody rang, and now there is a card that says I was not at home. || The delivery was promised for Monday and it is Thursday. || My order "
            "is lost somewhere between your depot and my door. | The driver delivered someone else's parcel to me."
        ),
    ),
    "technical": (
        "software, crashes, errors",
        (
            "The app crashes when I open the settings. | I get error 502 on every page. | Since the update nothing loads. | The export to PDF gives an "
            "empty file. | The website freezes on my phone. | Your API returns an old version of our data. | The printer software does not find the "
            "printer. || After the restart the screen stays black. || The program closes itself as soon as I press save. | Uploading a picture fails "
            "with a red message."
        ),
    ),
    "account": (
        "login, passwords, profile",
        (
            "I cannot log in any more. | The reset link for my password does not come. | Please change the e-mail address of my profile. | My account "
            "has been locked after three attempts. | I want to delete my account. | The code by text message never arrives. | How do I add a second "
            "user to our account? || It says that my user name does not exist. || I forgot my password and the secret question. | Please merge my two profiles."
        ),
    ),
    "returns": (
        "sending goods back, warranty, exchange",
        (
            "The shoes are too small and I want to send them back. | The kettle broke after two weeks. | I got the blue one, but ordered green. | The "
            "zip of the tent is torn. | How do I return a gift without the receipt? | The lamp arrived with a broken shade. | I would like to exchange "
            "the jacket for a larger one. || The headphones hum on the left side, and they are a month old. || The blender smells burnt, it is still "
            "under warranty. | The dress does not fit, where do I send it?"
        ),
    ),
    "sales": (
        "questions before buying, offers",
        (
            "Which of your laptops would suit a student? | Do you give a discount for twenty licences? | Is the red model available again soon? | We "
            "would like an offer for our office of thirty people. | What is the difference between the basic and the pro plan? | Does the camera come "
            "with a lens? | Can I try the service before I buy it? || Do you also sell spare batteries? || How much would fifty chairs cost? | Is there a "
            "cheaper plan for schools?"
        ),
    ),
    "jobs": (
        "applications, internships",
        (
            "I would like to apply for the post in your warehouse. | Do you take interns in summer? | I sent my application three weeks ago. | Is the "
            "position of accountant still open? | Attached you find my CV. | My daughter is looking for an apprenticeship. || Are you hiring drivers at the "
            "moment? || I saw your advertisement for a designer and want to apply. | When do job interviews take place?"
        ),
    ),
    "privacy": (
        "personal data, consent, unsubscribing",
        (
            "Please delete all data that you keep about me. | Take me off your mailing list. | Who did you give my telephone number to? | I want a copy of "
            "everything that you store about me. | I never agreed to your newsletter. | Which cookies does your site set? || Stop sending me advertising. || "
            "How long do you keep my personal data? | I withdraw my consent to the use of my photograph."
        ),
    ),
    "events": (
        "workshops, tickets, venue",
        (
            "Are there tickets left for Saturday's concert? | Where do I park at the workshop? | I cannot come on Friday, may a friend use my ticket? | At "
            "what time do the doors open? | Is the hall accessible by wheelchair? | Will the talk be recorded? || May children come to the evening show? || "
            "Our group of ten would like to book the tour. | Is the seminar held online too?"
        ),
    ),
    "press": (
        "journalists, photographs, interviews",
        (
            "I write for the local paper and would like an interview. | May we print your photograph of the factory? | Our radio station is preparing a "
            "programme on your firm. | Please send me the press release of last week. || I am a journalist and have three questions for your director. || "
            "Could our film crew visit your plant? | For an article I need figures on your sales."
        ),
    ),
}
OTHER = ("something else", "none of the others")
WANTS = {
    "refund": (
        "wants the money back",
        "Please give me my money back. | I expect a full refund. | I want to be refunded. || Return the money to my card. || Pay back what I paid.",
    ),
    "replacement": (
        "wants a new one",
        "Please send me a new one. | I would like a replacement. | Can I have another one instead? || Just swap it for one that works. || I need you to replace it.",
    ),
    "callback": (
        "wants to be phoned",
        "Please call me. | Can someone ring me this afternoon? | I would rather talk on the phone. || Give me a call tomorrow. || I am waiting for your phone call.",
    ),
    "cancellation": (
        "wants to end the contract",
        "I want to cancel my contract. | Please end my subscription. | I hereby give notice. || I quit, cancel everything. || Consider my membership cancelled.",
    ),
    "explanation": (
        "wants to know why",
        "Please explain how this could happen. | I would like to know the reason. | Can you tell me why? || I want to understand what went wrong. || What is the cause of this?",
    ),
}
ANGER = (
    "Thank you for your help. | Have a nice day. | Thanks in advance! | I really like your shop. | Take your time. || Many thanks and kind regards. || I appreciate your work.",
    "This is a little annoying. | I am not happy about this. | That should not happen. | I had expected better. | It is rather disappointing. || This is getting tiresome. || I am somewhat displeased.",
    "This is an outrage! | I have never been treated so badly! | You are the worst firm I know! | I am furious! | Are you all asleep over there? || What a shameless swindle! || I am boiling with rage!",
)
URGENCY = (
    "There is no hurry. | Whenever you find the time. | It can wait until next month. || No need to rush. || It does not matter when.",
    "I would be glad to hear from you this week. | Please reply in the next days. | It would be good to have it settled by Friday. || An answer this week would help. || I hope to hear from you within some days.",
    "I need an answer today! | This is urgent. | It has to be solved within the hour. | We cannot work until this is fixed. || Reply at once, please. || Every minute counts.",
)
HELLO = "Hello, | Dear team, | Hi there, | Good morning, | To whom it may concern, | || Good day, || Hey, | Dear Sir or Madam,"
FIRST = "It is the first time that I write to you. || I have never written to you before. || This is my first mail."
AGAIN = "This is my third mail about it. | I have written twice already. | Nobody has answered my first mail. || I am writing again. || You have ignored my earlier mails."
NAMES = "Anna Weber | Tom Baker | R. Gupta | Mrs. Okafor | Luis | J. Kowalski || Ben Hansen || Mia Castillo"

ASK_TEAM = (
    "Which team should take this? | Who should answer the mail? | Route this message. | What is the mail about? | Where does this belong? | Choose the department. "
    "|| Who is in charge of it? || To which team should it go?"
)
ASK_WANT = "What does the writer want? | What is being asked for? | Which of these does the customer ask for? | Goal of the sender || What should we do for the customer? || What would the sender like to get?"
ASK_ANGER = "How angry is the writer? | Tone of the message | How upset is the customer? | Rate the anger. || How annoyed do they sound? || How strong is the anger in it?"
ASK_URGENCY = (
    "How urgent is it? | How soon is an answer needed? | Priority | Rate the urgency. || How much does it hurry? || How quickly do they need us?"
)
ANGERS = (("calm", "annoyed", "furious"), ("not at all", "a little", "very"), ("friendly", "displeased", "outraged"), ("low", "medium", "high"))
URGENCIES = (
    ("low", "normal", "high"),
    ("can wait", "this week", "today"),
    ("not urgent", "somewhat urgent", "very urgent"),
    ("no hurry", "soon", "at once"),
)


def mail(voice: Voice) -> tuple[object, list[Asked]]:
    """A mail, or a JSON object with one, and what is asked about it."""
    rng, pick = voice.rng, voice.pick
    team = rng.choice(list(TEAMS))
    want = rng.choice([*WANTS, None, None]) if team in ("billing", "shipping", "technical", "account", "returns") else None
    anger, urgency = rng.choice((0, 0, 1, 2, None)), rng.choice((0, 1, 2, None, None))
    again = rng.choice((True, False, None, None))
    number = f"{rng.choice('ABKX')}-{rng.randint(1000, 99999)}" if voice.chance(0.4) else None
    parts = [pick(TEAMS[team][1])]
    parts += [pick(WANTS[want][1])] if want else []
    parts += [pick(ANGER[anger])] if anger is not None else []
    parts += [pick(URGENCY[urgency])] if urgency is not None else []
    parts += [pick(AGAIN if again else FIRST)] if again is not None else []
    parts += [rng.choice((f"My order number is {number}.", f"Order {number}.", f"(Reference: {number})"))] if number else []
    head, tail = parts[0], parts[1:]
    rng.shuffle(tail)
    name = pick(NAMES)
    text = " ".join([pick(HELLO), head, *tail, name if voice.chance(0.5) else ""]).strip()
    state: object = text
    if voice.chance(0.15):
        state = {"from": name, "subject": rng.choice(("A question", "Help", "Order", "(none)")), "body": text}
    asked = [_team(voice, team), _team(voice, team)]
    if want:
        asked.append(choice(pick(ASK_WANT), _some(voice, {w: d for w, (d, _) in WANTS.items()}, want), want))
    if anger is not None:
        asked.append(score(pick(ASK_ANGER), rng.choice(ANGERS), anger))
    if urgency is not None:
        asked.append(score(pick(ASK_URGENCY), rng.choice(URGENCIES), urgency))
    said = {
        "The customer wants the money back.": want == "refund",
        "Does the writer ask for a refund?": want == "refund",
        "The writer wants to be called by phone.": want == "callback",
        "The sender wants to cancel the contract.": want == "cancellation",
        "The mail has an order number.": number is not None,
        "Is a reference or order number given?": number is not None,
        "The writer is angry.": anger == 2,
        "The customer is polite.": anger == 0 if anger in (0, 2) else None,
        "It is urgent.": urgency == 2,
        "The person has written before.": again if again is not None else None,
        f"This is about {TEAMS[team][0]}.": True,
        f"The mail is about {TEAMS[other := rng.choice([t for t in TEAMS if t != team])][0]}.": False,
        f"Should the {other} team answer this?": False,
        f"Should the {team} team answer this?": True,
    }
    true, false = ([s for s, right in said.items() if right is value] for value in (True, False))
    asked += [predicate(rng.choice(true), True), predicate(rng.choice(false), False)]
    return state, rng.sample(asked, min(len(asked), 5))


def _team(voice: Voice, team: str) -> Asked:
    """Sometimes the right one is missing, and `something else` is right."""
    options = {t: d for t, (d, _) in TEAMS.items()}
    right: str = team
    if voice.chance(0.12):
        options, right = {**{t: d for t, d in options.items() if t != team}, OTHER[0]: OTHER[1]}, OTHER[0]
    elif voice.chance(0.2):
        options = {**options, OTHER[0]: OTHER[1]}
    described = _some(voice, options, right)
    if voice.chance(0.2):  # the descriptions as names
        return choice(voice.pick(ASK_TEAM), [options[o] or o for o in described], options[right])
    if voice.chance(0.15):
        described = {o.upper() if right != OTHER[0] else o: d for o, d in options.items() if o in described}
        return choice(voice.pick(ASK_TEAM), described, right if right == OTHER[0] else right.upper())
    if voice.chance(0.4):
        return choice(voice.pick(ASK_TEAM), list(described), right)
    return choice(voice.pick(ASK_TEAM), {o: options[o] for o in described}, right)


def _some(voice: Voice, options: dict[str, str], right: str) -> list[str]:
    """Two to all of the names, the right one among them."""
    others = [o for o in options if o != right]
    chosen = [right, *voice.rng.sample(others, voice.rng.randint(1, len(others)))]
    voice.rng.shuffle(chosen)
    return chosen
