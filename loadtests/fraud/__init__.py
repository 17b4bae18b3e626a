"""How well the fraud checks do on labelled traffic: precision, recall, what was lost before. See docs/fraud.md."""
