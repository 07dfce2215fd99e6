"""Object storage over folders and S3, and the markers of finished steps."""
