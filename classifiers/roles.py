"""What the encoder answers: three questions about a text, and the role of every sensitive term in it."""

from __future__ import annotations

# toxic: rude, abusive or hateful. hate: attacks people for the group they belong to. counter: opposes or answers hate.
TEXT_HEADS = ("toxic", "hate", "counter")
TOXIC, HATE, COUNTER = range(3)
MENTION_ROLES = ("quotation", "explanation", "counter_speech", "reclaimed", "homonym")
ROLES = ("use", *MENTION_ROLES)
