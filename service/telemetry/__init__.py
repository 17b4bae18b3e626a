"""What a running process tells about itself: metrics, traces, logs. Nothing here knows what is told."""
