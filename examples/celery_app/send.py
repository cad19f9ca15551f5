"""Three pieces of work for the worker."""

from tasks import summarise

for text in ("the first report", "the second report", "the third report"):
    summarise.delay(text)
