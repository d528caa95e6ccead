"""Search: which architectures to evaluate next, by chance, by evolution, by annealing, or by what a predictor says."""
