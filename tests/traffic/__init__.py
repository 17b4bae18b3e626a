"""The simulated traffic that fraud checks are tuned and measured on."""
