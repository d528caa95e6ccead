"""Video recognition: TSM."""
