"""What is asked: the fact table, its sources, cloze templates, prompts and answer matching."""
