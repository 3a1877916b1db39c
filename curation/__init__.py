"""What a document is, what was measured about it, what was decided: no Beam, no torch."""

__version__ = "0.1.0"
