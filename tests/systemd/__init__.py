"""The service under a real systemd: `make systemd-test`."""
