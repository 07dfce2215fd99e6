"""Steps as processes of this machine, and a real S3 server for them."""
