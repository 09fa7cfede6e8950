"""All isolated complex solutions of a polynomial family: monodromy and parameter homotopy."""
