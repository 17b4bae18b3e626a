"""Background work: arq jobs are doorbells, timers find what is due; the rows hold the truth."""
