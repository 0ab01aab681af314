"""How facts and questions are worded, with the wordings that only the test set uses.

A field such as `"a | b || c"` holds the wordings `a` and `b` for training and validation, and `c` for testing. `{e}` is
the entity, `{v}` the value; a noun phrase `n` is put into the question frames, next to questions worded in full.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """One attribute's wordings: a label for lists, statements, noun phrases, and full questions."""

    label: str
    statements: str
    nouns: str
    questions: str


def choices(field: str, held_out: bool) -> list[str]:
    """The wordings of a field: those after `||` for testing, those before it otherwise."""
    return [part.strip() for part in field.split("||")[held_out].split(" | ")]


W = Wording
WORDINGS: dict[str, dict[str, Wording]] = {
    "country": {
        "capital": W("Capital", "The capital of {e} is {v}. | {v} is the capital of {e}. | {e} is governed from its capital, {v}. || {e} has {v} as its capital city.", "the capital of {e} | {e}'s capital city || the seat of government of {e}", "What is the capital of {e}? | Which city is the capital of {e}? || Which city serves as the capital of {e}?"),
        "currency": W("Currency", "The currency of {e} is {v}. | People in {e} pay with {v}. | {e} uses {v} as its money. || Prices in {e} are given in {v}, the national currency.", "the currency of {e} | the money used in {e} || the legal tender of {e}", "Which currency is used in {e}? | What do people in {e} pay with? || What money would I need in {e}?"),
        "population": W("Population", "{e} has a population of {v}. | The population of {e} is {v}. | {v} people live in {e}. || With {v} inhabitants, {e} keeps growing.", "the population of {e} | the number of people in {e} || the number of inhabitants of {e}", "How many people live in {e}? | What is the population of {e}? || How populous is {e}?"),
        "area": W("Area", "{e} covers an area of {v}. | The area of {e} is {v}. | {e} has a surface of {v}. || The territory of {e} extends over {v}.", "the area of {e} | the size of {e} in square kilometres || the surface area of {e}", "How large is {e}? | What area does {e} cover? || How many square kilometres does {e} measure?"),
        "continent": W("Continent", "{e} is located in {v}. | {e} lies in {v}. | {e} belongs to the continent of {v}. || On the map, {e} is found in {v}.", "the continent of {e} | the continent that {e} lies in || the part of the world where {e} lies", "On which continent is {e}? | Which continent does {e} belong to? || In what part of the world is {e}?"),
        "calling": W("Calling code", "The calling code of {e} is {v}. | To call {e} from abroad, dial {v}. | Phone numbers in {e} start with {v}. || Anyone phoning {e} has to dial {v} first.", "the calling code of {e} | the phone prefix of {e} || the dialling code for {e}", "Which calling code does {e} have? | What do I dial to phone {e}? || How do phone numbers of {e} begin?"),
        "domain": W("Internet domain", "The internet domain of {e} is {v}. | Websites in {e} end in {v}. | {e} has the top-level domain {v}. || On the web, addresses from {e} carry the ending {v}.", "the internet domain of {e} | the top-level domain of {e} || the web ending for {e}", "Which internet domain does {e} use? | What do websites from {e} end in? || What ending do web addresses of {e} have?"),
        "language": W("Main language", "The main language of {e} is {v}. | Most people in {e} speak {v}. | {v} is the most common language in {e}. || In {e}, daily life is mostly conducted in {v}.", "the main language of {e} | the language spoken in {e} || the most widespread language of {e}", "Which language is spoken in {e}? | What language do people speak in {e}? || What do most inhabitants of {e} speak?"),
        "neighbours": W("Neighbours", "{e} shares borders with {v}. | The neighbours of {e} include {v}. | {e} is next to {v}. || Across the borders of {e} lie {v}.", "the neighbours of {e} | the countries that border {e} || the states adjacent to {e}", "Which countries border {e}? | What are the neighbours of {e}? || Who does {e} share a border with?"),
        "largest": W("Largest city", "The largest city of {e} is {v}. | {v} is the biggest city in {e}. | More people live in {v} than in any other city of {e}. || No city in {e} is bigger than {v}.", "the largest city of {e} | the biggest city in {e} || the most populous city of {e}", "Which city is the largest in {e}? | What is the biggest city in {e}? || Which city in {e} has the most people?"),
    },
    "city": {
        "country": W("Country", "{e} is a city in {v}. | {e} lies in {v}. | The city of {e} belongs to {v}. || Travellers find {e} in {v}.", "the country of {e} | the country where {e} lies || the nation that {e} is part of", "In which country is {e}? | Which country is {e} in? || What country would I travel to in order to see {e}?"),
        "population": W("Population", "{e} has {v} inhabitants. | {v} people live in {e}. | The population of {e} is {v}. || The city of {e} is home to {v} people.", "the population of {e} | the number of people in {e} || the number of residents of {e}", "How many people live in {e}? | How many inhabitants does {e} have? || How big is the population of {e}?"),
        "timezone": W("Time zone", "{e} is in the time zone {v}. | Clocks in {e} follow {v}. | The time zone of {e} is {v}. || Computers in {e} are set to the zone {v}.", "the time zone of {e} | the time zone used in {e} || the zone that clocks in {e} follow", "Which time zone is {e} in? | What time zone does {e} use? || What zone should a clock in {e} be set to?"),
        "latitude": W("Latitude", "{e} lies at a latitude of {v}. | The latitude of {e} is {v}. | {e} is found {v} of the equator. || Measured from the equator, {e} is at {v}.", "the latitude of {e} | the distance in degrees between {e} and the equator || the parallel on which {e} lies", "What is the latitude of {e}? | At which latitude does {e} lie? || How many degrees from the equator is {e}?"),
        "longitude": W("Longitude", "{e} lies at a longitude of {v}. | The longitude of {e} is {v}. | {e} is found {v} of Greenwich. || Measured from Greenwich, {e} is at {v}.", "the longitude of {e} | the distance in degrees between {e} and Greenwich || the meridian on which {e} lies", "What is the longitude of {e}? | At which longitude does {e} lie? || How many degrees from Greenwich is {e}?"),
    },
    "currency": {
        "code": W("Code", "The code of {e} is {v}. | {e} is abbreviated as {v}. | Banks write {v} for {e}. || In exchange tables {e} appears as {v}.", "the code of {e} | the abbreviation of {e} || the three letters for {e}", "What is the code of {e}? | How is {e} abbreviated? || Which letters stand for {e}?"),
        "numeric": W("Number", "The standard number of {e} is {v}. | {e} has the numeric code {v}. | In the ISO list {e} has number {v}. || Machines know {e} by the number {v}.", "the numeric code of {e} | the ISO number of {e} || the number that stands for {e}", "Which number does {e} have? | What is the numeric code of {e}? || By which number is {e} known?"),
        "users": W("Used in", "{e} is used in {v}. | People pay with {e} in {v}. | {e} is the money of {v}. || Shops in {v} accept {e}.", "the place where {e} is used | the home of {e} || the territory that issues {e}", "Where is {e} used? | Who uses {e}? || Where can one pay with {e}?"),
    },
    "element": {
        "symbol": W("Symbol", "The symbol of {e} is {v}. | Chemists write {v} for {e}. || In formulas {e} appears as {v}.", "the symbol of {e} | the chemical symbol for {e} || the letters that stand for {e}", "What is the symbol of {e}? | How do chemists write {e}? || How is {e} written in formulas?"),
        "number": W("Atomic number", "The atomic number of {e} is {v}. | {e} has the atomic number {v}. || An atom of {e} has {v} protons.", "the atomic number of {e} | the number of protons in {e} || the position of {e} in the periodic table", "What is the atomic number of {e}? | How many protons does {e} have? || Which atomic number belongs to {e}?"),
        "discovery": W("Discovered", "{e} was discovered in {v}. | The discovery of {e} dates from {v}. || {e} has been known to science since {v}.", "the year in which {e} was discovered | the date of the discovery of {e} || the year when {e} was first described", "When was {e} discovered? | In which year was {e} found? || How long has {e} been known to science?"),
        "state": W("At room temperature", "At room temperature {e} is {v}. | {e} is {v} at 20 degrees. || In a normal room {e} takes the form of {v}.", "the state of {e} at room temperature | the form of {e} at 20 degrees || the physical state of {e} in a normal room", "Is {e} solid, liquid or gas? | What state is {e} in at room temperature? || Is {e} a gas in a normal room?"),
        "use": W("Main use", "{e} is used for {v}. | A common use of {e} is {v}. || Industry relies on {e} for {v}.", "a common use of {e} | the use of {e} || the purpose {e} serves in industry", "What is {e} used for? | Where is {e} used? || Why does industry need {e}?"),
    },
    "novel": {
        "author": W("Author", "{e} was written by {v}. | The author of {e} is {v}. || {v} penned {e}.", "the author of {e} | the writer of {e} || the name of the person who penned {e}", "Who wrote {e}? | Who is the author of {e}? || Whose book is {e}?"),
        "year": W("Published", "{e} was published in {v}. | {e} first appeared in {v}. || Readers could buy {e} for the first time in {v}.", "the year in which {e} was published | the publication date of {e} || the year {e} came out", "When was {e} published? | In which year did {e} appear? || When did {e} come out?"),
        "setting": W("Setting", "The story of {e} is set in {v}. | {e} takes place in {v}. || The scene of {e} is {v}.", "the setting of {e} | the place where {e} is set || the scene of {e}", "Where is {e} set? | Where does {e} take place? || Where does the story of {e} unfold?"),
        "hero": W("Main character", "The main character of {e} is {v}. | {e} tells the story of {v}. || At the centre of {e} stands {v}.", "the main character of {e} | the hero of {e} || the figure at the centre of {e}", "Who is the main character of {e}? | Who is {e} about? || Whom does {e} follow?"),
    },
    "animal": {
        "habitat": W("Habitat", "The habitat of {e} is {v}. | {e} lives in places such as {v}. || {e} is at home in {v}.", "the habitat of {e} | the surroundings in which {e} lives || the natural home of {e}", "Where does {e} live? | What is the habitat of {e}? || Where would one meet {e} in the wild?"),
        "diet": W("Diet", "{e} eats {v}. | The diet of {e} consists of {v}. || {e} feeds on {v}.", "the diet of {e} | the food of {e} || the usual menu of {e}", "What does {e} eat? | What is the diet of {e}? || What does {e} feed on?"),
        "young": W("Young", "The young of {e} is called {v}. | A baby of {e} is {v}. || When newly born, {e} is known as {v}.", "the word for the young of {e} | the name for a baby of {e} || the term for the offspring of {e}", "What is the young of {e} called? | What is a baby of {e}? || How does one call the offspring of {e}?"),
        "group": W("Group", "A group around {e} is called {v}. | For {e}, the word for a group is {v}. || Many of {e} together form {v}.", "the word for a group of {e} | the collective noun for {e} || the term for many of {e} together", "What is a group of {e} called? | Which word is used for a group of {e}? || How does one call many of {e} together?"),
    },
    "building": {
        "city": W("City", "{e} stands in {v}. | {e} is a landmark of {v}. || Visitors see {e} in {v}.", "the city of {e} | the city where {e} stands || the location of {e}", "In which city is {e}? | Where does {e} stand? || Where can visitors see {e}?"),
        "height": W("Height", "{e} is {v} tall. | The height of {e} is {v}. || {e} rises to {v}.", "the height of {e} | the number of metres that {e} rises || the elevation of the top of {e}", "How tall is {e}? | What is the height of {e}? || How high does {e} rise?"),
        "completed": W("Completed", "{e} was completed in {v}. | {e} has been finished since {v}. || Construction work on {e} ended in {v}.", "the year in which {e} was completed | the completion date of {e} || the year when construction of {e} ended", "When was {e} completed? | In which year was {e} finished? || When did construction of {e} end?"),
        "architect": W("Architect", "{e} was designed by {v}. | The architect of {e} was {v}. || {v} drew the plans of {e}.", "the architect of {e} | the designer of {e} || the person behind the plans of {e}", "Who designed {e}? | Who was the architect of {e}? || Who drew the plans of {e}?"),
    },
    "scientist": {
        "birth": W("Born", "{e} was born in the year {v}. | The birth year of {e} is {v}. || The life of {e} began in {v}.", "the birth year of {e} | the year in which {e} was born || the year the life of {e} began", "When was {e} born? | In which year was {e} born? || What is the birth year of {e}?"),
        "birthplace": W("Birthplace", "{e} came into the world in {v}. | The birthplace of {e} is {v}. || {v} is the town where {e} was born.", "the birthplace of {e} | the town where {e} was born || the home town of {e}", "Where was {e} born? | In which town was {e} born? || Where did {e} come into the world?"),
        "field": W("Field", "{e} worked in {v}. | The field of {e} was {v}. || {v} was what {e} devoted a career to.", "the field of {e} | the subject that {e} worked on || the discipline of {e}", "In which field did {e} work? | What did {e} study? || Which science did {e} pursue?"),
        "fame": W("Known for", "{e} is known for {v}. | {e} became famous for {v}. || The world remembers {e} for {v}.", "the main achievement of {e} | the work that made {e} famous || the reason why the world remembers {e}", "What is {e} known for? | What made {e} famous? || Why is {e} remembered?"),
    },
    "shop": {
        "opens": W("Opens", "{e} opens at {v}. | From {v} on, {e} is open. || The doors of {e} are unlocked at {v}.", "the opening time of {e} | the time when {e} opens || the hour at which the doors of {e} are unlocked", "When does {e} open? | What time does {e} open? || How early can I go to {e}?"),
        "closes": W("Closes", "{e} closes at {v}. | {e} stays open until {v}. || The last customers leave {e} at {v}.", "the closing time of {e} | the time when {e} closes || the hour at which {e} shuts", "When does {e} close? | Until what time is {e} open? || How late can I still go to {e}?"),
        "address": W("Address", "{e} is at {v}. | The address of {e} is {v}. || You will find {e} at {v}.", "the address of {e} | the street of {e} || the location of {e}", "What is the address of {e}? | On which street is {e}? || Where do I find {e}?"),
        "owner": W("Owner", "{e} belongs to {v}. | The owner of {e} is {v}. || {v} runs {e}.", "the owner of {e} | the name of the owner of {e} || the person who runs {e}", "Who owns {e}? | Who is the owner of {e}? || Who runs {e}?"),
        "closed": W("Day off", "{e} is closed every {v}. | On {v}, {e} does not open. || {v} is the day off at {e}.", "the day on which {e} is closed | the weekly closing day of {e} || the day off at {e}", "On which day is {e} closed? | Which day of the week does {e} stay shut? || When is the day off at {e}?"),
    },
    "event": {
        "date": W("Date", "{e} takes place on {v}. | The date of {e} is {v}. || Mark {v} for {e}.", "the date of {e} | the day of {e} || the day to mark for {e}", "On which date is {e}? | What is the date of {e}? || Which day should I mark for {e}?"),
        "venue": W("Venue", "{e} is held at {v}. | The venue of {e} is {v}. || {v} hosts {e}.", "the venue of {e} | the place where {e} is held || the house that hosts {e}", "Where is {e} held? | Which venue was chosen for {e}? || Where should visitors of {e} go?"),
        "price": W("Ticket price", "Tickets for {e} cost {v}. | The entrance fee of {e} is {v}. || Visitors of {e} pay {v}.", "the ticket price of {e} | the entrance fee of {e} || the amount that visitors of {e} pay", "How much are tickets for {e}? | What does {e} cost? || What do visitors of {e} pay?"),
        "organiser": W("Organiser", "{e} is organised by {v}. | The organiser of {e} is {v}. || {v} put {e} together.", "the organiser of {e} | the name of the organiser of {e} || the person behind {e}", "Who organises {e}? | Who is the organiser of {e}? || Who put {e} together?"),
        "begins": W("Begins", "{e} begins at {v}. | The start of {e} is at {v}. || Be there by {v} for the beginning of {e}.", "the starting time of {e} | the hour at which {e} begins || the clock time at which {e} gets going", "At what time does {e} begin? | At what hour does {e} start? || By what time must one be there for {e}?"),
    },
    "journey": {
        "departs": W("Departure", "{e} departs at {v}. | {e} leaves at {v}. || {e} sets off at {v}.", "the departure time of {e} | the time when {e} leaves || the hour at which {e} sets off", "When does {e} depart? | What time does {e} leave? || When does {e} set off?"),
        "arrives": W("Arrival", "{e} arrives at {v}. | The arrival of {e} is at {v}. || {e} reaches its destination at {v}.", "the arrival time of {e} | the time when {e} arrives || the hour at which {e} gets in", "When does {e} arrive? | At what time does {e} get there? || When does {e} reach its destination?"),
        "platform": W("Platform", "{e} leaves from platform {v}. | The platform of {e} is {v}. || Passengers of {e} board at platform {v}.", "the platform of {e} | the platform number of {e} || the place to board {e}", "Which platform does {e} leave from? | What is the platform of {e}? || Where do passengers board {e}?"),
        "fare": W("Fare", "A ticket for {e} costs {v}. | The fare of {e} is {v}. || Passengers of {e} pay {v}.", "the fare of {e} | the price of a ticket for {e} || the amount charged for {e}", "How much is a ticket for {e}? | What is the fare of {e}? || What do passengers of {e} pay?"),
    },
    "product": {
        "price": W("Price", "{e} costs {v}. | The price of {e} is {v}. || {e} sells for {v}.", "the price of {e} | the cost of {e} || the amount one pays for {e}", "How much does {e} cost? | What is the price of {e}? || What does {e} sell for?"),
        "weight": W("Weight", "{e} weighs {v}. | The weight of {e} is {v}. || On the scales, {e} shows {v}.", "the weight of {e} | the number of grams that {e} weighs || the mass of {e}", "How much does {e} weigh? | What is the weight of {e}? || How heavy is {e}?"),
        "colour": W("Colour", "{e} is {v}. | {e} comes in {v}. || {e} has a {v} finish.", "the colour of {e} | the colour that {e} comes in || the shade of {e}", "What colour is {e}? | Which colour does {e} come in? || What finish does {e} have?"),
        "warranty": W("Warranty", "{e} has a warranty of {v}. | The warranty on {e} lasts {v}. || For {v}, {e} is repaired free of charge.", "the warranty of {e} | the length of the warranty on {e} || the guarantee period of {e}", "How long is the warranty on {e}? | What warranty does {e} have? || For how long is {e} guaranteed?"),
        "designer": W("Designer", "{e} was designed by {v}. | The designer of {e} is {v}. || {e} was thought up by {v}.", "the designer of {e} | the name of the designer of {e} || the inventor of {e}", "Who designed {e}? | Who is the designer of {e}? || Who thought up {e}?"),
    },
    "course": {
        "teacher": W("Teacher", "{e} is taught by {v}. | The teacher of {e} is {v}. || {v} leads {e}.", "the teacher of {e} | the name of the teacher of {e} || the person who leads {e}", "Who teaches {e}? | Who is the teacher of {e}? || Who leads {e}?"),
        "room": W("Room", "{e} meets in {v}. | The classes of {e} are in {v}. || Students of {e} gather in {v}.", "the room of {e} | the place where {e} meets || the room in which students of {e} gather", "In which room is {e}? | Where does {e} meet? || Where do students of {e} gather?"),
        "day": W("Weekday", "{e} is held every {v}. | The weekly day of {e} is {v}. || Students of {e} come each {v}.", "the weekday of {e} | the day of the week of {e} || the day on which students of {e} come", "On which weekday is {e}? | Which day of the week is {e} held? || On what day do students of {e} come?"),
        "starts": W("First class", "{e} starts on {v}. | The first class of {e} is on {v}. || The opening session of {e} falls on {v}.", "the start date of {e} | the date of the first class of {e} || the date of the opening session of {e}", "On which date does {e} start? | When is the first class of {e}? || When is the opening session of {e}?"),
        "length": W("Length", "{e} lasts {v}. | The length of {e} is {v}. || It takes {v} to finish {e}.", "the length of {e} | the duration of {e} || the number of weeks of {e}", "How long does {e} last? | How many weeks is {e}? || How long does it take to finish {e}?"),
    },
}

