"""The commands of a fleet: one group, of which each asks the running engine, else etcd."""
