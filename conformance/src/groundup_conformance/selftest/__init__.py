"""The suite proves itself: bugs are planted in the cpu backend, and it must find every one."""
