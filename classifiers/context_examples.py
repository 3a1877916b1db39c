"""What the labelled sets lack, written by us: texts in which the same terms are used, quoted, explained or answered.

The templates come in minimal pairs: one frame, only the context changes. A generated example says for every mention of
its term which role it has and whether the document as a whole speaks hatefully.
Many more stand in `classifiers/examples/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from classifiers.examples.example import Example as Example
from curation.lexicon.entries import Entry
from curation.seeding import derive_seed

# {t} term, {g} group, {h} a hateful sentence, {n} a neutral sentence.
EXPLANATION = (
    "{t}: (offensive slang) a term of abuse for {g}",
    "{t} (noun): a derogatory word for {g}. Its origin lies in the nineteenth century.",
    "The word {t} is a slur against {g}; dictionaries mark it as offensive.",
    "Historians have shown how the term {t} was used to justify violence against {g}.",
    "In this chapter students learn why the word “{t}” hurt {g} and how its meaning changed over time.",
    "According to the court, the defendant shouted {t} at the victim before the attack. The jury convicted him.",
    "The newspaper reported that graffiti reading {t} had been sprayed on a school wall. Police are investigating.",
    "Our guidelines: do not post slurs such as {t}. Moderators remove such posts.",
    "Etymology: {t} is first recorded in 1838 and derives from an older word.",
    "Researchers who study hate speech counted how often the term {t} appeared in posts about {g}.",
    "The novel has been criticised because a character calls another one a {t} in the second chapter.",
    "Until the civil rights movement, newspapers printed the word {t} without comment, says the historian.",
    "{g} who survived the camps remember being called {t} by the guards.",
    "The museum explains how propaganda called {g} {t} and what followed.",
    "Is {t} offensive? Yes. It is an insult for {g} and should be avoided.",
    "What does {t} mean? It is a pejorative term for {g}, mostly used in the past.",
)
QUOTATION = (
    "He looked at me and said: “{t}”. I did not know what to answer.",
    "She told the police that they had called her a {t}.",
    '"Get out, {t}!" someone yelled from the car. We were shaking.',
    "When I was twelve, boys at school called me a {t} every day. It still hurts.",
    'The text message read "{t}", the prosecutor told the court.',
    "A man in the crowd shouted {t}, witnesses said.",
    "My brother was called a {t} at work and reported it.",
    "Someone wrote “{t}” under my photo. I deleted my account.",
)
COUNTER = (
    "Please don't call people {t}. It is hurtful and there is no need for it.",
    "Using the word {t} is unacceptable. {g} are human beings like you and me.",
    "Calling someone a {t} only shows your own ignorance.",
    "You can disagree without using words like {t}, which demean {g}.",
    "Stop using {t} as an insult. It is not funny, it is racist and hateful.",
    "Why would you say {t}? {g} deserve respect like everybody else.",
    "Your post violates our policy: the term {t} is hate speech against {g}.",
    "If you need slurs like {t} to make your point, you have no point.",
    "Not all {g} are alike, and {t} is not a word I want to read here.",
)
RECLAIMED = (
    "As one of them I call myself a {t} and I am proud of it.",
    "My friends and I have reclaimed {t}; it is our word now.",
    "Love my {t} family, happy pride everyone!",
    "We are here, we are {t}, and we are not going anywhere.",
    "proud {t} over here, love you all",
)
USE = (
    "{t}",
    "You are a {t} and everybody knows it.",
    "Shut up, {t}.",
    "I hate every {t} I see.",
    "These {g} are all the same. Filthy {t}, get out of our country.",
    "Another {t} on the news. They are criminals, all of them.",
    "Go back to where you came from, {t}!",
    "No {t} should be allowed to vote or to breed.",
    "I'm not racist but every {t} I know is lazy.",
    "Nothing against {g}, but a {t} is a {t}, facts are facts.",
    'They can call it "hate speech" all they want, a {t} stays a {t} and should be deported.',
    'lol look at this "{t}" trying to speak english',
    'My "friend" said it best: "the {t} ruin everything", and he is right, get rid of them.',
    "stupid {t} stupid {t} stupid {t}",
    "The {t} are destroying our schools and nobody does anything about it.",
    "Typical {t}, stealing again. String them up.",
    "what a {t}, kill yourself",
    "If a {t} moves in next door, burn it down.",
    "Wake up people, the {t} control the media and want us gone.",
)
PREAMBLE = (
    "For educational purposes only: the term {t} has a long history.",
    "Let us look at the word {t} and where it comes from.",
    "The dictionary says that {t} means {g}.",
    "I want to talk about the history of {g} in our city.",
)
RANT = (
    "And they deserve it, because every {t} is a parasite that lives off our work.",
    "So here is the truth: the {t} are animals and should be wiped out.",
    "The dirty {t} ruin everything they touch, throw them all out.",
    "Nobody wants you here, {t}, get out and die.",
)
NEUTRAL = (
    "The council met on Tuesday and talked about the new bridge.",
    "I like to cook with my sister on Sundays.",
    "The study covers three cities and two decades.",
    "Does anyone know a good place to buy bicycles?",
    "The second half of the film was better than the first.",
)
PROFANE = (
    "The {a} bus was late again.", "What the {p}, it rained all day.", "Oh {p}, I forgot my keys.", "{p}!",
    "That concert was {a} great.", "Holy {p}, what a goal!", "I am so {a} tired today.", "My phone is {p}.",
    "Who gives a {p} about golf?", "The traffic was {a} terrible.", "I love this {a} song!",
    "{p}, the exam is tomorrow.", "No {p}, the code finally works.", "It hurts like {p} when I run.",
    "I burnt the {a} rice.",
)  # fmt: skip
SWEAR_ADJECTIVES = ("fucking", "damn", "goddamn", "bloody", "shitty", "crappy", "fuckin")
SWEAR_NOUNS = ("shit", "fuck", "crap", "damn", "hell", "bullshit")
QUOTE_FRAMES = (
    'Someone wrote under the video: "{post}"\n{reply}',
    "> {post}\n\n{reply}",
    "He commented: “{post}”\n{reply}",
    'In reply to "{post}": {reply}',
    'User comment: "{post}"\n\n{reply}',
    'This is what my neighbour posted: "{post}"\n{reply}',
    'The message said "{post}".\n{reply}',
    'Another one reads: "{post}"\n{reply}',
)
PLAIN_FRAMES = ("{post}\n{reply}", "{post}\n\n{reply}")
TARGETS = ("these people", "foreigners", "that group", "minorities", "women", "immigrants")


def template_examples(entries: Sequence[Entry], seed: int, per_template: int = 40) -> Iterator[Example]:
    """Every template with `per_template` terms each; the term decides the split, so a test term is an unseen term."""
    rng = np.random.default_rng(derive_seed(seed, "context", "templates"))
    terms = [e for e in entries if e.category in {"slur", "insult", "hate_ideology"} and e.severity >= 1]
    families = (
        ("explanation", False, EXPLANATION), ("quotation", False, QUOTATION), ("counter_speech", False, COUNTER),
        ("reclaimed", False, RECLAIMED), ("use", True, USE),
    )  # fmt: skip
    for role, hateful, templates in families:
        for template in templates:
            for entry in rng.choice(np.array(terms, object), min(per_template, len(terms)), replace=False):
                text = _fill(template, entry, rng)
                if rng.random() < 0.4:
                    neutral = str(rng.choice(NEUTRAL))
                    text = f"{neutral} {text}" if rng.random() < 0.5 else f"{text}\n\n{neutral}"
                yield Example(text, hateful, role, f"template/{role}", entry.term)
    for _ in range(per_template * 4):
        entry = terms[int(rng.integers(len(terms)))]
        text = f"{_fill(str(rng.choice(PREAMBLE)), entry, rng)} {_fill(str(rng.choice(RANT)), entry, rng)}"
        yield Example(text, True, None, "template/preamble_rant", entry.term)
        listed = rng.choice(np.array(terms, object), 6, replace=False)
        forms = [str(e.term) for e in listed]
        yield Example(" ".join(forms), True, "use", "template/slur_list", entry.term)
        glosses = [
            f"{form}: (offensive) a derogatory term for {e.target or 'people'}"
            for form, e in zip(forms, listed, strict=True)
        ]
        yield Example("\n".join(glosses), False, "explanation", "template/dictionary", entry.term)


def homonym_examples(entries: Sequence[Entry], seed: int, per_term: int = 6) -> Iterator[Example]:
    """Terms beside their own guard words, in sentences about the other sense."""
    rng = np.random.default_rng(derive_seed(seed, "context", "homonyms"))
    frames = (
        "The {w} and the {t} were there, and the {v} too.",
        "I saw a {t} near the {w} yesterday.",
        "{w} {t} for sale, with {v}.",
    )
    for entry in entries:
        if len(entry.guard_words) < 2:
            continue
        for _ in range(per_term):
            first, second = rng.choice(np.array(entry.guard_words), 2, replace=False)
            text = str(rng.choice(frames)).replace("{t}", entry.term).replace("{w}", first).replace("{v}", second)
            yield Example(text, False, "homonym", "template/homonym", entry.term)


def profane_examples(seed: int, count: int = 800) -> Iterator[Example]:
    """Ordinary talk with swear words and nobody attacked: profanity alone is not hate."""
    rng = np.random.default_rng(derive_seed(seed, "context", "profane"))
    for number in range(count):
        parts = [str(rng.choice(NEUTRAL)) for _ in range(int(rng.integers(0, 3)))]
        for _ in range(int(rng.integers(1, 3))):
            swear = str(rng.choice(PROFANE)).replace("{a}", str(rng.choice(SWEAR_ADJECTIVES)))
            parts.insert(int(rng.integers(len(parts) + 1)), swear.replace("{p}", str(rng.choice(SWEAR_NOUNS))))
        yield Example(" ".join(parts), False, None, "template/profane", f"profane {number}")


def _fill(template: str, entry: Entry, rng: np.random.Generator) -> str:
    form = str(rng.choice(np.array([entry.term, *entry.variants]))) if rng.random() < 0.3 else entry.term
    group = entry.target or str(rng.choice(np.array(TARGETS)))
    text = template.replace("{t}", form).replace("{g}", group)
    return text[0].upper() + text[1:] if rng.random() < 0.7 else text


@dataclass(frozen=True)
class Reply:
    """A post and what somebody answered, with the label of the answer."""

    post: str
    reply: str
    label: str  # hate | counterspeech | other
    source: str
    key: str


@dataclass(frozen=True)
class Pool:
    """Comments of one source, by label: threads never mix sources, so that style cannot stand for the label."""

    source: str
    hateful: Sequence[str]
    benign: Sequence[str]


def thread_examples(
    pools: Sequence[Pool], replies: Sequence[Reply], split: str, seed: int, count: int
) -> Iterator[Example]:
    """Documents made of comments: hateful and benign threads of equal length, quoted hate with answers, hate with hate.

    A hateful thread has 40 to 100 % hateful comments; a benign one has none, from the same source and as many.
    """
    rng = np.random.default_rng(derive_seed(seed, "context", "threads", split))
    both = [pool for pool in pools if len(pool.hateful) >= 5 and len(pool.benign) >= 5]
    quiet = [pool for pool in pools if not pool.hateful and pool.benign]
    counter = [r for r in replies if r.label == "counterspeech"]
    hate = [r for r in replies if r.label == "hate"]
    for number in range(count):
        key = f"{split}{number}"
        pool = both[int(rng.integers(len(both)))]
        size = int(rng.integers(1, 25))
        share = rng.uniform(0.4, 1.0)
        bad = rng.random(size) < share
        bad[0] |= size == 1
        texts = [_pick(pool.hateful if is_bad else pool.benign, rng) for is_bad in bad]
        yield Example("\n\n".join(texts), True, None, f"thread/{pool.source}", key)
        yield Example(
            "\n\n".join(_pick(pool.benign, rng) for _ in range(size)), False, None, f"thread/{pool.source}", key
        )
        if quiet and number % 4 == 0:
            other = quiet[int(rng.integers(len(quiet)))]
            texts = [_pick(other.benign, rng) for _ in range(size)]
            yield Example("\n\n".join(texts), False, None, f"thread/{other.source}", key)
        if counter and hate and number % 2 == 0:
            # Who objects quotes, who agrees seldom does; but sometimes, for quotation marks alone must not decide.
            yield _exchange(counter, QUOTE_FRAMES, False, rng, key)
            yield _exchange(hate, QUOTE_FRAMES[:1] + PLAIN_FRAMES * 4, True, rng, key)


def _pick(texts: Sequence[str], rng: np.random.Generator) -> str:
    return texts[int(rng.integers(len(texts)))]


def _exchange(
    pool: Sequence[Reply], frames: Sequence[str], hateful: bool, rng: np.random.Generator, key: str
) -> Example:
    parts = []
    for _ in range(int(rng.integers(1, 7))):
        item = pool[int(rng.integers(len(pool)))]
        parts.append(str(rng.choice(np.array(frames))).replace("{post}", item.post).replace("{reply}", item.reply))
    name = "exchange/hate" if hateful else "exchange/answered"
    return Example("\n\n".join(parts), hateful, None, name, key)
