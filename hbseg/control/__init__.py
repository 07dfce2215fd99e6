"""What people do with runs: submit, wait, cancel, delete, show, fetch, on any backend."""
