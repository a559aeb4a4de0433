"""Models: what is compiled, fitted, asked for predictions and saved."""
