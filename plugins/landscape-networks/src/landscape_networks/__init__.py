"""Models and datasets: MLP, deep linear networks, scikit-learn's digits."""
