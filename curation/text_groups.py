"""Texts sorted by how they are written and by whom they name, as `headwater audit` sorts documents.

In: a `TextBatch`. Out: group → which texts belong to it. A text can be in several groups and in none.
"""

from __future__ import annotations

import numpy as np

from curation.dialect import Bools, dialect_groups, topic_shares
from curation.identity_terms import identities, identity_table
from curation.kernels.text_batch import TextBatch
from curation.kernels.words import terms

NOBODY = "names_nobody"


def text_groups(texts: TextBatch) -> dict[str, Bools]:
    """Group → (texts,) bool.

    `aae`: the 5 % of the texts with the surest share of African-American English, by words; `wae`: White-aligned ones,
    the reference (`curation/dialect.py`, whose docstring says how weak a proxy this is). `names_<category>_<group>`: a
    text with a term of lexicon/identity_terms.tsv; `names_nobody`: one without any.
    """
    dialect = dialect_groups(*topic_shares(texts))
    named = identities(terms(texts))
    found = {"aae": dialect.aae_leaning, "wae": dialect.wae}
    for at, (category, group, _) in enumerate(identity_table().groups):
        found[f"names_{category}_{group.replace(' ', '_')}"] = named[:, at]
    found[NOBODY] = np.logical_not(named.any(axis=1))
    return found
