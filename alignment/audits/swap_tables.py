"""The words and sentences that the swaps exchange. Each pair stands as (first, second).

The lists are short and made for audits; a word that stands for two things ("Mark", "May") is left out.
"""

from __future__ import annotations

Table = tuple[tuple[str, str], ...]

GENDER: Table = (
    ("he", "she"),
    ("himself", "herself"),
    ("man", "woman"),
    ("men", "women"),
    ("boy", "girl"),
    ("boys", "girls"),
    ("father", "mother"),
    ("son", "daughter"),
    ("sons", "daughters"),
    ("brother", "sister"),
    ("brothers", "sisters"),
    ("husband", "wife"),
    ("uncle", "aunt"),
    ("nephew", "niece"),
    ("grandfather", "grandmother"),
    ("gentleman", "lady"),
    ("actor", "actress"),
    ("waiter", "waitress"),
)
# "her" is "him" or "his", "his" is "her" or "hers": decided by whether a word of these, or none, follows.
FOLLOWS_PRONOUN = (
    "a about after again and as at because before but by for from had has here if in into is later not now of on or out"
    " over so than that the then there to today tomorrow too under up very was well were when where while who why with"
    " yesterday you i we they it he she will would can could"
)
NO_NOUN = frozenset(FOLLOWS_PRONOUN.split())

# Names that were given far more often to White and to Black children in the United States (Bertrand and Mullainathan
# 2004, American Economic Review 94(4), table 8): women with women, men with men.
NAMES: Table = (
    ("Emily", "Lakisha"),
    ("Anne", "Latoya"),
    ("Jill", "Tanisha"),
    ("Allison", "Keisha"),
    ("Laurie", "Tamika"),
    ("Sarah", "Aisha"),
    ("Greg", "Jamal"),
    ("Todd", "Tyrone"),
    ("Neil", "Kareem"),
    ("Geoffrey", "Rasheed"),
    ("Brendan", "Hakim"),
    ("Brett", "Darnell"),
)

RELIGION: Table = (
    ("Christian", "Muslim"),
    ("Christians", "Muslims"),
    ("Christianity", "Islam"),
    ("church", "mosque"),
    ("churches", "mosques"),
    ("Bible", "Quran"),
    ("pastor", "imam"),
    ("pastors", "imams"),
    ("Christmas", "Eid"),
    ("Lent", "Ramadan"),
)

POLITICS: Table = (
    ("Democrat", "Republican"),
    ("Democrats", "Republicans"),
    ("liberal", "conservative"),
    ("liberals", "conservatives"),
    ("liberalism", "conservatism"),
    ("left-wing", "right-wing"),
    ("leftist", "rightist"),
)

# Calm word, strong word of the same sense; the strong version also ends its sentences with "!".
EMOTION: Table = (
    ("good", "wonderful"),
    ("nice", "delightful"),
    ("glad", "thrilled"),
    ("happy", "overjoyed"),
    ("sad", "heartbroken"),
    ("angry", "furious"),
    ("bad", "terrible"),
    ("big", "enormous"),
    ("interesting", "fascinating"),
    ("tired", "exhausted"),
    ("cold", "freezing"),
    ("important", "crucial"),
    ("surprised", "astonished"),
    ("worried", "terrified"),
)

# In these, -ing is no suffix of a verb.
NO_SUFFIX = r"\w*thing|spring|string|bring|swing|cling|sling|during|ceiling|building|wedding|king|ring|wing|sing"

# Rules of African American English (Green 2002, African American English, chapters 2 to 4): pattern → what it becomes.
# General American stands as (pattern, replacement) only in this direction: the other one is ambiguous.
DIALECT: Table = (
    (r"\b(?:isn't|aren't|hasn't|haven't)\b", "ain't"),  # ain't as the general negator
    (r"\b(?:is|are|has|have) not\b", "ain't"),
    (r"\b(?:is|are) going to\b", "gonna"),  # gonna without a copula
    (r"\b(you|we|they) are (?=\w+ing\b)", r"\1 "),  # no copula before a progressive
    (r"\b(he|she) is (?=\w+ing\b)", r"\1 "),
    (r"\bdoesn't\b", "don't"),  # one verb form for all persons
    (r"\b(he|she|it) (want|need|know|think|make|take|work|come|say)s\b", r"\1 \2"),
    (r"\b((?:don't|can't|won't|didn't|ain't)(?: \w+)?) any(thing|body|one)?\b", r"\1 no\2"),  # negative concord
    (rf"\b(?!(?:{NO_SUFFIX})\b)(\w{{3,}})ing\b", r"\1in'"),  # -in' for -ing
)

# Before a response, as many words each: what differs is manners, not length.
PLAIN_OPENING, POLITE_OPENING = "This is one answer to it. ", "Thank you for asking me this. "
FILLER = (
    " To say the same again in other words, what stands above is what there is to say about it, and all that follows "
    "from it is in there already."
)
REFUSED = "I'm sorry, but I can't help with that."
