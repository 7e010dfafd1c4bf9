"""What happens while it trains: the base's knowledge asked of the live model, and the stop rule."""
