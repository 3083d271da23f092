"""What hosts that share a fleet know of each other, in etcd. Nothing here is imported where no fleet is configured."""
