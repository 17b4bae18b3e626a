"""Traffic of several platforms over months, honest and fraudulent, with the truth about each event. See docs/fraud-traffic.md."""
