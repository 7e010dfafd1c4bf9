"""The whole run: variants, their answers, the summary and the report; resumable."""
