"""Models, datasets from their original files, and corruptions of them."""
