"""The kernel's interfaces: system calls, clocks, locks, and the operations that it refuses."""
