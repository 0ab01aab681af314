"""The wordings of questions and of what stands before them: fields of voice.choices, `train || valid || test`.

`{e}` and `{f}` are entities or numbers, `{n}` a noun phrase, `{p}` a text, `{q}` a question, `{v}` a value.
"""

from wording import BRIEFED, HANDED  # noqa: F401

FRAMES = (
    "What is {n}? | Tell me {n}. | Can you tell me {n}? | I would like to know {n}. | Do you know {n}? | Name {n}. "
    "|| Find out {n}. || Could you find {n}? | Let me know {n}, please."
)
OPENERS = (
    "{q} | {q} | {q} | {q} | {q} | {q} Answer in a few words. | A question: {q} | Quick question. {q} | {q} Be brief. | {q} Just the answer. "
    "|| {q} | {q} | Now then: {q} || {q} | {q} | One more thing. {q} | {q} Keep it short."
)
SYSTEMS = (
    "Answer briefly. | You answer questions with a few words. | Answer each question in one short sentence. | You are a quiz master's assistant. "
    "| Give short answers. || Answer in a word or two. || Reply in one sentence."
)

ANSWERS = "{v}. | {v}. | It is {v}. | {v}, of course. || The answer: {v}. || That would be {v}."

# Questions that facts.py has no attribute for, of a country or a city.
ISO = (
    "What is the two-letter country code of {e}? | Which two letters stand for {e} in ISO 3166? | What is the ISO code of {e}? "
    "| How is {e} abbreviated with two letters? || Which two-letter code belongs to {e}? || What two letters are the country code of {e}?"
)
ISO_STATED = "The two-letter code of {e} is {v}. | In ISO 3166, {e} is {v}. | {e} is abbreviated as {v}. || {v} stands for {e}. || {e} has the country code {v}."
CITY_CONTINENT = (
    "On which continent is {e}? | Which continent is {e} on? | On what continent does {e} lie? | {e} is a city on which continent? "
    "|| What is the continent of {e}? || In which part of the world is the city {e}?"
)
MORE_PEOPLE = (
    "Which has more people, {e} or {f}? | Which is larger by population, {e} or {f}? | Is {e} or {f} the more populous? "
    "|| Who has the larger population, {e} or {f}? || Which of the two is home to more people, {e} or {f}?"
)
IN_COUNTRY = (
    "Is {e} in {f}? | Does {e} lie in {f}? | Is {e} a city in {f}? | Would I find {e} in {f}? "
    "|| Does {e} belong to {f}? || Is {f} the country of {e}?"
)
YES_OR_NO = "{q} | {q} Yes or no? | {q} Answer with yes or no. || {q} | {q} Say yes or no. || {q} | Yes or no: {q}"
IS_CAPITAL = (
    "Is {e} the capital of {f}? | Is {f} governed from {e}? | Is the capital of {f} {e}? "
    "|| Is it {e} that is the capital of {f}? || Does {e} serve as the capital of {f}?"
)

# Arithmetic and comparisons of numbers.
SUM = (
    "What is {e} plus {f}? | {e} + {f} = ? | How much is {e} and {f} together? | Add {e} and {f}. | What do {e} and {f} add up to? "
    "|| Give the total of {e} and {f}. || What is the sum of {e} and {f}?"
)
DIFFERENCE = (
    "What is {e} minus {f}? | {e} - {f} = ? | Subtract {f} from {e}. | How much is left if I take {f} from {e}? "
    "|| What is {e} less {f}? || What is the difference between {e} and {f}?"
)
PRODUCT = (
    "What is {e} times {f}? | {e} * {f} = ? | Multiply {e} by {f}. | How much is {e} times {f}? "
    "|| What do I get when I multiply {e} by {f}? || What is the product of {e} and {f}?"
)
LARGER = (
    "Which is larger, {e} or {f}? | Which number is greater, {e} or {f}? | What is more, {e} or {f}? | Is {e} or {f} the bigger number? "
    "|| Name the larger of {e} and {f}. || Which one is the higher number, {e} or {f}?"
)
IS_LARGER = "Is {e} larger than {f}? | Is {e} greater than {f}? | Is {e} more than {f}? || Is {e} a bigger number than {f}? || Does {e} exceed {f}?"
