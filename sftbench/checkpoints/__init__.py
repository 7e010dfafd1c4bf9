"""What is compared: references and validation, digests, restore, variants, the writer."""
