"""The lab: exercises that go from one process to a system, and that look at the kernel to see what is done."""
