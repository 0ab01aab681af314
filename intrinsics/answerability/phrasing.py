"""How facts and questions are worded, with the wordings that only validation and only the test set use.

A field such as `"a | b || c || d"` holds the wordings `a` and `b` for training, `c` for validation and `d` for testing;
those of the attributes are in `../wordings.toml`. `{e}` is the entity, `{v}` the value, `{n}` a noun phrase, `{q}` a
question, `{p}` a passage.
"""

from wording import BRIEFED, FRAMES, GENERIC, HANDED, PEOPLE, WORDINGS  # noqa: F401  phrased alike in all data

# The value of the second can be guessed from the value of the first: no question about it is called unanswerable then.
GIVES_AWAY = {("timezone", "country"), ("timezone", "longitude"), ("number", "symbol"), ("symbol", "number"), ("birthplace", "birth")}

OPENERS = (
    "{q} | {q} | {q} | {q} | {q} | According to the passage: {q} | A question: {q} | Hello! {q} | {q} Thanks! | Please help me. {q} "
    "| I have read the text, but I am not sure. {q} | {q} Answer in a few words. | My son asks: {q} | Quick question. {q} "
    "|| {q} | {q} | Now then: {q} | {q} Be brief. "
    "|| {q} | {q} | Going by this text: {q} | One more thing. {q}"
)

LAYOUTS = (
    "Passage: {p}\nQuestion: {q} | Context: {p}\n\nQuestion: {q} | Document:\n{p}\n\n{q} | {p}\n\n{q} | Read this: {p} {q} "
    "| Here is a text.\n\n{p}\n\nUsing only the text, answer this: {q} | [document]\n{p}\n[question]\n{q} | {p}\n{q} "
    "| {p}\n\nQuestion: {q} | Information:\n{p}\n\nUser question: {q} | I found this: {p}\n\n{q} | <text>\n{p}\n</text>\n\n{q} "
    "| Notes:\n{p}\n---\n{q} | Passage:\n{p}\n\nQuestion:\n{q}\n\nAnswer: "
    "| {q}\n\n{p} | Question: {q}\nPassage: {p} "
    "|| Article: {p}\n\nAsked: {q} | This is what I know. {p} So: {q} | {p} My question: {q} | Please answer: {q}\n\nUse this: {p} "
    '|| Text: {p}\nQ: {q} | {p} {q} | Source:\n"{p}"\n\nMy question: {q} | I have a question: {q} The text I have is this: {p}'
)

# How the facts of one entity are laid out: sentences, or a list with a heading `{e}` and an item for every fact.
ITEMS = "- {l}: {v} | * {l} = {v} | {l}: {v} | {l} - {v} | - {l} ({v}) || + {l}: {v} || {l} / {v}"
HEADINGS = "{e} | About {e}: | # {e} | {e}: | Data of {e} || What we know of {e} || Facts on {e}"

# How two facts share a sentence in training; `{a}` and `{b}` are clauses, or `{b}` and `{c}` what is said of the subject `{s}`.
JOINED = "{a}, and {b}. | {a}; {b}. | {a}, while {b}. | While {a}, {b}. | {a} - {b}. | {a}, but {b}."
JOINED_SUBJECT = "{s} {b} and {c}. | {s} {b}, and {c}. | {s}, which {b}, {c}. | {s}, which {b}, also {c}."

REMARKS = (
    "This note was checked last week. | More details are available on request. | Here is what is known so far. | The list is not complete. "
    "| Please read carefully. | Many people have asked about this. | We wrote it down for visitors. | It is worth remembering. "
    "| There is a photograph on the next page. | This was news to many readers. | A friend of mine told me so. | Not everyone knows that. "
    "| Opinions differ about the rest. | The weather was fine when this was written. | Nothing else was said at the meeting. "
    "| For years, nobody had looked into the matter. | The editor has added a map. | Some of this may change next year. "
    "|| All of it comes from an old booklet. | We will add to this page in spring. "
    "|| These lines were copied from a leaflet. | Other points will follow later."
)

OFF_TOPIC = (
    "How do I bake bread? | What is seventeen times three? | Who won the football match yesterday? | Why is the sky blue? "
    "| How can I learn to play the guitar? | What should I cook tonight? | How does a refrigerator work? | What is the meaning of life? "
    "| How do I remove a coffee stain? | When was the telephone invented? | Can you write a poem about autumn? | How many legs has a spider? "
    "| What is the best way to sleep well? | How do I change a tyre? | Who painted the Mona Lisa? | What rhymes with orange? "
    "| Why do cats purr? | How long should I boil an egg? | Which wine goes with fish? | Is it going to rain tomorrow? "
    "|| How do I tie a tie? | What causes thunder? | Who discovered America? "
    "|| Which shoes are best for running? | How do vaccines work? | What is the square root of eighty-one? | Can you recommend a film?"
)

SYSTEMS = (
    "You are a helpful assistant. | Answer briefly. | You answer questions about documents. | You are a careful librarian. "
    "| Be polite and keep your answers short. | You help customers of a company. | Use only the text that the user gives you. "
    "| You are a teacher who explains texts. | If you do not know the answer, say so. | You work at an information desk. "
    "| Answer from the passage. Do not guess. | You are an assistant for travellers. "
    "|| You are a patient tutor. | Keep to the facts. "
    "|| You are a concise research assistant. | Reply in one sentence. | You are the support desk of a public library."
)

EARLIER = (
    "Hi!/Hello! How can I help you today? | Thanks for the help yesterday./You are welcome! "
    "| What is two plus two?/Two plus two is four. | Can you tell a joke?/Why did the bicycle fall over? It was two tired. "
    "| Which is faster, a train or a bus?/Usually the train. | Good morning./Good morning! What would you like to know? "
    "| I have a text for you./Please send it. | What colour is a lemon?/Yellow. | Can you read a text for me?/Of course. "
    "|| Good evening./Good evening! | What is the opposite of hot?/Cold. "
    "|| Are you there?/Yes, I am here. | Give me a synonym of big./Large. | How are you?/I am fine, thank you for asking."
)
