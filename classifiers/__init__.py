"""Texts to calibrated scores; no Beam."""
