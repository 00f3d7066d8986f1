"""How feature sets are made: recipes, training sets, and what stands on what."""
