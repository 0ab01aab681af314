"""The wordings of conversations: fields of voice.choices, `train || valid || test`.

`{e}` is an entity, `{f}` another, `{n}` a noun phrase, `{x}` a short noun, `{k}` a kind of entity, `{v}` a value.
"""

FRAMES = (
    "What is {n}? | Tell me {n}. | Can you tell me {n}? | I would like to know {n}. | Do you know {n}? | I want to know {n}. | Name {n}. "
    "|| Find out {n}. | Would you tell us {n}? || Could you find {n}? | Let me know {n}, please."
)
BROAD = (
    "Tell me about {e}. | What do you know about {e}? | I have a question about {e}. | Let us talk about {e}. | Say something about {e}. "
    "| I read about {e} today. | My sister asked me about {e}. | Do you know {e}? "
    "|| Describe {e}. | Is {e} familiar to you? || I am interested in {e}. | Have you heard of {e}?"
)
READY = "Sure. | Of course. | Yes. What would you like to know? | Go ahead. | Gladly. || By all means. | Yes, ask. || Certainly. | What about it?"
ANSWERS = (
    "{v}. | {v}. | It is {v}. | The answer is {v}. | That is {v}. | {v}, as far as I know. | I think it is {v}. "
    "|| Most likely {v}. | {v}, I should say. || That would be {v}. | As far as I can tell, {v}."
)
DETAILS = "Here you are: {v}. | Sure: {v}. | Yes, {v}. || Of course, {v}. || Let me see: {v}."
UNKNOWN = "I am not sure. | I do not know. || I cannot tell. || That I do not know."
SYSTEMS = (
    "You are a helpful assistant. | Answer briefly. | You answer questions. | Be polite. | You are a travel guide. | Use short sentences. "
    "|| Keep to the facts. || Reply in one sentence."
)
EARLIER = (
    "Hi!/Hello! How can I help you? | Good morning./Good morning! | Thanks for yesterday./You are welcome! | What is two plus two?/Four. "
    "|| Good evening./Good evening! || Are you there?/Yes, I am here."
)

# How the last question starts, kept word for word.
OPENERS = "{q} | {q} | {q} | {q} | {q} | {q} | {q} | {q} | {q} | Thanks. {q} | And {s} | Okay. {q} | {q} Thanks! || {q} | {q} | {q} | I see. {q} || {q} | {q} | {q} | {q} | Interesting. {q}"

# One of several entities: its kind, or its place in what was said.
KIND = "the {k} | this {k} | the {k} || that {k} || the {k} | that same {k}"
FIRST = "the first one | the former | the first of them | the first || the one I named first || the first of the two"
SECOND = "the second one | the latter | the second of them | the second || the one I named last || the second of the two"
OTHER = "the other one | the other || the other of them || the other of the two"
BOTH = (
    "I am comparing {e} and {f}. | There are two that interest me: {e} and {f}. | Let us look at {e} and {f}. | First {e}, then {f}. "
    "| Do you know {e} and {f}? || My topics are {e} and {f}. || I have to choose between {e} and {f}. | Here are two names: {e} and {f}."
)

# Ellipses: another entity with the question before, or another attribute of the same entity.
SAME_ASKED = (
    "And {e}? | What about {e}? | How about {e}? | {e}? | And what about {e}? | The same for {e}, please. | And for {e}? | Now {e}. "
    "| Same question for {e}. || And how about {e}? | Next, {e}. || Then what about {e}? | And in the case of {e}? | Now the same for {e}."
)
OTHER_ASKED = (
    "And its {x}? | What about its {x}? | And the {x}? | How about the {x}? | What about the {x}? | The {x}? | And what about its {x}? "
    "|| And how about its {x}? | Its {x} too, please. || Then what about the {x}? | The {x} as well? | And its {x}, please?"
)

# Which of two is more; the answer names one of them.
COMPARED = {
    "country": (
        "Which has more people, {e} or {f}? | Where do more people live, in {e} or in {f}? | Is {e} or {f} the more populous? "
        "|| Who has the larger population, {e} or {f}? || Do more people live in {e} or in {f}?"
    ),
    "building": "Which is taller, {e} or {f}? | What is higher, {e} or {f}? || Is {e} or {f} the taller one? || Which of them is higher, {e} or {f}?",
    "scientist": "Who was born earlier, {e} or {f}? | Who is older, {e} or {f}? || Who came first, {e} or {f}? || Which of them was born first, {e} or {f}?",
    "novel": "Which is older, {e} or {f}? | What was printed first, {e} or {f}? || Which came out earlier, {e} or {f}? || Which of them is the older book, {e} or {f}?",
    "element": "Which is heavier, {e} or {f}? | Which atom has more protons, {e} or {f}? || Which comes later in the table, {e} or {f}? || Which has the higher number, {e} or {f}?",
}
COMPARED["city"] = COMPARED["country"]
WINNER = "{e}. | {e}, by far. | It is {e}. | That is {e}. | The answer is {e}. || I think {e}. || That would be {e}. | Clearly {e}."

COMPLETE = (
    "How do I bake bread? | What is seventeen times three? | Why is the sky blue? | How can I learn to play the guitar? "
    "| What should I cook tonight? | How does a refrigerator work? | How do I remove a coffee stain? | When was the telephone invented? "
    "| How many legs has a spider? | How do I change a tyre? | Who painted the Mona Lisa? | Why do cats purr? | How long should I boil an egg? "
    "| Which wine goes with fish? | Is it going to rain tomorrow? | What time is it in Tokyo? | How far is the moon from the earth? "
    "|| How do I tie a tie? | What causes thunder? | Who discovered America? "
    "|| Which shoes are best for running? | How do vaccines work? | What is the square root of eighty-one? | Can you recommend a film?"
)
