"""Named recipes, among them the demo."""
