"""Architecture search: spaces, encoders, predictors, super-networks."""
