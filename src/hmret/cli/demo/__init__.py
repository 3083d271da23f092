"""The demonstration: the real engine on a small cache, with a simulated hypervisor host and accelerated time."""
