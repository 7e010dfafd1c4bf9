"""sftbench inside lm-evaluation-harness: task data, few-shot sampler, scoring, wrapper."""