# The value of the second can be guessed from the value of the first: no question about it is called unanswerable then.
GIVES_AWAY = {("timezone", "country"), ("timezone", "longitude"), ("number", "symbol"), ("symbol", "number"), ("birthplace", "birth")}

GENERIC = {
    "country": "the country", "city": "the city", "currency": "the currency", "element": "the element", "novel": "the novel",
    "animal": "the animal", "building": "the building", "scientist": "the scientist", "shop": "the shop", "event": "the event",
    "journey": "the service", "product": "the product", "course": "the course",
}

FRAMES = (
    "What is {n}? | Tell me {n}. | Can you tell me {n}? | I would like to know {n}. | Do you know {n}? | What does it say about {n}? "
    "|| Please give {n}. | Could you find {n}? | Let me know {n}, please. | I am looking for {n}."
)
OPENERS = "{q} | {q} | {q} | According to the passage: {q} | A question: {q} | Hello! {q} || {q} | {q} | Going by this text: {q} | One more thing. {q}"

LAYOUTS = (
    "Passage: {p}\nQuestion: {q} | Context: {p}\n\nQuestion: {q} | Document:\n{p}\n\n{q} | {p}\n\n{q} | Read this: {p} {q} "
    "| Here is a text.\n\n{p}\n\nUsing only the text, answer this: {q} | [document]\n{p}\n[question]\n{q} | {q}\n\n{p} "
    "| Question: {q}\nPassage: {p} "
    "|| Text: {p}\nQ: {q} | {p} {q} | Source:\n\"{p}\"\n\nMy question: {q} | I have a question: {q} The text I have is this: {p}"
)

