"""The command `groundup`."""
