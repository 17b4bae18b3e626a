"""Fraud checks, the pure part: from an event to a verdict with its reasons. See docs/fraud.md.

`observation.observe` → `touches.keys_of` → a `windows.Windows` → `features.features_of` → `signals.strengths_of` → `model.decide`, and
`touches.aftermath` → the same `Windows`. Whoever runs it keeps the state; nothing here waits, asks the time, or reads anything.
"""
