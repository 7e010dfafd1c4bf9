"""One command per verb, thin: parse, call one function, print."""
