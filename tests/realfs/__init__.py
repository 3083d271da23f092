"""Promises on real file systems, with real faults and open disks: a program for root, `make realfs`."""
