"""Which documents are copies of which: candidates by LSH, verification by exact Jaccard, one rule for who stays."""
