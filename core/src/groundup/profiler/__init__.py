"""Where time, memory and launches go: `groundup.profile` and `groundup.counting`."""