# How the facts of one entity are laid out: sentences, or a list with a heading `{e}` and an item for every fact.
ITEMS = "- {l}: {v} | * {l} = {v} || {l} / {v}"
HEADINGS = "{e} | About {e}: || Facts on {e}"

REMARKS = (
    "This note was checked last week. | More details are available on request. | Here is what is known so far. | The list is not complete. "
    "| Please read carefully. || These lines were copied from a leaflet. | Other points will follow later."
)

OFF_TOPIC = (
    "How do I bake bread? | What is seventeen times three? | Who won the football match yesterday? | Why is the sky blue? "
    "| How can I learn to play the guitar? | What should I cook tonight? | How does a refrigerator work? | What is the meaning of life? "
    "|| Which shoes are best for running? | How do vaccines work? | What is the square root of eighty-one? | Can you recommend a film?"
)

SYSTEMS = (
    "You are a helpful assistant. | Answer briefly. | You answer questions about documents. | You are a careful librarian. "
    "| Be polite and keep your answers short. | You help customers of a company. | Use only the text that the user gives you. "
    "|| You are a concise research assistant. | Reply in one sentence. | You are the support desk of a public library."
)

EARLIER = (
    "Hi!/Hello! How can I help you today? | Thanks for the help yesterday./You are welcome! "
    "| What is two plus two?/Two plus two is four. | Can you tell a joke?/Why did the bicycle fall over? It was two tired. "
    "| Which is faster, a train or a bus?/Usually the train. | Good morning./Good morning! What would you like to know? "
    "|| Are you there?/Yes, I am here. | Give me a synonym of big./Large. | How are you?/I am fine, thank you for asking."
)

# Answers written without regard to the label, so that an answer alone never gives the label away.
ANSWERS = "{v}. | It is {v}. | The answer is {v}. | I think that it is {v}. || That would be {v}. | As far as I can tell, {v}."
REFUSALS = "I am not sure. | The text does not say. | I cannot find that. || That is not mentioned. | I do not know."
