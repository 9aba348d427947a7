"""Views of a scorecard: each is made from its JSON data alone."""
