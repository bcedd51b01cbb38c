"""Expected Gradient Length for any CTC speech recogniser."""
