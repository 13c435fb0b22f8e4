"""CARD.md."""

from mien.predict.model_folder import ModelFacts


def model_card(facts: ModelFacts) -> str:
    """Return the card."""
    return f"# {facts.name}\n"
