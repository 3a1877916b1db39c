"""What a reward model rewards: swaps, accuracy by group, words, over-optimisation, and planted biases to find."""
